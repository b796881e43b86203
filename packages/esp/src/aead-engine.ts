import { type Burst, Row, RowState } from '@espalier/wire';
import {
  ALGORITHMS,
  type AlgorithmName,
  type CryptoEngine,
  type EngineKeyOptions,
  type SaKey,
  XfrmError,
} from '@espalier/xfrm';

/** One keyed AEAD. `aad` and `nonce` are the engine's scratch: read them, do not keep them. */
export interface Aead {
  /** Encrypts `bytes[start, end)` in place and writes the ICV at `end`. */
  seal(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): void;
  /** Decrypts `bytes[start, end)` in place if the ICV at `end` holds; otherwise returns false (the engine zeroes the payload). */
  open(bytes: Uint8Array, start: number, end: number, nonce: Uint8Array, aad: Uint8Array): boolean;
}

/** Makes an Aead from a cipher key without salt; may keep copies of what it derives from it. */
export type AeadFactory = (cipherKey: Uint8Array) => Aead;

interface Key {
  readonly aead: Aead;
  readonly salt: Uint8Array;
  readonly ivLength: number;
  readonly icvLength: number;
  readonly esn: boolean;
}

const SPI = 0;
const AAD_LENGTH = 8;
const AAD_ESN_LENGTH = 12;

/**
 * A CryptoEngine over AEADs with an 8-byte IV: the nonce is salt | IV (RFC 4106 4, RFC 7634 2), the associated data is
 * SPI | number, 32 or 64 bits of it (RFC 4106 5). The IV is the number: RFC 4106 3.1 asks that it never repeat under one
 * key, and one allocator for all workers and replicas sees to that.
 */
export class AeadEngine implements CryptoEngine {
  readonly name: string;
  readonly algorithms: readonly AlgorithmName[];
  readonly #factories: Readonly<Partial<Record<AlgorithmName, AeadFactory>>>;
  readonly #keys: (Key | null)[] = [null];
  readonly #free: number[] = [];
  readonly #nonce: Uint8Array = new Uint8Array(12);
  readonly #aad: Uint8Array = new Uint8Array(AAD_LENGTH);
  readonly #aadEsn: Uint8Array = new Uint8Array(AAD_ESN_LENGTH);

  constructor(name: string, factories: Readonly<Partial<Record<AlgorithmName, AeadFactory>>>) {
    this.name = name;
    this.#factories = factories;
    this.algorithms = Object.keys(factories) as AlgorithmName[];
  }

  install(algorithm: AlgorithmName, key: SaKey, options: EngineKeyOptions): number {
    const factory = this.#factories[algorithm];
    if (!factory) throw new XfrmError({ code: 'UNSUPPORTED', device: `engine ${this.name}`, what: algorithm });
    const { keyLength, saltLength, ivLength, icvLength } = ALGORITHMS[algorithm];
    const icv = options.icvLength ?? icvLength;
    if (icv !== icvLength)
      throw new XfrmError({
        code: 'UNSUPPORTED',
        device: `engine ${this.name}`,
        what: `${algorithm} with an ICV of ${icv} bytes`,
      });
    const material = key.reveal().slice();
    const entry: Key = {
      aead: factory(material.subarray(0, keyLength - saltLength)),
      salt: material.slice(keyLength - saltLength),
      ivLength,
      icvLength: icv,
      esn: options.esn,
    };
    material.fill(0);
    const number = this.#free.pop() ?? this.#keys.length;
    this.#keys[number] = entry;
    return number;
  }

  remove(key: number): void {
    if (!this.#keys[key]) throw new RangeError(`no key ${key} in engine ${this.name}`);
    this.#keys[key]!.salt.fill(0);
    this.#keys[key] = null;
    this.#free.push(key);
  }

  seal(burst: Burst): void {
    const { rows, list, slab } = burst;
    const { bytes } = slab;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.STATE] !== RowState.TO_SEAL || rows[r + Row.FATE] !== 0) continue;
      const key = this.#keys[rows[r + Row.KEY]!];
      if (!key) continue;
      const esp = rows[r + Row.ESP]!;
      const iv = esp + 8;
      writeWord(bytes, iv, key.esn ? rows[r + Row.SEQ_HI]! : 0);
      writeWord(bytes, iv + 4, rows[r + Row.SEQ_LO]!);
      const aad = this.#prepare(key, bytes, esp, rows[r + Row.SEQ_HI]!);
      key.aead.seal(bytes, iv + key.ivLength, rows[r + Row.END]! - key.icvLength, this.#nonce, aad);
      rows[r + Row.STATE] = RowState.SEALED;
    }
  }

  open(burst: Burst): void {
    const { rows, list, slab } = burst;
    const { bytes } = slab;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.STATE] !== RowState.RECEIVED || rows[r + Row.FATE] !== 0) continue;
      const key = this.#keys[rows[r + Row.KEY]!];
      if (!key) continue;
      const esp = rows[r + Row.ESP]!;
      const start = esp + 8 + key.ivLength;
      const end = rows[r + Row.END]! - key.icvLength;
      const aad = this.#prepare(key, bytes, esp, rows[r + Row.SEQ_HI]!);
      if (end >= start && key.aead.open(bytes, start, end, this.#nonce, aad)) {
        rows[r + Row.STATE] = RowState.OPENED;
      } else {
        bytes.fill(0, Math.min(start, end), end);
        rows[r + Row.STATE] = RowState.ICV_BAD;
      }
    }
  }

  /** Fills the nonce from the salt and the IV in the packet; returns the associated data. */
  #prepare(key: Key, bytes: Uint8Array, esp: number, seqHi: number): Uint8Array {
    const nonce = this.#nonce;
    for (let i = 0; i < 4; i++) nonce[i] = key.salt[i]!;
    for (let i = 0; i < 8; i++) nonce[4 + i] = bytes[esp + 8 + i]!;
    if (!key.esn) {
      for (let i = 0; i < AAD_LENGTH; i++) this.#aad[i] = bytes[esp + i]!;
      return this.#aad;
    }
    const aad = this.#aadEsn;
    for (let i = 0; i < 4; i++) {
      aad[SPI + i] = bytes[esp + i]!;
      aad[8 + i] = bytes[esp + 4 + i]!;
    }
    writeWord(aad, 4, seqHi);
    return aad;
  }
}

function writeWord(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word >>> 24;
  bytes[at + 1] = word >>> 16;
  bytes[at + 2] = word >>> 8;
  bytes[at + 3] = word;
}
