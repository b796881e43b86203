import { ALGORITHMS, type AlgorithmName } from './algorithm.ts';

const inspect = Symbol.for('nodejs.util.inspect.custom');

/**
 * Key material of one SA (cipher key, then salt). The bytes lie in shared memory so that workers see the same copy and
 * `wipe` clears it for all of them; copies inside an engine or V8 are beyond its reach. Never printed.
 */
export class SaKey {
  readonly #bytes: Uint8Array;

  private constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Copies `material` once. Throws RangeError when its length does not fit the algorithm. */
  static import(algorithm: AlgorithmName, material: Uint8Array): SaKey {
    const want = ALGORITHMS[algorithm].keyLength;
    if (material.length !== want)
      throw new RangeError(`a key for ${algorithm} has ${want} bytes (salt included), got ${material.length}`);
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
    return '[SaKey]';
  }

  toJSON(): string {
    return '[SaKey]';
  }

  [inspect](): string {
    return '[SaKey]';
  }
}
