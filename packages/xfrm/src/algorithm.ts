/** What the datapath must know of an ESP transform; lengths in bytes. */
export interface Algorithm {
  /** Key material: cipher key, then salt. */
  readonly keyLength: number;
  /** Last bytes of the key material that go into the nonce. */
  readonly saltLength: number;
  /** IV on the wire, between the ESP header and the payload. */
  readonly ivLength: number;
  /** Default integrity check value. */
  readonly icvLength: number;
  /** Payload, padding and trailer together are a multiple of this (RFC 4303 2.4: at least 4). */
  readonly blockLength: number;
  readonly clause: string;
}

const aead = (cipherKey: number, clause: string): Algorithm => ({
  keyLength: cipherKey + 4,
  saltLength: 4,
  ivLength: 8,
  icvLength: 16,
  blockLength: 4,
  clause,
});

/** Every transform by name. */
export const ALGORITHMS = {
  aes128gcm16: aead(16, 'RFC 4106'),
  aes192gcm16: aead(24, 'RFC 4106'),
  aes256gcm16: aead(32, 'RFC 4106'),
  chacha20poly1305: aead(32, 'RFC 7634'),
} as const satisfies Record<string, Algorithm>;

export type AlgorithmName = keyof typeof ALGORITHMS;
export const ALGORITHM_NAMES: readonly AlgorithmName[] = Object.keys(ALGORITHMS) as AlgorithmName[];
