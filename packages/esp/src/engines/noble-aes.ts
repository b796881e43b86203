/**
 * AES modes from noble's public pieces, with what depends on the key alone (key schedule, GHASH table) kept per SA:
 * noble's own `gcm()`, `cbc()` and `ctr()` derive it per call.
 */
import { GHASH } from '@noble/ciphers/_polyval.js';
import { unsafe } from '@noble/ciphers/aes.js';
import { equalBytes } from '../constant-time.ts';
import type { Aead, Cipher } from '../transform.ts';
import { take } from './scratch.ts';

const BLOCK = 16;
/** noble sizes its GHASH table by the length it is told to expect; this asks for the middle one (512 entries). */
const EXPECTED_BYTES = 2048;

/** GHASH under one key, for many messages: the table stays, the accumulator begins anew. */
class SaGhash extends GHASH {
  reset(): void {
    this.s0 = 0;
    this.s1 = 0;
    this.s2 = 0;
    this.s3 = 0;
    this.finished = false;
  }
}

/** AES-GCM (NIST SP 800-38D). The ICV is verified before anything is decrypted. */
export class NobleGcm implements Aead {
  readonly #icvLength: number;
  readonly #schedule: Uint32Array;
  readonly #ghash: SaGhash;
  readonly #counter: Uint8Array = new Uint8Array(BLOCK);
  readonly #mask: Uint8Array = new Uint8Array(BLOCK);
  readonly #tag: Uint8Array = new Uint8Array(BLOCK);
  readonly #lengths: Uint8Array = new Uint8Array(BLOCK);
  readonly #lengthsView: DataView = new DataView(this.#lengths.buffer);

