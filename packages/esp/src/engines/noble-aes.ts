/**
 * AES modes over noble's block function, with what depends on the key alone (key schedule, GHASH table) kept per SA:
 * noble's own `gcm()`, `cbc()` and `ctr()` derive it per call. noble's words are little-endian.
 */
import { GHASH } from '@noble/ciphers/_polyval.js';
import { unsafe } from '@noble/ciphers/aes.js';
import { byteSwap, swap8IfBE } from '@noble/ciphers/utils.js';
import { equalBytes } from '../constant-time.ts';
import type { Aead, Cipher } from '../transform.ts';
import { clear, load, store, trim, WORDS } from './scratch.ts';

const BLOCK = 16;
/**
 * noble sizes its GHASH table by the length it is told to expect: 512 entries (30 KB) for the first, 4096 (260 KB) for the
 * second, with which GHASH takes 77 instead of 116 ns a block. So an SA that turns out busy gets the second, in 50 us, and
 * so many of them in a thread.
 */
const NARROW = 2048;
const WIDE = 65_537;
const BUSY_PACKETS = 4096;
const WIDE_TABLES = 32;
let wideTables = 0;

const word = (bytes: Uint8Array, at: number): number =>
  bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);

/** Xors the key stream of counter blocks `n0 | n1 | n2 | first`, the last word counting up, over the loaded blocks. */
function keyStream(schedule: Uint32Array, blocks: number, n0: number, n1: number, n2: number, first: number): void {
  for (let b = 0, i = 0; b < blocks; b++, i += 4) {
    const { s0, s1, s2, s3 } = unsafe.encrypt(schedule, n0, n1, n2, byteSwap(first + b));
    WORDS[i] = WORDS[i]! ^ swap8IfBE(s0);
    WORDS[i + 1] = WORDS[i + 1]! ^ swap8IfBE(s1);
    WORDS[i + 2] = WORDS[i + 2]! ^ swap8IfBE(s2);
    WORDS[i + 3] = WORDS[i + 3]! ^ swap8IfBE(s3);
  }
}

/** GHASH under one key, for many messages: the table stays, the accumulator begins anew. */
class SaGhash extends GHASH {
  /** Over `aad` (filled up with zeros), the loaded blocks, and both lengths; then masked with `mask`, into `tag`. */
  over(aad: Uint8Array, blocks: number, length: number, mask: Mask, tag: Uint32Array): void {
    this.s0 = 0;
    this.s1 = 0;
    this.s2 = 0;
    this.s3 = 0;
    if (aad.length === 8) this._updateBlock(word(aad, 0), word(aad, 4), 0, 0);
    else if (aad.length === 12) this._updateBlock(word(aad, 0), word(aad, 4), word(aad, 8), 0);
    else this.update(aad);
    for (let i = 0; i < blocks * 4; i += 4)
      this._updateBlock(
        swap8IfBE(WORDS[i]!),
        swap8IfBE(WORDS[i + 1]!),
        swap8IfBE(WORDS[i + 2]!),
        swap8IfBE(WORDS[i + 3]!),
      );
    this._updateBlock(0, byteSwap(aad.length * 8), 0, byteSwap(length * 8));
    tag[0] = swap8IfBE(this.s0 ^ mask.s0);
    tag[1] = swap8IfBE(this.s1 ^ mask.s1);
    tag[2] = swap8IfBE(this.s2 ^ mask.s2);
    tag[3] = swap8IfBE(this.s3 ^ mask.s3);
  }
}

type Mask = ReturnType<typeof unsafe.encrypt>;

/** AES-GCM (NIST SP 800-38D). The ICV is verified before anything is decrypted. */
export class NobleGcm implements Aead {
  readonly #icvLength: number;
  readonly #schedule: Uint32Array;
  #ghash: SaGhash;
  #wide = false;
  /** Counts down to the wide table. */
  #untilBusy = BUSY_PACKETS;
  readonly #tag: Uint8Array = new Uint8Array(BLOCK);
  readonly #tagWords: Uint32Array = new Uint32Array(this.#tag.buffer);

  constructor(key: Uint8Array, icvLength: number) {
    this.#icvLength = icvLength;
    this.#schedule = unsafe.expandKeyLE(key);
    this.#ghash = this.#table(NARROW);
  }

