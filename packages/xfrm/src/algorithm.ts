/**
 * Every ESP transform by name. A name says all that both ends must agree on, as IANA's transform IDs do (ENCR_AES_GCM_16),
 * and is made like strongSwan's keywords, so that no lengths can be combined that no RFC combines:
 *
 *     aes256 gcm 16        cipher and key bits, mode, bytes of ICV
 *     aes256 gcm 16 iiv    the same with an implicit IV (RFC 8750)
 *     aes256 gmac          integrity alone
 *     aes256 cbc-sha512    cipher and mode, hash of the HMAC (its ICV is half of the hash, RFC 4868; 96 bits for SHA-1)
 *     null-sha256          no encryption
 *
 * There is no name for encryption without integrity: such an SA cannot be asked for (RFC 8221 4).
 */

export type AesBits = 128 | 192 | 256;
export type CipherName = 'aes-gcm' | 'aes-ccm' | 'chacha20-poly1305' | 'aes-gmac' | 'aes-cbc' | 'aes-ctr' | 'null';
export type HashName = 'sha256' | 'sha384' | 'sha512' | 'sha1';

export type AlgorithmName =
  | `aes${AesBits}gcm${8 | 12 | 16}`
  | `aes${AesBits}ccm${8 | 12 | 16}`
  | `aes${AesBits}gcm16iiv`
  | `aes${AesBits}ccm8iiv`
  | 'chacha20poly1305'
  | 'chacha20poly1305iiv'
  | `aes${AesBits}gmac`
  | `aes${AesBits}${'cbc' | 'ctr'}-${HashName}`
  | `null-${HashName}`;

/**
 * Where the IV comes from. `number`: the sequence number, 8 bytes big-endian, on the wire; it must never repeat, and one
 * allocator for all workers and replicas sees to that. `implicit`: the same, not sent (RFC 8750). `random`: whoever
 * seals draws it, so that nobody can foresee it (RFC 3602 3). `none`: nothing to start.
 */
export type IvSource = 'number' | 'implicit' | 'random' | 'none';

/** What the datapath must know of an ESP transform; lengths in bytes. */
export interface Algorithm {
  readonly cipher: CipherName;
  /** Hash of the HMAC; null where the cipher brings its own integrity. */
  readonly hash: HashName | null;
  /** All key material: cipher key, salt, integrity key, in the order in which IKEv2 takes them (RFC 7296 2.17). */
  readonly keyLength: number;
  readonly cipherKeyLength: number;
  /** Goes into the nonce (RFC 4106 4, RFC 4309 4) or the counter block (RFC 3686 4). */
  readonly saltLength: number;
  readonly integrityKeyLength: number;
  readonly iv: IvSource;
  /** IV on the wire, between the ESP header and the payload. */
  readonly ivLength: number;
  readonly icvLength: number;
  /** Payload, padding and trailer together are a multiple of this (RFC 4303 2.4: at least 4). */
  readonly blockLength: number;
  /** For old peers only: an engine has it when it was asked for legacy transforms, never by itself (RFC 8221 6). */
  readonly legacy: boolean;
  readonly clause: string;
}

type Lengths = Partial<Omit<Algorithm, 'keyLength'>> & Pick<Algorithm, 'cipher' | 'icvLength' | 'clause'>;

function algorithm(given: Lengths): Algorithm {
  const lengths = { cipherKeyLength: 0, saltLength: 0, integrityKeyLength: 0, ivLength: 8, blockLength: 4 };
  const a = { hash: null, iv: 'number' as const, legacy: false, ...lengths, ...given };
  return { ...a, keyLength: a.cipherKeyLength + a.saltLength + a.integrityKeyLength };
}

const IMPLICIT = { iv: 'implicit', ivLength: 0, clause: 'RFC 8750' } as const;

/** Bytes of key and ICV. RFC 4868 2.1.1: the key is as long as the hash, the ICV half of it. RFC 2404 for SHA-1. */
const HMACS: Readonly<Record<HashName, readonly [key: number, icv: number, clause: string]>> = {
  sha256: [32, 16, 'RFC 4868'],
  sha384: [48, 24, 'RFC 4868'],
  sha512: [64, 32, 'RFC 4868'],
  sha1: [20, 12, 'RFC 2404'],
};

function build(): Record<AlgorithmName, Algorithm> {
  const table: Partial<Record<AlgorithmName, Algorithm>> = {};
  const aes = [128, 192, 256] as const;
  for (const bits of aes) {
    const cipherKeyLength = bits / 8;
    for (const icvLength of [8, 12, 16] as const) {
      const gcm = { cipher: 'aes-gcm', cipherKeyLength, saltLength: 4, icvLength, clause: 'RFC 4106' } as const;
      table[`aes${bits}gcm${icvLength}`] = algorithm(gcm);
      if (icvLength === 16) table[`aes${bits}gcm16iiv`] = algorithm({ ...gcm, ...IMPLICIT });
      const ccm = { cipher: 'aes-ccm', cipherKeyLength, saltLength: 3, icvLength, clause: 'RFC 4309' } as const;
      table[`aes${bits}ccm${icvLength}`] = algorithm(ccm);
      if (icvLength === 8) table[`aes${bits}ccm8iiv`] = algorithm({ ...ccm, ...IMPLICIT });
    }
    table[`aes${bits}gmac`] = algorithm({
      cipher: 'aes-gmac',
      cipherKeyLength,
      saltLength: 4,
      icvLength: 16,
      clause: 'RFC 4543',
    });
  }
  const chacha = { cipher: 'chacha20-poly1305', cipherKeyLength: 32, saltLength: 4, icvLength: 16 } as const;
  table.chacha20poly1305 = algorithm({ ...chacha, clause: 'RFC 7634' });
  table.chacha20poly1305iiv = algorithm({ ...chacha, ...IMPLICIT });

  for (const hash of Object.keys(HMACS) as HashName[]) {
    const [integrityKeyLength, icvLength, rfc] = HMACS[hash];
    const mac = { hash, integrityKeyLength, icvLength, legacy: hash === 'sha1' };
    for (const bits of aes) {
      const cipherKeyLength = bits / 8;
      table[`aes${bits}cbc-${hash}`] = algorithm({
        ...mac,
        cipher: 'aes-cbc',
        cipherKeyLength,
        iv: 'random',
        ivLength: 16,
        blockLength: 16,
        clause: `RFC 3602, ${rfc}`,
      });
      table[`aes${bits}ctr-${hash}`] = algorithm({
        ...mac,
        cipher: 'aes-ctr',
        cipherKeyLength,
        saltLength: 4,
        clause: `RFC 3686, ${rfc}`,
      });
    }
    table[`null-${hash}`] = algorithm({ ...mac, cipher: 'null', iv: 'none', ivLength: 0, clause: `RFC 2410, ${rfc}` });
  }
  return table as Record<AlgorithmName, Algorithm>;
}

/** Every transform by name. */
export const ALGORITHMS: Readonly<Record<AlgorithmName, Algorithm>> = build();
/** In a fixed order: shared tables hold the index. */
export const ALGORITHM_NAMES: readonly AlgorithmName[] = Object.keys(ALGORITHMS) as AlgorithmName[];
/** The longest key material of all, bytes: what a device's key table must have room for. */
export const MAX_KEY_LENGTH: number = Math.max(...Object.values(ALGORITHMS).map((a) => a.keyLength));