  constructor(key: Uint8Array, icvLength: number) {
    this.#icvLength = icvLength;
    this.#schedule = unsafe.expandKeyLE(key);
    const h = new Uint8Array(BLOCK);
    unsafe.encryptBlock(this.#schedule, h);
    this.#ghash = new SaGhash(h, EXPECTED_BYTES);
    h.fill(0);
  }

  seal(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): void {
    const text = take(bytes, start, end);
    this.#begin(nonce);
    unsafe.ctr32(this.#schedule, false, this.#counter, text, text);
    this.#authenticate(text, aad);
    bytes.set(text, start);
    for (let i = 0; i < this.#icvLength; i++) bytes[end + i] = this.#tag[i]!;
  }

  open(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): boolean {
    const text = take(bytes, start, end);
    this.#begin(nonce);
    this.#authenticate(text, aad);
    if (!equalBytes(this.#tag, 0, bytes, end, this.#icvLength)) return false;
    unsafe.ctr32(this.#schedule, false, this.#counter, text, text);
    bytes.set(text, start);
    text.fill(0);
    return true;
  }

  destroy(): void {
    this.#schedule.fill(0);
    this.#ghash.destroy();
    this.#mask.fill(0);
    this.#tag.fill(0);
  }

  /** The first counter block masks the tag, the next ones are the key stream (7.1). */
  #begin(nonce: Uint8Array): void {
    const counter = this.#counter;
    counter.set(nonce);
    counter[12] = 0;
    counter[13] = 0;
    counter[14] = 0;
    counter[15] = 1;
    const mask = this.#mask;
    mask.set(counter);
    unsafe.encryptBlock(this.#schedule, mask);
    counter[15] = 2;
  }

  #authenticate(data: Uint8Array, aad: Uint8Array): void {
    this.#lengthsView.setUint32(4, aad.length * 8);
    this.#lengthsView.setUint32(12, data.length * 8);
    const ghash = this.#ghash;
    ghash.reset();
    ghash.update(aad).update(data).update(this.#lengths).digestInto(this.#tag);
    for (let i = 0; i < BLOCK; i++) this.#tag[i] = this.#tag[i]! ^ this.#mask[i]!;
  }
}

/**
 * AES-CCM (NIST SP 800-38C) as RFC 4309 4 uses it: 11-byte nonce, 4-byte length. The MAC is over the plaintext, so it has
 * to be decrypted first: in scratch that no other thread sees, and copied out only when the ICV holds.
 */
export class NobleCcm implements Aead {
  readonly #icvLength: number;
  readonly #schedule: Uint32Array;
  readonly #counter: Uint8Array = new Uint8Array(BLOCK);
  readonly #block: Uint8Array = new Uint8Array(BLOCK);
  readonly #blockView: DataView = new DataView(this.#block.buffer);
  readonly #tag: Uint8Array = new Uint8Array(BLOCK);

  constructor(key: Uint8Array, icvLength: number) {
    this.#icvLength = icvLength;
    this.#schedule = unsafe.expandKeyLE(key);
  }

  seal(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): void {
    const text = take(bytes, start, end);
    this.#authenticate(text, nonce, aad);
    this.#mask(nonce);
    this.#begin(nonce);
    unsafe.ctr32(this.#schedule, false, this.#counter, text, text);
    bytes.set(text, start);
    for (let i = 0; i < this.#icvLength; i++) bytes[end + i] = this.#tag[i]! ^ this.#block[i]!;
  }

  open(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): boolean {
    const text = take(bytes, start, end);
    this.#begin(nonce);
    unsafe.ctr32(this.#schedule, false, this.#counter, text, text);
    const tag = this.#tag;
    this.#authenticate(text, nonce, aad);
    this.#mask(nonce);
    for (let i = 0; i < BLOCK; i++) tag[i] = tag[i]! ^ this.#block[i]!;
    const good = equalBytes(tag, 0, bytes, end, this.#icvLength);
    if (good) bytes.set(text, start);
    text.fill(0);
    return good;
  }

  destroy(): void {
    this.#schedule.fill(0);
    this.#block.fill(0);
    this.#tag.fill(0);
  }

  /** The key stream for the text begins at counter 1. */
  #begin(nonce: Uint8Array): void {
    const counter = this.#counter;
    counter.fill(0);
    counter[0] = 3;
    counter.set(nonce, 1);
    counter[15] = 1;
  }

  /** Counter 0, encrypted, masks the tag. */
  #mask(nonce: Uint8Array): void {
    this.#block.fill(0);
    this.#block[0] = 3;
    this.#block.set(nonce, 1);
    unsafe.encryptBlock(this.#schedule, this.#block);
  }

  /** CBC-MAC over the first block, the AAD with its length in front (both fit one block: 12 + 2), and the plaintext. */
  #authenticate(text: Uint8Array, nonce: Uint8Array, aad: Uint8Array): void {
    const block = this.#block;
    block[0] = 0x40 | (((this.#icvLength - 2) / 2) << 3) | 3;
    block.set(nonce, 1);
    this.#blockView.setUint32(12, text.length);
    unsafe.encryptBlock(this.#schedule, block);
    block[1] = block[1]! ^ aad.length;
    for (let i = 0; i < aad.length; i++) block[2 + i] = block[2 + i]! ^ aad[i]!;
    unsafe.encryptBlock(this.#schedule, block);
    for (let at = 0; at < text.length; at += BLOCK) {
      const length = Math.min(BLOCK, text.length - at);
      for (let i = 0; i < length; i++) block[i] = block[i]! ^ text[at + i]!;
      unsafe.encryptBlock(this.#schedule, block);
    }
    this.#tag.set(block);
  }
}

/** AES-CTR with a 32-bit counter (RFC 3686). */
export class NobleCtr implements Cipher {
  readonly #schedule: Uint32Array;

  constructor(key: Uint8Array) {
    this.#schedule = unsafe.expandKeyLE(key);
  }

  encrypt(bytes: Uint8Array, start: number, end: number, iv: Uint8Array): void {
    const text = take(bytes, start, end);
    unsafe.ctr32(this.#schedule, false, iv, text, text);
    bytes.set(text, start);
    text.fill(0);
  }

  decrypt(bytes: Uint8Array, start: number, end: number, iv: Uint8Array): void {
    this.encrypt(bytes, start, end, iv);
  }

  destroy(): void {
    this.#schedule.fill(0);
  }
}

/** AES-CBC (RFC 3602); whole blocks only. */
export class NobleCbc implements Cipher {
  readonly #schedule: Uint32Array;
  readonly #inverse: Uint32Array;

  constructor(key: Uint8Array) {
    this.#schedule = unsafe.expandKeyLE(key);
    this.#inverse = unsafe.expandKeyDecLE(key);
  }

  encrypt(bytes: Uint8Array, start: number, end: number, iv: Uint8Array): void {
    const text = take(bytes, start, end);
    const view = new DataView(text.buffer);
    const before = new DataView(iv.buffer, iv.byteOffset);
    let [p0, p1, p2, p3] = words(before, 0);
    for (let at = 0; at < text.length; at += BLOCK) {
      const [t0, t1, t2, t3] = words(view, at);
      const { s0, s1, s2, s3 } = unsafe.encrypt(this.#schedule, p0 ^ t0, p1 ^ t1, p2 ^ t2, p3 ^ t3);
      put(view, at, s0, s1, s2, s3);
      p0 = s0;
      p1 = s1;
      p2 = s2;
      p3 = s3;
    }
    bytes.set(text, start);
  }

  decrypt(bytes: Uint8Array, start: number, end: number, iv: Uint8Array): void {
    const text = take(bytes, start, end);
    const view = new DataView(text.buffer);
    let [p0, p1, p2, p3] = words(new DataView(iv.buffer, iv.byteOffset), 0);
    for (let at = 0; at < text.length; at += BLOCK) {
      const [t0, t1, t2, t3] = words(view, at);
      const { s0, s1, s2, s3 } = unsafe.decrypt(this.#inverse, t0, t1, t2, t3);
      put(view, at, p0 ^ s0, p1 ^ s1, p2 ^ s2, p3 ^ s3);
      p0 = t0;
      p1 = t1;
      p2 = t2;
      p3 = t3;
    }
    bytes.set(text, start);
    text.fill(0);
  }

  destroy(): void {
    this.#schedule.fill(0);
    this.#inverse.fill(0);
  }
}

/** One block as the little-endian words that noble's block function takes. */
function words(view: DataView, at: number): [number, number, number, number] {
  return [
    view.getUint32(at, true),
    view.getUint32(at + 4, true),
    view.getUint32(at + 8, true),
    view.getUint32(at + 12, true),
  ];
}

function put(view: DataView, at: number, s0: number, s1: number, s2: number, s3: number): void {
  view.setUint32(at, s0, true);
  view.setUint32(at + 4, s1, true);
  view.setUint32(at + 8, s2, true);
  view.setUint32(at + 12, s3, true);
}
