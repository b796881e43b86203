/**
 * The shapes of an ESP transform, over the pieces that a crypto library offers. Four of them, and every engine uses the
 * same four, so that engines can differ in their ciphers only:
 *
 *   AEAD              nonce = salt | IV, AAD = SPI | number (RFC 4106 4 and 5, RFC 4309 4 and 5, RFC 7634 2)
 *   GMAC              the same, all of it AAD and nothing encrypted (RFC 4543 3)
 *   cipher and HMAC   encrypt, then MAC from the SPI to the end of the ciphertext (RFC 4303 3.3.2)
 *   HMAC alone        the same without a cipher (RFC 2410)
 *
 * With ESN the high half of the number is in the AAD between SPI and low half (RFC 4106 5), and behind everything else
 * under an HMAC (RFC 4303 3.3.2.1).
 */
import { ESP_HEADER_LENGTH, type FrameSlab } from '@espalier/wire';
import type { Algorithm, HashName, KeyParts } from '@espalier/xfrm';
import { equalBytes } from './constant-time.ts';
import { RandomIv } from './random-iv.ts';

/** One SA's keyed transform. Belongs to one worker. */
export interface Transform {
  /** Writes IV and ICV and encrypts in place: the ESP header at `esp`, the trailer ends at `end`, where the ICV goes. */
  seal(slab: FrameSlab, esp: number, end: number, seqLo: number, seqHi: number): void;
  /**
   * Decrypts in place if the ICV at `end` holds; otherwise returns false and the payload is anything. The row's number
   * is also what the ESP header says.
   */
  open(slab: FrameSlab, esp: number, end: number, seqLo: number, seqHi: number): boolean;
  /** Wipes what it can. Not to be used after. */
  destroy(): void;
}

/** A keyed AEAD. `nonce` and `aad` are the transform's scratch: read them, do not keep them. */
export interface Aead {
  /** Encrypts `bytes[start, end)` in place and writes the ICV at `end`. */
  seal(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): void;
  /** Decrypts `bytes[start, end)` in place if the ICV at `end` holds; otherwise false. Never throws on content. */
  open(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): boolean;
  destroy(): void;
}

/** A keyed cipher without integrity; `iv` is CBC's IV or CTR's first counter block, 16 bytes. */
export interface Cipher {
  encrypt(bytes: Uint8Array, start: number, end: number, iv: Uint8Array): void;
  decrypt(bytes: Uint8Array, start: number, end: number, iv: Uint8Array): void;
  destroy(): void;
}

/** A keyed HMAC. */
export interface Mac {
  /** The whole MAC of `bytes[start, end)` and then `tail`, good until the next call. */
  compute(bytes: Uint8Array, start: number, end: number, tail: Uint8Array): Uint8Array;
  destroy(): void;
}

/** What a library offers. Factories copy what they keep of a key. */
export interface CipherSuite {
  readonly aeads: Readonly<
    Partial<Record<'aes-gcm' | 'aes-ccm' | 'chacha20-poly1305', (key: Uint8Array, icvLength: number) => Aead>>
  >;
  readonly ciphers: Readonly<Partial<Record<'aes-cbc' | 'aes-ctr', (key: Uint8Array) => Cipher>>>;
  readonly macs: Readonly<Partial<Record<HashName, (key: Uint8Array) => Mac>>>;
}

/** Whether the suite has every piece of an algorithm. */
export function has(suite: CipherSuite, { cipher, hash }: Algorithm): boolean {
  if (cipher === 'aes-gmac') return suite.aeads['aes-gcm'] !== undefined;
  if (hash === null) return suite.aeads[cipher as keyof CipherSuite['aeads']] !== undefined;
  if (suite.macs[hash] === undefined) return false;
  return cipher === 'null' || suite.ciphers[cipher as keyof CipherSuite['ciphers']] !== undefined;
}

/** Keys a transform of an algorithm that the suite `has`. */
export function makeTransform(suite: CipherSuite, algorithm: Algorithm, key: KeyParts, esn: boolean): Transform {
  const { cipher, hash, icvLength } = algorithm;
  if (cipher === 'aes-gmac') return new GmacTransform(suite.aeads['aes-gcm']!(key.cipher, icvLength), key.salt, esn);
  if (hash === null) {
    const aead = suite.aeads[cipher as keyof CipherSuite['aeads']]!(key.cipher, icvLength);
    return new AeadTransform(aead, key.salt, esn, algorithm.iv === 'implicit');
  }
  const mac = suite.macs[hash]!(key.integrity);
  if (cipher === 'null') return new MacTransform(mac, icvLength, esn);
  const keyed = suite.ciphers[cipher as keyof CipherSuite['ciphers']]!(key.cipher);
  return cipher === 'aes-cbc'
    ? new CbcMacTransform(keyed, new MacTransform(mac, icvLength, esn))
    : new CtrMacTransform(keyed, key.salt, new MacTransform(mac, icvLength, esn));
}

