import type { Burst } from '@espalier/wire';
import type { AlgorithmName, CryptoEngine, EngineKeyOptions, SaKey } from '@espalier/xfrm';

/** Where the second engine's key numbers begin: above any that a first one gives out. */
export const SECOND_KEYS: number = 1 << 24;

/** A fast engine and a broad one as one: what the first has not got, the second does. */
class JointEngine implements CryptoEngine {
  readonly name: string;
  readonly algorithms: readonly AlgorithmName[];
  readonly #first: CryptoEngine;
  readonly #second: CryptoEngine;
  #secondKeys = 0;

  constructor(first: CryptoEngine, second: CryptoEngine) {
    this.name = first.name;
    this.algorithms = [...new Set([...first.algorithms, ...second.algorithms])];
    this.#first = first;
    this.#second = second;
  }

  install(algorithm: AlgorithmName, key: SaKey, options: EngineKeyOptions): number {
    if (this.#first.algorithms.includes(algorithm)) return this.#first.install(algorithm, key, options);
    const number = this.#second.install(algorithm, key, options);
    this.#secondKeys++;
    return number;
  }

  remove(key: number): void {
    if (key < SECOND_KEYS) this.#first.remove(key);
    else {
      this.#second.remove(key);
      this.#secondKeys--;
    }
  }

  seal(burst: Burst): void {
    this.#first.seal(burst);
    if (this.#secondKeys > 0) this.#second.seal(burst);
  }

  open(burst: Burst): number {
    const opened = this.#first.open(burst);
    return this.#secondKeys > 0 ? opened + this.#second.open(burst) : opened;
  }
}

/** `second` must number its keys from SECOND_KEYS on (`firstKey`), so that a row is one engine's or the other's. */
export function jointEngine(first: CryptoEngine, second: CryptoEngine): CryptoEngine {
  return new JointEngine(first, second);
}
