import {
  type CipherCCM,
  type CipherCCMTypes,
  type CipherGCM,
  type CipherGCMTypes,
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  type DecipherCCM,
  type DecipherGCM,
  type KeyObject,
} from 'node:crypto';
import type { CryptoEngine, HashName } from '@espalier/xfrm';
import { type EngineOptions, RowEngine } from '../row-engine.ts';
import type { Aead, Cipher, CipherSuite, Mac } from '../transform.ts';

/**
 * All over node:crypto with one KeyObject per SA: a raw key per call costs several times more on some releases. A
 * KeyObject cannot be wiped; OpenSSL clears it when the garbage collector lets go of it.
 */

let lastBytes: Uint8Array | null = null;
let lastBuffer: Buffer = Buffer.alloc(0);

/**
 * Copies `text` to `bytes` at `start`. V8 copies into shared memory byte by byte unless both ends are aligned alike: 390 ns
 * for 1400 bytes behind an Ethernet header. Buffer's fill is a memcpy: 47.
 */
function put(text: Uint8Array, bytes: Uint8Array, start: number): void {
  if (bytes !== lastBytes) {
    lastBytes = bytes;
    lastBuffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }
  if (text.length < 64) bytes.set(text, start);
  else lastBuffer.fill(text, start, start + text.length);
}

/** Plaintext exists before final() has spoken, in a buffer of our own: it is copied out or cleared. */
function accept(plain: Uint8Array | null, good: boolean, bytes: Uint8Array, start: number): boolean {
  if (plain === null) return false;
  if (good) put(plain, bytes, start);
  else plain.fill(0);
  return good;
}

class NodeAead implements Aead {
  readonly #cipher: CipherGCMTypes;
  readonly #key: KeyObject;
  readonly #icvLength: number;
  /** Node takes shorter GCM tags too unless it is told the length. */
  readonly #options: { readonly authTagLength: number };

  constructor(cipher: string, key: Uint8Array, icvLength: number) {
    // Node's types know GCM; ChaCha20-Poly1305 has the same calls.
    this.#cipher = cipher as CipherGCMTypes;
    this.#key = createSecretKey(key);
    this.#icvLength = icvLength;
    this.#options = { authTagLength: icvLength };
  }

  seal(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): void {
    const cipher: CipherGCM = createCipheriv(this.#cipher, this.#key, nonce, this.#options);
    cipher.setAAD(aad);
    put(cipher.update(bytes.subarray(start, end)), bytes, start);
    cipher.final();
    bytes.set(cipher.getAuthTag(), end);
  }

  open(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): boolean {
    const decipher: DecipherGCM = createDecipheriv(this.#cipher, this.#key, nonce, this.#options);
    let plain: Uint8Array | null = null;
    let good = false;
    try {
      decipher.setAAD(aad);
      decipher.setAuthTag(bytes.subarray(end, end + this.#icvLength));
      plain = decipher.update(bytes.subarray(start, end));
      decipher.final();
      good = true;
    } catch {}
    return accept(plain, good, bytes, start);
  }

  destroy(): void {}
}

/** CCM wants all lengths beforehand. */
class NodeCcm implements Aead {
  readonly #cipher: CipherCCMTypes;
  readonly #key: KeyObject;
  readonly #icvLength: number;
  readonly #options: { readonly authTagLength: number };

  constructor(cipher: CipherCCMTypes, key: Uint8Array, icvLength: number) {
    this.#cipher = cipher;
    this.#key = createSecretKey(key);
    this.#icvLength = icvLength;
    this.#options = { authTagLength: icvLength };
  }

  seal(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): void {
    const cipher: CipherCCM = createCipheriv(this.#cipher, this.#key, nonce, this.#options);
    cipher.setAAD(aad, { plaintextLength: end - start });
    put(cipher.update(bytes.subarray(start, end)), bytes, start);
    cipher.final();
    bytes.set(cipher.getAuthTag(), end);
  }

  open(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): boolean {
    const decipher: DecipherCCM = createDecipheriv(this.#cipher, this.#key, nonce, this.#options);
    let plain: Uint8Array | null = null;
    let good = false;
    try {
      decipher.setAuthTag(bytes.subarray(end, end + this.#icvLength));
      decipher.setAAD(aad, { plaintextLength: end - start });
      plain = decipher.update(bytes.subarray(start, end));
      decipher.final();
      good = true;
    } catch {}
    return accept(plain, good, bytes, start);
  }

  destroy(): void {}
}

class NodeCipher implements Cipher {
  readonly #cipher: string;
  readonly #key: KeyObject;

  constructor(cipher: string, key: Uint8Array) {
    this.#cipher = cipher;
    this.#key = createSecretKey(key);
  }

  encrypt(bytes: Uint8Array, start: number, end: number, iv: Uint8Array): void {
    const cipher = createCipheriv(this.#cipher, this.#key, iv).setAutoPadding(false);
    put(cipher.update(bytes.subarray(start, end)), bytes, start);
  }

  decrypt(bytes: Uint8Array, start: number, end: number, iv: Uint8Array): void {
    const decipher = createDecipheriv(this.#cipher, this.#key, iv).setAutoPadding(false);
    put(decipher.update(bytes.subarray(start, end)), bytes, start);
  }

  destroy(): void {}
}

class NodeHmac implements Mac {
  readonly #hash: HashName;
  readonly #key: KeyObject;

  constructor(hash: HashName, key: Uint8Array) {
    this.#hash = hash;
    this.#key = createSecretKey(key);
  }

  compute(bytes: Uint8Array, start: number, end: number, tail: Uint8Array): Uint8Array {
    const mac = createHmac(this.#hash, this.#key).update(bytes.subarray(start, end));
    if (tail.length !== 0) mac.update(tail);
    return mac.digest();
  }

  destroy(): void {}
}

const mac = (hash: HashName) => (key: Uint8Array) => new NodeHmac(hash, key);
const bits = (key: Uint8Array): number => key.length * 8;

/** node:crypto's pieces. */
export const NODE_SUITE: CipherSuite = {
  aeads: {
    'aes-gcm': (key, icvLength) => new NodeAead(`aes-${bits(key)}-gcm`, key, icvLength),
    'aes-ccm': (key, icvLength) => new NodeCcm(`aes-${bits(key)}-ccm` as CipherCCMTypes, key, icvLength),
    'chacha20-poly1305': (key, icvLength) => new NodeAead('chacha20-poly1305', key, icvLength),
  },
  ciphers: {
    'aes-cbc': (key) => new NodeCipher(`aes-${bits(key)}-cbc`, key),
    'aes-ctr': (key) => new NodeCipher(`aes-${bits(key)}-ctr`, key),
  },
  macs: { sha256: mac('sha256'), sha384: mac('sha384'), sha512: mac('sha512'), sha1: mac('sha1') },
};

/** The OpenSSL of the Node process through node:crypto, packet by packet; has every algorithm. */
export function nodeEngine(options: EngineOptions = {}): CryptoEngine {
  return new RowEngine('node', NODE_SUITE, options);
}
