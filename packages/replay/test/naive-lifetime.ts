import { LifetimeEvent } from '../src/index.ts';
import { Column, LifetimeWord } from '../src/layout.ts';

const LIMITS = LifetimeWord.LIMITS / 2;

/**
 * A lifetime as one thread would keep it, put into shared memory as it stands: read, add, write. It is wrong there (two
 * workers reserve the same packets, and both tell of what both have found untold), and every race must find that out.
 */
export class NaiveLifetime {
  readonly softPackets: number;
  readonly softBytes: number;
  readonly #hardPackets: number;
  readonly #hardBytes: number;
  readonly #quotas: Float64Array;
  readonly #words: Int32Array;
  /** What this worker has reserved and not used. */
  #packetsLeft = 0;
  #bytesLeft = 0;

  private constructor(memory: SharedArrayBuffer, offset: number) {
    const limits = new Float64Array(memory, offset, LIMITS + 6);
    [this.softPackets, this.#hardPackets, this.softBytes, this.#hardBytes] = limits.subarray(
      LIMITS,
      LIMITS + 4,
    ) as unknown as [number, number, number, number];
    this.#quotas = limits.subarray(LIMITS + 4);
    this.#words = new Int32Array(memory, offset, LifetimeWord.WORDS);
  }

  static attach(memory: SharedArrayBuffer, offset: number): NaiveLifetime {
    return new NaiveLifetime(memory, offset);
  }

  grant(rows: Int32Array, list: Int32Array, from: number, to: number): number {
    if (this.spent()) return 0;
    let i = from;
    for (; i < to; i++) {
      const length = rows[list[i]! * Column.WORDS + Column.END]!;
      if (this.#packetsLeft < 1)
        this.#packetsLeft += this.#take(LifetimeWord.PACKETS, 1 + this.#quotas[0]!, this.#hardPackets);
      if (this.#bytesLeft < length)
        this.#bytesLeft += this.#take(LifetimeWord.BYTES, length + this.#quotas[1]!, this.#hardBytes);
      if (this.#packetsLeft < 1 || this.#bytesLeft < length) break;
      this.#packetsLeft--;
      this.#bytesLeft -= length;
    }
    if (i < to) this.#words[LifetimeWord.SPENT] = this.#words[LifetimeWord.SPENT]! | LifetimeEvent.HARD;
    return i - from;
  }

  #take(word: number, wanted: number, limit: number): number {
    const taken = Math.max(0, Math.min(wanted, limit - this.#words[word]!));
    this.#words[word] = this.#words[word]! + taken;
    return taken;
  }

  spent(): boolean {
    return (this.#words[LifetimeWord.SPENT]! & LifetimeEvent.HARD) !== 0;
  }

  events(): number {
    let due = this.#words[LifetimeWord.SPENT]!;
    if (this.packets() >= this.softPackets || this.bytes() >= this.softBytes) due |= LifetimeEvent.SOFT;
    due &= ~this.#words[LifetimeWord.TOLD]!;
    this.#words[LifetimeWord.TOLD] = this.#words[LifetimeWord.TOLD]! | due;
    return due;
  }

  packets(): number {
    return this.#words[LifetimeWord.PACKETS]!;
  }

  bytes(): number {
    return this.#words[LifetimeWord.BYTES]!;
  }
}