const IV_LENGTH = 8;
const AES_BLOCK = 16;

/** Salt | IV: 12 bytes, or 11 for CCM, whose salt has 3. */
class Nonce {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #iv: number;

  constructor(salt: Uint8Array) {
    this.bytes = new Uint8Array(salt.length + IV_LENGTH);
    this.bytes.set(salt);
    this.#view = new DataView(this.bytes.buffer);
    this.#iv = salt.length;
  }

  set(hi: number, lo: number): void {
    this.#view.setUint32(this.#iv, hi);
    this.#view.setUint32(this.#iv + 4, lo);
  }

  destroy(): void {
    this.bytes.fill(0);
  }
}

class AeadTransform implements Transform {
  readonly #aead: Aead;
  readonly #nonce: Nonce;
  readonly #implicit: boolean;
  readonly #esn: boolean;
  readonly #aad: Uint8Array;
  readonly #aadView: DataView;

  constructor(aead: Aead, salt: Uint8Array, esn: boolean, implicit: boolean) {
    this.#aead = aead;
    this.#nonce = new Nonce(salt);
    this.#implicit = implicit;
    this.#esn = esn;
    this.#aad = new Uint8Array(esn ? 12 : 8);
    this.#aadView = new DataView(this.#aad.buffer);
  }

  seal(slab: FrameSlab, esp: number, end: number, seqLo: number, seqHi: number): void {
    const { bytes, view } = slab;
    let start = esp + ESP_HEADER_LENGTH;
    if (!this.#implicit) {
      view.setUint32(start, seqHi);
      view.setUint32(start + 4, seqLo);
      start += IV_LENGTH;
    }
    this.#nonce.set(seqHi, seqLo);
    this.#prepare(view, esp, view.getInt32(esp + 4), seqHi);
    this.#aead.seal(bytes, start, end, this.#nonce.bytes, this.#aad);
  }

