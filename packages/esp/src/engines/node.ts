import {
  type CipherGCM,
  type CipherGCMTypes,
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  type DecipherGCM,
  type KeyObject,
} from 'node:crypto';
import type { CryptoEngine } from '@espalier/xfrm';
import { type Aead, AeadEngine } from '../aead-engine.ts';

const ICV = 16;
/** Node takes 4-, 8- and 12-byte GCM tags too unless it is told the length. */
const TAG = { authTagLength: ICV };

/** node:crypto with one KeyObject per SA: a raw key per call costs several times more on some releases. */
class NodeAead implements Aead {
  readonly #cipher: CipherGCMTypes;
  readonly #key: KeyObject;

  constructor(cipher: string, key: Uint8Array) {
    // Node's types know GCM; ChaCha20-Poly1305 has the same calls.
    this.#cipher = cipher as CipherGCMTypes;
    this.#key = createSecretKey(key);
  }

  seal(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): void {
    const cipher: CipherGCM = createCipheriv(this.#cipher, this.#key, nonce, TAG);
    cipher.setAAD(aad);
    bytes.set(cipher.update(bytes.subarray(start, end)), start);
    cipher.final();
    bytes.set(cipher.getAuthTag(), end);
  }

  open(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): boolean {
    const decipher: DecipherGCM = createDecipheriv(this.#cipher, this.#key, nonce, TAG);
    decipher.setAAD(aad);
    decipher.setAuthTag(bytes.subarray(end, end + ICV));
    // Plaintext exists from here on, but nobody sees it before final() holds.
    const plain = decipher.update(bytes.subarray(start, end));
    try {
      decipher.final();
    } catch {
      plain.fill(0);
      return false;
    }
    bytes.set(plain, start);
    return true;
  }
}

const of =
  (cipher: string) =>
  (key: Uint8Array): Aead =>
    new NodeAead(cipher, key);

/** The OpenSSL of the Node process through node:crypto, packet by packet. */
export function nodeEngine(): CryptoEngine {
  return new AeadEngine('node', {
    aes128gcm16: of('aes-128-gcm'),
    aes192gcm16: of('aes-192-gcm'),
    aes256gcm16: of('aes-256-gcm'),
    chacha20poly1305: of('chacha20-poly1305'),
  });
}
