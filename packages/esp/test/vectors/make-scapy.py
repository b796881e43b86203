# Makes scapy.json: ESP packets by scapy's IPsec layer (over python-cryptography), for every transform that it has.
#   pip install scapy cryptography && python3 make-scapy.py >scapy.json
import hashlib
import json

import cryptography
import scapy
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw, raw

ICV = {'HMAC-SHA1-96': 20, 'SHA2-256-128': 32, 'SHA2-384-192': 48, 'SHA2-512-256': 64}
HASH = {'HMAC-SHA1-96': 'sha1', 'SHA2-256-128': 'sha256', 'SHA2-384-192': 'sha384', 'SHA2-512-256': 'sha512'}


def key(name, length):
    return hashlib.shake_128(name.encode()).digest(length)


def transforms():
    for bits in (128, 192, 256):
        n = bits // 8
        yield f'aes{bits}gcm16', 'AES-GCM', n + 4, None, 16
        yield f'aes{bits}gmac', 'AES-NULL-GMAC', n + 4, None, 16
        for icv in (8, 12, 16):
            yield f'aes{bits}ccm{icv}', 'AES-CCM', n + 3, None, icv
        for auth in HASH:
            yield f'aes{bits}cbc-{HASH[auth]}', 'AES-CBC', n, auth, None
            yield f'aes{bits}ctr-{HASH[auth]}', 'AES-CTR', n + 4, auth, None
    yield 'chacha20poly1305', 'CHACHA20-POLY1305', 36, None, 16
    for auth in HASH:
        yield f'null-{HASH[auth]}', 'NULL', 0, auth, None


packets = []
for name, crypt, length, auth, icv in transforms():
    crypt_key, auth_key = key(name, length), key('auth ' + name, ICV.get(auth, 0))
    for esn in (False, True):
        for size in (0, 1, 14, 15, 16, 100):
            hi, lo = (5 if esn else 0), 0xFFFF_FF00 + size
            sa = SecurityAssociation(
                ESP, spi=0xC0FFEE, crypt_algo=crypt, crypt_key=crypt_key or None, crypt_icv_size=icv,
                auth_algo=auth, auth_key=auth_key or None, tunnel_header=IP(src='192.0.2.1', dst='192.0.2.2'),
                esn_en=esn, esn=hi)
            inner = IP(src='10.1.0.1', dst='10.2.0.1') / UDP(sport=9, dport=9) / Raw(b'q' * size)
            iv = bytes([hi]).rjust(4, b'\0') + lo.to_bytes(4, 'big')
            if crypt == 'AES-CBC':
                iv = key(f'iv {name} {size}', 16)
            out = sa.encrypt(inner, seq_num=lo, iv=b'' if crypt == 'NULL' else iv, esn_en=esn, esn=hi)
            packets.append({
                'algorithm': name, 'key': (crypt_key + auth_key).hex(), 'esn': esn, 'hi': hi,
                'inner': raw(inner).hex(), 'esp': raw(out[ESP]).hex()})

source = f'scapy {scapy.__version__}, cryptography {cryptography.__version__}'
print('{"source": %s, "packets": [' % json.dumps(source))
print(',\n'.join(json.dumps(p) for p in packets))
print(']}')
