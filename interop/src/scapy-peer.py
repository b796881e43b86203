# ESP by scapy's IPsec layer, for esp-scapy.test.ts: a JSON list of tasks on stdin, a list of answers on stdout.
#   task    crypt, icv, auth, spi, key, authKey, source, destination, mode, natt, esn, hi, lo, iv, seal (an inner packet), open (an
#           IP packet): all bytes in hexadecimal
#   answer  sealed, opened: IP packets; or error
import json
import sys

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import raw


def packet(text):
    data = bytes.fromhex(text)
    return IPv6(data) if data[0] >> 4 == 6 else IP(data)


def answer(task):
    outer = IPv6 if ':' in task['source'] else IP
    options = {'crypt_algo': task['crypt'], 'crypt_key': bytes.fromhex(task['key']) or None}
    if task['icv']:
        options['crypt_icv_size'] = task['icv']
    if task['auth']:
        options.update(auth_algo=task['auth'], auth_key=bytes.fromhex(task['authKey']))
    if task['mode'] == 'tunnel':
        options['tunnel_header'] = outer(src=task['source'], dst=task['destination'])
    if task['natt']:
        options['nat_t_header'] = UDP(sport=4500, dport=4500)
    number = {'esn_en': task['esn'], 'esn': task['hi']}
    sa = SecurityAssociation(ESP, spi=task['spi'], **options, **number)
    if 'open' in task:
        return {'opened': raw(sa.decrypt(packet(task['open']), **number)).hex()}
    iv = bytes.fromhex(task['iv'])
    sealed = sa.encrypt(packet(task['seal']), seq_num=task['lo'], iv=iv, **number)
    if task['natt']:
        # scapy has computed it before there was anything behind the UDP header.
        sealed[UDP].len = len(sealed[UDP])
    return {'sealed': raw(sealed).hex()}


answers = []
for task in json.load(sys.stdin):
    try:
        answers.append(answer(task))
    except Exception as error:  # whatever it is, it is this task's answer
        answers.append({'error': f'{type(error).__name__}: {error}'})
json.dump(answers, sys.stdout)