  open(slab: FrameSlab, esp: number, end: number, seqLo: number, seqHi: number): boolean {
    const { bytes, view } = slab;
    let start = esp + ESP_HEADER_LENGTH;
    if (this.#implicit) this.#nonce.set(seqHi, seqLo);
    else {
      // The peer's IV is its own choice.
      this.#nonce.set(view.getUint32(start), view.getUint32(start + 4));
      start += IV_LENGTH;
    }
    this.#prepare(view, esp, seqLo, seqHi);
    return this.#aead.open(bytes, start, end, this.#nonce.bytes, this.#aad);
  }

  destroy(): void {
    this.#aead.destroy();
    this.#nonce.destroy();
  }

  #prepare(view: DataView, esp: number, seqLo: number, seqHi: number): void {
    const aad = this.#aadView;
    aad.setUint32(0, view.getUint32(esp));
    if (this.#esn) aad.setUint32(4, seqHi);
    aad.setUint32(this.#esn ? 8 : 4, seqLo);
  }
}

class GmacTransform implements Transform {
  readonly #aead: Aead;
  readonly #nonce: Nonce;
  readonly #esn: boolean;
  /** The packet with the high half put in; grows to the longest seen. */
  #copy: Uint8Array = new Uint8Array(0);

  constructor(aead: Aead, salt: Uint8Array, esn: boolean) {
    this.#aead = aead;
    this.#nonce = new Nonce(salt);
    this.#esn = esn;
  }

  seal(slab: FrameSlab, esp: number, end: number, seqLo: number, seqHi: number): void {
    slab.view.setUint32(esp + 8, seqHi);
    slab.view.setUint32(esp + 12, seqLo);
    this.#nonce.set(seqHi, seqLo);
    this.#aead.seal(
      slab.bytes,
      end,
      end,
      this.#nonce.bytes,
      this.#aad(slab.bytes, esp, end, slab.view.getInt32(esp + 4), seqHi),
    );
  }

  open(slab: FrameSlab, esp: number, end: number, seqLo: number, seqHi: number): boolean {
    this.#nonce.set(slab.view.getUint32(esp + 8), slab.view.getUint32(esp + 12));
    return this.#aead.open(slab.bytes, end, end, this.#nonce.bytes, this.#aad(slab.bytes, esp, end, seqLo, seqHi));
  }

  destroy(): void {
    this.#aead.destroy();
    this.#nonce.destroy();
    this.#copy.fill(0);
  }

  #aad(bytes: Uint8Array, esp: number, end: number, seqLo: number, seqHi: number): Uint8Array {
    if (!this.#esn) return bytes.subarray(esp, end);
    const length = end - esp + 4;
    if (this.#copy.length < length) this.#copy = new Uint8Array(length + 2048);
    const copy = this.#copy;
    copy.set(bytes.subarray(esp, esp + 4));
    writeWord(copy, 4, seqHi);
    // In a copy the number is the row's, whatever becomes of the slab meanwhile.
    writeWord(copy, 8, seqLo);
    copy.set(bytes.subarray(esp + 8, end), 12);
    return copy.subarray(0, length);
  }
}

/** An HMAC from the ESP header on; alone it is the transform of NULL encryption. */
class MacTransform implements Transform {
  readonly #mac: Mac;
  readonly #icvLength: number;
  /** The high half, or nothing. */
  readonly #tail: Uint8Array;

  constructor(mac: Mac, icvLength: number, esn: boolean) {
    this.#mac = mac;
    this.#icvLength = icvLength;
    this.#tail = new Uint8Array(esn ? 4 : 0);
  }

  seal(slab: FrameSlab, esp: number, end: number, _seqLo: number, seqHi: number): void {
    const icv = this.#compute(slab.bytes, esp, end, seqHi);
    for (let i = 0; i < this.#icvLength; i++) slab.bytes[end + i] = icv[i]!;
  }

  open(slab: FrameSlab, esp: number, end: number, _seqLo: number, seqHi: number): boolean {
    return equalBytes(this.#compute(slab.bytes, esp, end, seqHi), 0, slab.bytes, end, this.#icvLength);
  }

  destroy(): void {
    this.#mac.destroy();
  }

  #compute(bytes: Uint8Array, esp: number, end: number, seqHi: number): Uint8Array {
    if (this.#tail.length !== 0) writeWord(this.#tail, 0, seqHi);
    return this.#mac.compute(bytes, esp, end, this.#tail);
  }
}

class CbcMacTransform implements Transform {
  readonly #cipher: Cipher;
  readonly #mac: MacTransform;
  readonly #iv: Uint8Array = new Uint8Array(AES_BLOCK);

  constructor(cipher: Cipher, mac: MacTransform) {
    this.#cipher = cipher;
    this.#mac = mac;
  }

  seal(slab: FrameSlab, esp: number, end: number, seqLo: number, seqHi: number): void {
    const iv = esp + ESP_HEADER_LENGTH;
    RandomIv.draw(this.#iv);
    slab.bytes.set(this.#iv, iv);
    this.#cipher.encrypt(slab.bytes, iv + AES_BLOCK, end, this.#iv);
    this.#mac.seal(slab, esp, end, seqLo, seqHi);
  }

  open(slab: FrameSlab, esp: number, end: number, seqLo: number, seqHi: number): boolean {
    const { bytes } = slab;
    const iv = esp + ESP_HEADER_LENGTH;
    if (!this.#mac.open(slab, esp, end, seqLo, seqHi)) return false;
    // Part of a block is no ciphertext: it stays as it is, and the path calls it BAD_LENGTH.
    if ((end - iv) % AES_BLOCK !== 0) return true;
    for (let i = 0; i < AES_BLOCK; i++) this.#iv[i] = bytes[iv + i]!;
    this.#cipher.decrypt(bytes, iv + AES_BLOCK, end, this.#iv);
    return true;
  }

  destroy(): void {
    this.#cipher.destroy();
    this.#mac.destroy();
  }
}

class CtrMacTransform implements Transform {
  readonly #cipher: Cipher;
  readonly #mac: MacTransform;
  /** Salt | IV | 1 (RFC 3686 4). */
  readonly #counter: Uint8Array = new Uint8Array(AES_BLOCK);
  readonly #counterView: DataView = new DataView(this.#counter.buffer);

  constructor(cipher: Cipher, salt: Uint8Array, mac: MacTransform) {
    this.#cipher = cipher;
    this.#mac = mac;
    this.#counter.set(salt);
  }

  seal(slab: FrameSlab, esp: number, end: number, seqLo: number, seqHi: number): void {
    const iv = esp + ESP_HEADER_LENGTH;
    slab.view.setUint32(iv, seqHi);
    slab.view.setUint32(iv + 4, seqLo);
    this.#begin(seqHi, seqLo);
    this.#cipher.encrypt(slab.bytes, iv + IV_LENGTH, end, this.#counter);
    this.#mac.seal(slab, esp, end, seqLo, seqHi);
  }

  open(slab: FrameSlab, esp: number, end: number, seqLo: number, seqHi: number): boolean {
    if (!this.#mac.open(slab, esp, end, seqLo, seqHi)) return false;
    const iv = esp + ESP_HEADER_LENGTH;
    this.#begin(slab.view.getUint32(iv), slab.view.getUint32(iv + 4));
    this.#cipher.decrypt(slab.bytes, iv + IV_LENGTH, end, this.#counter);
    return true;
  }

  destroy(): void {
    this.#cipher.destroy();
    this.#mac.destroy();
    this.#counter.fill(0);
  }

  #begin(hi: number, lo: number): void {
    this.#counterView.setUint32(4, hi);
    this.#counterView.setUint32(8, lo);
    this.#counterView.setUint32(12, 1);
  }
}

function writeWord(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word >>> 24;
  bytes[at + 1] = word >>> 16;
  bytes[at + 2] = word >>> 8;
  bytes[at + 3] = word;
}
