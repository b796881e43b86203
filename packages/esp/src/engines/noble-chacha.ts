import { Poly1305 } from '@noble/ciphers/_poly1305.js';
import { chacha20 } from '@noble/ciphers/chacha.js';
import { equalBytes } from '../constant-time.ts';
import type { Aead } from '../transform.ts';
import { clear, load, loaded, store } from './scratch.ts';

const BLOCK = 16;
const ICV = 16;
const ZEROS: Uint8Array = new Uint8Array(32);

/** ChaCha20-Poly1305 (RFC 8439 2.8) from noble's two halves, in place. The ICV is verified before anything is decrypted. */
export class NobleChacha implements Aead {
  readonly #key: Uint8Array;
  readonly #oneTimeKey: Uint8Array = new Uint8Array(32);
  readonly #tag: Uint8Array = new Uint8Array(ICV);
  readonly #lengths: Uint8Array = new Uint8Array(BLOCK);
  readonly #lengthsView: DataView = new DataView(this.#lengths.buffer);
  /** noble works on words: a nonce in a buffer of its own spares it a copy. */
  readonly #nonce: Uint8Array = new Uint8Array(12);

  constructor(key: Uint8Array) {
    this.#key = key.slice();
  }

  seal(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): void {
    load(bytes, start, end);
    const text = loaded(end - start);
    this.#nonce.set(nonce);
    chacha20(this.#key, this.#nonce, text, text, 1);
    this.#authenticate(text, aad);
    store(bytes, start, end);
    bytes.set(this.#tag, end);
  }

  open(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): boolean {
    const blocks = load(bytes, start, end);
    const text = loaded(end - start);
    this.#nonce.set(nonce);
    this.#authenticate(text, aad);
    if (!equalBytes(this.#tag, 0, bytes, end, ICV)) return false;
    chacha20(this.#key, this.#nonce, text, text, 1);
    store(bytes, start, end);
    clear(blocks);
    return true;
  }

  destroy(): void {
    this.#key.fill(0);
    this.#oneTimeKey.fill(0);
    this.#tag.fill(0);
  }

  /** Poly1305 under the first half of key stream block 0, over AAD, text and both lengths, each filled up to 16 bytes. */
  #authenticate(text: Uint8Array, aad: Uint8Array): void {
    chacha20(this.#key, this.#nonce, ZEROS, this.#oneTimeKey);
    const mac = new Poly1305(this.#oneTimeKey);
    mac.update(aad).update(ZEROS.subarray(0, -aad.length & 15));
    mac.update(text).update(ZEROS.subarray(0, -text.length & 15));
    this.#lengthsView.setUint32(0, aad.length, true);
    this.#lengthsView.setUint32(8, text.length, true);
    mac.update(this.#lengths).digestInto(this.#tag);
    mac.destroy();
  }
}
