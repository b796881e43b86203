import type { CryptoEngine } from '@espalier/xfrm';
import { GHASH } from '@noble/ciphers/_polyval.js';
import { unsafe } from '@noble/ciphers/aes.js';
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { type Aead, AeadEngine } from '../aead-engine.ts';
import { equalBytes } from '../constant-time.ts';

const ICV = 16;
/** noble sizes its GHASH table by the length it is told to expect; this asks for the middle one (512 entries). */
const EXPECTED_BYTES = 2048;

/** noble's CTR wants 4-byte alignment, which a payload behind an Ethernet header does not have. One per thread. */
const ALIGNED: Uint8Array = new Uint8Array(65_536);

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

/**
 * AES-GCM from noble's public pieces, with what depends on the key alone (key schedule, GHASH table) kept per SA: noble's
 * own `gcm()` derives both per call. The ICV is verified before anything is decrypted.
 */
class NobleGcm implements Aead {
  readonly #schedule: Uint32Array;
  readonly #ghash: SaGhash;
  readonly #counter: Uint8Array = new Uint8Array(16);
  readonly #mask: Uint8Array = new Uint8Array(16);
  readonly #tag: Uint8Array = new Uint8Array(16);
  readonly #lengths: Uint8Array = new Uint8Array(16);
  readonly #lengthsView: DataView = new DataView(this.#lengths.buffer);

  constructor(key: Uint8Array) {
    this.#schedule = unsafe.expandKeyLE(key);
    const h = new Uint8Array(16);
    unsafe.encryptBlock(this.#schedule, h);
    this.#ghash = new SaGhash(h, EXPECTED_BYTES);
    h.fill(0);
  }

  seal(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): void {
    this.#begin(nonce);
    this.#crypt(bytes, start, end);
    this.#authenticate(bytes.subarray(start, end), aad);
    bytes.set(this.#tag, end);
  }

  open(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): boolean {
    this.#begin(nonce);
    this.#authenticate(bytes.subarray(start, end), aad);
    if (!equalBytes(this.#tag, 0, bytes, end, ICV)) return false;
    this.#crypt(bytes, start, end);
    return true;
  }

  /** The first counter block masks the tag, the next ones are the key stream (NIST SP 800-38D 7.1). */
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

  #crypt(bytes: Uint8Array, start: number, end: number): void {
    const work = ALIGNED.subarray(0, end - start);
    work.set(bytes.subarray(start, end));
    unsafe.ctr32(this.#schedule, false, this.#counter, work, work);
    bytes.set(work, start);
    work.fill(0);
  }

  #authenticate(data: Uint8Array, aad: Uint8Array): void {
    this.#lengthsView.setUint32(4, aad.length * 8);
    this.#lengthsView.setUint32(12, data.length * 8);
    const ghash = this.#ghash;
    ghash.reset();
    ghash.update(aad).update(data).update(this.#lengths).digestInto(this.#tag);
    for (let i = 0; i < ICV; i++) this.#tag[i] = this.#tag[i]! ^ this.#mask[i]!;
  }
}

class NobleChacha implements Aead {
  readonly #key: Uint8Array;

  constructor(key: Uint8Array) {
    this.#key = key.slice();
  }

  seal(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): void {
    bytes.set(chacha20poly1305(this.#key, nonce, aad).encrypt(bytes.subarray(start, end)), start);
  }

  open(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): boolean {
    let plain: Uint8Array;
    try {
      plain = chacha20poly1305(this.#key, nonce, aad).decrypt(bytes.subarray(start, end + ICV));
    } catch {
      return false; // noble says "invalid tag" by throwing, before it decrypts
    }
    bytes.set(plain, start);
    return true;
  }
}

const gcm = (key: Uint8Array): Aead => new NobleGcm(key);

/** Pure JavaScript on @noble/ciphers, everywhere. AES there uses tables: not constant-time against a local attacker. */
export function nobleEngine(): CryptoEngine {
  return new AeadEngine('noble', {
    aes128gcm16: gcm,
    aes192gcm16: gcm,
    aes256gcm16: gcm,
    chacha20poly1305: (key) => new NobleChacha(key),
  });
}
