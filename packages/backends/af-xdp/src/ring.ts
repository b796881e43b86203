/**
 * The four rings of a socket, as the kernel shares them (if_xdp.h): free-running 32-bit producer and consumer counts on
 * lines of their own, entries behind them. Vocabulary of libxdp: reserve, fill, submit; peek, read, release. One load of
 * the other side's count and one store of ours per batch; Atomics order them.
 */

const NEED_WAKEUP = 1;

abstract class Ring {
  protected readonly words: Int32Array;
  protected readonly entries: number;
  readonly #producer: number;
  readonly #consumer: number;
  readonly #flags: number;
  readonly #size: number;
  /** What we have seen of the other side, and where we are. */
  #producerSeen: number;
  #consumerSeen: number;

  /** `at`: byte offsets of producer, consumer, flags, entries; `size` entries, a power of two. */
  constructor(words: Int32Array, at: ArrayLike<number>, from: number, size: number) {
    this.words = words;
    this.#producer = at[from]! / 4;
    this.#consumer = at[from + 1]! / 4;
    this.#flags = at[from + 2]! / 4;
    this.entries = at[from + 3]! / 4;
    this.#size = size;
    this.#producerSeen = Atomics.load(words, this.#producer);
    this.#consumerSeen = Atomics.load(words, this.#consumer);
  }

  /** Whether the kernel wants to be told. */
  get needsWakeup(): boolean {
    return (Atomics.load(this.words, this.#flags) & NEED_WAKEUP) !== 0;
  }

  /** For a producer: entries free now, looking only when fewer than `want` are known to be. */
  protected free(want: number): number {
    let free = this.#size - ((this.#producerSeen - this.#consumerSeen) | 0);
    if (free < want) {
      this.#consumerSeen = Atomics.load(this.words, this.#consumer);
      free = this.#size - ((this.#producerSeen - this.#consumerSeen) | 0);
    }
    return this.#believed(free);
  }

  /** A count that the other side's position gives; 0 for one that no ring of this size can have: it is not followed. */
  #believed(count: number): number {
    return count >= 0 && count <= this.#size ? count : 0;
  }

  /** For a producer: index of the entry `i` places on. */
  protected next(i: number): number {
    return (this.#producerSeen + i) & (this.#size - 1);
  }

  protected submit(count: number): void {
    this.#producerSeen = (this.#producerSeen + count) | 0;
    Atomics.store(this.words, this.#producer, this.#producerSeen);
  }

  /** For a consumer: entries to read now, at most `most`. */
  protected ready(most: number): number {
    let ready = (this.#producerSeen - this.#consumerSeen) | 0;
    if (ready < most) {
      this.#producerSeen = Atomics.load(this.words, this.#producer);
      ready = (this.#producerSeen - this.#consumerSeen) | 0;
    }
    return Math.min(this.#believed(ready), most);
  }

  /** For a consumer: index of the entry `i` places on. */
  protected first(i: number): number {
    return (this.#consumerSeen + i) & (this.#size - 1);
  }

  protected release(count: number): void {
    this.#consumerSeen = (this.#consumerSeen + count) | 0;
    Atomics.store(this.words, this.#consumer, this.#consumerSeen);
  }
}

/** TX: descriptors (address, length) of frames to send. */
export class TxRing extends Ring {
  /** Entries that can be written now. */
  room(want: number): number {
    return this.free(want);
  }

  /** Writes entry `i` of the batch. The address's high half and the options are 0, as they came and as nobody changes them. */
  put(i: number, address: number, length: number): void {
    const at = this.entries + this.next(i) * 4;
    this.words[at] = address;
    this.words[at + 2] = length;
  }

  send(count: number): void {
    this.submit(count);
  }

  /** Takes the last `count` back, of which the kernel must not have seen one: it has not looked since. */
  unsend(count: number): void {
    this.submit(-count);
  }
}

/** RX: descriptors of frames that have come. */
export class RxRing extends Ring {
  peek(most: number): number {
    return this.ready(most);
  }

  address(i: number): number {
    return this.words[this.entries + this.first(i) * 4]!;
  }

  length(i: number): number {
    return this.words[this.entries + this.first(i) * 4 + 2]!;
  }

  done(count: number): void {
    this.release(count);
  }
}

/** Fill: addresses of free frames for the device to receive into. */
export class FillRing extends Ring {
  room(want: number): number {
    return this.free(want);
  }

  /** Writes entry `i` of the batch; the high half is 0 as it came. */
  put(i: number, address: number): void {
    const at = this.entries + this.next(i) * 2;
    this.words[at] = address;
  }

  give(count: number): void {
    this.submit(count);
  }
}

/** Completion: addresses of frames that have been sent. */
export class CompletionRing extends Ring {
  peek(most: number): number {
    return this.ready(most);
  }

  address(i: number): number {
    return this.words[this.entries + this.first(i) * 2]!;
  }

  done(count: number): void {
    this.release(count);
  }
}