  seal(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): void {
    const blocks = load(bytes, start, end);
    this.#crypt(blocks, nonce);
    trim(end - start);
    this.#authenticate(blocks, end - start, nonce, aad);
    store(bytes, start, end);
    for (let i = 0; i < this.#icvLength; i++) bytes[end + i] = this.#tag[i]!;
  }

  open(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): boolean {
    const blocks = load(bytes, start, end);
    this.#authenticate(blocks, end - start, nonce, aad);
    if (!equalBytes(this.#tag, 0, bytes, end, this.#icvLength)) return false;
    this.#crypt(blocks, nonce);
    store(bytes, start, end);
    clear(blocks);
    return true;
  }

  destroy(): void {
    if (this.#wide) wideTables--;
    this.#schedule.fill(0);
    this.#ghash.destroy();
    this.#tag.fill(0);
  }

  #table(expected: number): SaGhash {
    const h = new Uint8Array(BLOCK);
    unsafe.encryptBlock(this.#schedule, h);
    const ghash = new SaGhash(h, expected);
    h.fill(0);
    return ghash;
  }

  #widen(): void {
    if (wideTables === WIDE_TABLES) return;
    wideTables++;
    this.#wide = true;
    this.#ghash.destroy();
    this.#ghash = this.#table(WIDE);
  }

  /** Counter 1 masks the tag, the next ones are the key stream (7.1). */
  #crypt(blocks: number, nonce: Uint8Array): void {
    keyStream(this.#schedule, blocks, word(nonce, 0), word(nonce, 4), word(nonce, 8), 2);
  }

  #authenticate(blocks: number, length: number, nonce: Uint8Array, aad: Uint8Array): void {
    if (--this.#untilBusy === 0) this.#widen();
    const mask = unsafe.encrypt(this.#schedule, word(nonce, 0), word(nonce, 4), word(nonce, 8), byteSwap(1));
    this.#ghash.over(aad, blocks, length, mask, this.#tagWords);
  }
}

/**
 * AES-CCM (NIST SP 800-38C) as RFC 4309 4 uses it: 11-byte nonce, 4-byte length. The MAC is over the plaintext, so it has
 * to be decrypted first: in scratch that no other thread sees, and copied out only when the ICV holds.
 */
export class NobleCcm implements Aead {
  readonly #icvLength: number;
  readonly #schedule: Uint32Array;
  /** First block of the MAC; with other flags and a counter, the counter blocks. */
  readonly #block: Uint8Array = new Uint8Array(BLOCK);
  readonly #tag: Uint8Array = new Uint8Array(BLOCK);
  readonly #tagWords: Uint32Array = new Uint32Array(this.#tag.buffer);

  constructor(key: Uint8Array, icvLength: number) {
    this.#icvLength = icvLength;
    this.#schedule = unsafe.expandKeyLE(key);
  }

  seal(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): void {
    const blocks = load(bytes, start, end);
    this.#authenticate(blocks, end - start, nonce, aad);
    this.#crypt(blocks, nonce);
    store(bytes, start, end);
    for (let i = 0; i < this.#icvLength; i++) bytes[end + i] = this.#tag[i]!;
  }

  open(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): boolean {
    const blocks = load(bytes, start, end);
    this.#crypt(blocks, nonce);
    trim(end - start);
    this.#authenticate(blocks, end - start, nonce, aad);
    const good = equalBytes(this.#tag, 0, bytes, end, this.#icvLength);
    if (good) store(bytes, start, end);
    clear(blocks);
    return good;
  }

  destroy(): void {
    this.#schedule.fill(0);
    this.#tag.fill(0);
  }

  /** `flags | nonce`, the last word left to the caller. */
  #begin(flags: number, nonce: Uint8Array): void {
    const block = this.#block;
    block[0] = flags;
    for (let i = 0; i < nonce.length; i++) block[1 + i] = nonce[i]!;
  }

  #crypt(blocks: number, nonce: Uint8Array): void {
    this.#begin(3, nonce);
    keyStream(this.#schedule, blocks, word(this.#block, 0), word(this.#block, 4), word(this.#block, 8), 1);
  }

  /** CBC-MAC over the first block, the AAD with its length in front (12 + 2 fit a block), the loaded plaintext; masked by counter 0. */
  #authenticate(blocks: number, length: number, nonce: Uint8Array, aad: Uint8Array): void {
    const xk = this.#schedule;
    const block = this.#block;
    this.#begin(0x40 | (((this.#icvLength - 2) / 2) << 3) | 3, nonce);
    let { s0, s1, s2, s3 } = unsafe.encrypt(xk, word(block, 0), word(block, 4), word(block, 8), byteSwap(length));
    s0 ^= (aad.length << 8) | (aad[0]! << 16) | (aad[1]! << 24);
    s1 ^= word(aad, 2);
    s2 ^= aad[6]! | (aad[7]! << 8);
    if (aad.length === 12) {
      s2 ^= (aad[8]! << 16) | (aad[9]! << 24);
      s3 ^= aad[10]! | (aad[11]! << 8);
    }
    ({ s0, s1, s2, s3 } = unsafe.encrypt(xk, s0, s1, s2, s3));
    for (let i = 0; i < blocks * 4; i += 4)
      ({ s0, s1, s2, s3 } = unsafe.encrypt(
        xk,
        s0 ^ swap8IfBE(WORDS[i]!),
        s1 ^ swap8IfBE(WORDS[i + 1]!),
        s2 ^ swap8IfBE(WORDS[i + 2]!),
        s3 ^ swap8IfBE(WORDS[i + 3]!),
      ));
    this.#begin(3, nonce);
    const mask = unsafe.encrypt(xk, word(block, 0), word(block, 4), word(block, 8), 0);
    const tag = this.#tagWords;
    tag[0] = swap8IfBE(s0 ^ mask.s0);
    tag[1] = swap8IfBE(s1 ^ mask.s1);
    tag[2] = swap8IfBE(s2 ^ mask.s2);
    tag[3] = swap8IfBE(s3 ^ mask.s3);
  }
}

/** AES-CTR (RFC 3686). */
export class NobleCtr implements Cipher {
  readonly #schedule: Uint32Array;

  constructor(key: Uint8Array) {
    this.#schedule = unsafe.expandKeyLE(key);
  }

  encrypt(bytes: Uint8Array, start: number, end: number, iv: Uint8Array): void {
    const blocks = load(bytes, start, end);
    keyStream(this.#schedule, blocks, word(iv, 0), word(iv, 4), word(iv, 8), byteSwap(word(iv, 12)));
    store(bytes, start, end);
    clear(blocks);
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
    const blocks = load(bytes, start, end);
    let s0 = word(iv, 0);
    let s1 = word(iv, 4);
    let s2 = word(iv, 8);
    let s3 = word(iv, 12);
    for (let i = 0; i < blocks * 4; i += 4) {
      ({ s0, s1, s2, s3 } = unsafe.encrypt(
        this.#schedule,
        s0 ^ swap8IfBE(WORDS[i]!),
        s1 ^ swap8IfBE(WORDS[i + 1]!),
        s2 ^ swap8IfBE(WORDS[i + 2]!),
        s3 ^ swap8IfBE(WORDS[i + 3]!),
      ));
      WORDS[i] = swap8IfBE(s0);
      WORDS[i + 1] = swap8IfBE(s1);
      WORDS[i + 2] = swap8IfBE(s2);
      WORDS[i + 3] = swap8IfBE(s3);
    }
    store(bytes, start, end);
  }

  decrypt(bytes: Uint8Array, start: number, end: number, iv: Uint8Array): void {
    const blocks = load(bytes, start, end);
    let p0 = word(iv, 0);
    let p1 = word(iv, 4);
    let p2 = word(iv, 8);
    let p3 = word(iv, 12);
    for (let i = 0; i < blocks * 4; i += 4) {
      const c0 = swap8IfBE(WORDS[i]!);
      const c1 = swap8IfBE(WORDS[i + 1]!);
      const c2 = swap8IfBE(WORDS[i + 2]!);
      const c3 = swap8IfBE(WORDS[i + 3]!);
      const { s0, s1, s2, s3 } = unsafe.decrypt(this.#inverse, c0, c1, c2, c3);
      WORDS[i] = swap8IfBE(p0 ^ s0);
      WORDS[i + 1] = swap8IfBE(p1 ^ s1);
      WORDS[i + 2] = swap8IfBE(p2 ^ s2);
      WORDS[i + 3] = swap8IfBE(p3 ^ s3);
      p0 = c0;
      p1 = c1;
      p2 = c2;
      p3 = c3;
    }
    store(bytes, start, end);
    clear(blocks);
  }

  destroy(): void {
    this.#schedule.fill(0);
    this.#inverse.fill(0);
  }
}
