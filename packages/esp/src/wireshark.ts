import { ALGORITHMS, type AlgorithmName, type HashName, keyParts, type Sa, XfrmError } from '@espalier/xfrm';

const INTEGRITY: Readonly<Record<HashName, string>> = {
  sha256: 'HMAC-SHA-256-128 [RFC4868]',
  sha384: 'HMAC-SHA-384-192 [RFC4868]',
  sha512: 'HMAC-SHA-512-256 [RFC4868]',
  sha1: 'HMAC-SHA-1-96 [RFC2404]',
};

/**
 * One line of Wireshark's `esp_sa` file, with which it opens the SA's packets in a capture (preferences: ESP, "attempt to
 * detect/decode"). This is the key in the clear, and the only function that writes it: for debugging, by name.
 *
 * As Wireshark 4.0 reads it: AES-GCM and AES-CBC or AES-CTR or NULL with an HMAC. Throws XfrmError UNSUPPORTED for the
 * rest. It does not know the high half of an ESN: with one, the ICV of an HMAC shows as wrong and the payload right.
 */
export function wiresharkEspSa(sa: Pick<Sa, 'source' | 'destination' | 'spi' | 'algorithm' | 'key'>): string {
  const { cipher, salt, integrity } = keyParts(sa.algorithm, sa.key.reveal());
  const { hash } = ALGORITHMS[sa.algorithm];
  const fields = [
    sa.source.length === 16 ? 'IPv6' : 'IPv4',
    addressText(sa.source),
    addressText(sa.destination),
    `0x${hex(Uint8Array.of(sa.spi >>> 24, sa.spi >>> 16, sa.spi >>> 8, sa.spi))}`,
    encryption(sa.algorithm),
    cipher.length === 0 ? '' : `0x${hex(cipher)}${hex(salt)}`,
    hash === null ? 'NULL' : INTEGRITY[hash],
    hash === null ? '' : `0x${hex(integrity)}`,
  ];
  return fields.map((field) => `"${field}"`).join(',');
}

function encryption(algorithm: AlgorithmName): string {
  const { cipher, iv, icvLength } = ALGORITHMS[algorithm];
  if (cipher === 'aes-gcm' && iv === 'number') return `AES-GCM with ${icvLength} octet ICV [RFC4106]`;
  if (cipher === 'aes-cbc') return 'AES-CBC [RFC3602]';
  if (cipher === 'aes-ctr') return 'AES-CTR [RFC3686]';
  if (cipher === 'null') return 'NULL';
  throw new XfrmError({ code: 'UNSUPPORTED', device: 'Wireshark', what: `ESP with ${algorithm}` });
}

function hex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}

function addressText(address: Uint8Array): string {
  if (address.length === 4) return address.join('.');
  return hex(address).match(/.{4}/g)!.join(':');
}
