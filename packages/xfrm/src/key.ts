import { ALGORITHMS, type AlgorithmName } from './algorithm.ts';
import { XfrmError } from './errors.ts';

const inspect = Symbol.for('nodejs.util.inspect.custom');
const HIDDEN = '[SaKey]';

/** Key material taken apart: views into it, in the order in which they lie. */
export interface KeyParts {
  readonly cipher: Uint8Array;
  readonly salt: Uint8Array;
  readonly integrity: Uint8Array;
}

/**
 * Key material of one SA: cipher key, salt, integrity key, as IKEv2 takes them from its key stream (RFC 7296 2.17). The
 * bytes lie in shared memory so that workers see the same copy and `wipe` clears it for all of them. Copies are beyond
 * its reach: the caller's own, node:crypto's (a KeyObject goes with the garbage), and what a moving collector left
 * behind. Never printed: not by String, JSON or inspect, nor is its memory, nor does any error quote it.
 */
export class SaKey {
  readonly #bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    conceal(bytes.buffer as SharedArrayBuffer, HIDDEN);
  }

  /**
   * Copies `material` once. Throws XfrmError UNSUPPORTED for a transform there is no such name for, encryption without
   * integrity included; RangeError when the length does not fit.
   */
  static import(algorithm: AlgorithmName, material: Uint8Array): SaKey {
    if (!Object.hasOwn(ALGORITHMS, algorithm))
      throw new XfrmError({ code: 'UNSUPPORTED', device: 'espalier', what: `transform ${algorithm}` });
    const want = ALGORITHMS[algorithm].keyLength;
    if (material.length !== want)
      throw new RangeError(`a key for ${algorithm} has ${want} bytes (${describe(algorithm)}), got ${material.length}`);
    const bytes = new Uint8Array(new SharedArrayBuffer(want));
    bytes.set(material);
    return new SaKey(bytes);
  }

  /** The same key on another thread. */
  static attach(memory: SharedArrayBuffer): SaKey {
    return new SaKey(new Uint8Array(memory));
  }

  /** For `postMessage` to `attach`. */
  share(): SharedArrayBuffer {
    return this.#bytes.buffer as SharedArrayBuffer;
  }

  /** The bytes themselves, for an engine's `install` and a device's key table. Do not keep or print them. */
  reveal(): Uint8Array {
    return this.#bytes;
  }

  /** Overwrites the shared bytes with zeros. */
  wipe(): void {
    this.#bytes.fill(0);
  }

  toString(): string {
    return HIDDEN;
  }

  toJSON(): string {
    return HIDDEN;
  }

  [inspect](): string {
    return HIDDEN;
  }
}

/**
 * Makes inspect, String and JSON print `as` for memory or bytes that hold keys, instead of their contents. Of this object
 * alone: each thread that attaches the memory, and each copy or view of the bytes, conceals its own.
 */
export function conceal<T extends SharedArrayBuffer | Uint8Array>(holder: T, as: string): T {
  const value = (): string => as;
  if (!Object.hasOwn(holder, inspect))
    Object.defineProperties(holder, { [inspect]: { value }, toString: { value }, toJSON: { value } });
  return holder;
}

/** Where each part of `material` lies. */
export function keyParts(algorithm: AlgorithmName, material: Uint8Array): KeyParts {
  const { cipherKeyLength, saltLength } = ALGORITHMS[algorithm];
  const salt = cipherKeyLength + saltLength;
  return {
    cipher: material.subarray(0, cipherKeyLength),
    salt: material.subarray(cipherKeyLength, salt),
    integrity: material.subarray(salt),
  };
}

function describe(algorithm: AlgorithmName): string {
  const { cipherKeyLength, saltLength, integrityKeyLength } = ALGORITHMS[algorithm];
  const parts = [
    [cipherKeyLength, 'cipher'],
    [saltLength, 'salt'],
    [integrityKeyLength, 'integrity'],
  ] as const;
  return parts
    .filter(([length]) => length > 0)
    .map(([length, name]) => `${name} ${length}`)
    .join(', ');
}
