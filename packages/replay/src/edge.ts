import { WindowWord } from './layout.ts';

/** The edge of a window: the region of the greatest announced number. It only rises. */
export class Edge {
  /** Swaps that found another edge than expected; this worker's. */
  swapFailures = 0;
  readonly #words: Int32Array;
  /** Where 32 bits of regions do not reach LIMIT, else null. */
  readonly #wide: BigUint64Array | null;

  /** `words` begin where the window does. */
  constructor(words: Int32Array, wide: boolean) {
    this.#words = words;
    this.#wide = wide ? new BigUint64Array(words.buffer, words.byteOffset + WindowWord.EDGE * 4, 1) : null;
  }

  load(): number {
    return this.#wide === null ? Atomics.load(this.#words, WindowWord.EDGE) >>> 0 : Number(Atomics.load(this.#wide, 0));
  }

  /** Raises the edge from what was loaded to `region`. */
  raise(seen: number, region: number): void {
    while (seen < region) {
      const found =
        this.#wide === null
          ? Atomics.compareExchange(this.#words, WindowWord.EDGE, seen | 0, region | 0) >>> 0
          : Number(Atomics.compareExchange(this.#wide, 0, BigInt(seen), BigInt(region)));
      if (found === seen) return;
      this.swapFailures++;
      seen = found;
    }
  }
}
