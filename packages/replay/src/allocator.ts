import { TWO_32 } from './esn.ts';
import { ALLOCATOR_VERSION, AllocatorWord, LINE_BYTES } from './layout.ts';

export interface AllocatorOptions {
  readonly esn: boolean;
  /** Greatest number to hand out; 2^32 - 1 without ESN, 2^40 - 1 with it, the default window's LIMIT. */
  readonly limit?: number;
  readonly memory?: SharedArrayBuffer;
  /** Byte offset in `memory`, a multiple of 64. */
  readonly offset?: number;
}

/**
 * The outbound numbers of one SA, for any number of workers. A burst reserves exactly what it is about to send, by a
 * compare-and-swap that saturates at the limit: an add would wrap past it and hand a number out twice, which under an
 * AEAD is a nonce used twice. Exhaustion is final; what is not used is burnt, never given back.
 */
export class SequenceAllocator {
  readonly memory: SharedArrayBuffer;
  readonly offset: number;
  /** Greatest number ever handed out. */
  readonly limit: number;
  /** How many numbers the last `reserve` gave. */
  granted = 0;
  readonly #next: BigUint64Array;

  private constructor(memory: SharedArrayBuffer, offset: number) {
    const words = new Int32Array(memory, offset, AllocatorWord.WORDS);
    if (words[AllocatorWord.VERSION] !== ALLOCATOR_VERSION)
      throw new RangeError(`no sequence allocator of this layout at offset ${offset}`);
    this.memory = memory;
    this.offset = offset;
    this.limit = (words[AllocatorWord.LIMIT_HI]! >>> 0) * TWO_32 + (words[AllocatorWord.LIMIT_LO]! >>> 0);
    this.#next = new BigUint64Array(memory, offset + AllocatorWord.NEXT * 4, 1);
  }

  static byteLength(): number {
    return AllocatorWord.WORDS * 4;
  }

  static create(options: AllocatorOptions): SequenceAllocator {
    const { esn, offset = 0 } = options;
    const most = esn ? Number.MAX_SAFE_INTEGER : TWO_32 - 1;
    const limit = options.limit ?? (esn ? 2 ** 40 - 1 : TWO_32 - 1);
    if (!Number.isSafeInteger(limit) || limit < 1 || limit > most)
      throw new RangeError(`"limit" must be from 1 to ${most}, got ${limit}`);
    const memory = options.memory ?? new SharedArrayBuffer(SequenceAllocator.byteLength());
    if (offset % LINE_BYTES !== 0) throw new RangeError(`"offset" must be a multiple of ${LINE_BYTES}, got ${offset}`);
    const words = new Int32Array(memory, offset, AllocatorWord.WORDS);
    words.fill(0);
    words[AllocatorWord.LIMIT_LO] = limit | 0;
    words[AllocatorWord.LIMIT_HI] = Math.floor(limit / TWO_32);
    new BigUint64Array(memory, offset + AllocatorWord.NEXT * 4, 1)[0] = 1n;
    Atomics.store(words, AllocatorWord.VERSION, ALLOCATOR_VERSION);
    return new SequenceAllocator(memory, offset);
  }

  /** The same allocator on another thread. */
  static attach(memory: SharedArrayBuffer, offset: number): SequenceAllocator {
    return new SequenceAllocator(memory, offset);
  }

  /**
   * Reserves up to `count` consecutive numbers; returns the first, `granted` says how many. 0 and nothing granted once
   * the limit is reached: for good. The first number is 1 (RFC 4303 3.3.2).
   */
  reserve(count: number): number {
    for (;;) {
      const seen = Atomics.load(this.#next, 0);
      const next = Number(seen);
      const left = this.limit + 1 - next;
      if (left <= 0 || count <= 0) {
        this.granted = 0;
        return 0;
      }
      const take = Math.min(count, left);
      if (Atomics.compareExchange(this.#next, 0, seen, BigInt(next + take)) === seen) {
        this.granted = take;
        return next;
      }
    }
  }

  /** The first number that nobody has been given. */
  next(): number {
    return Number(Atomics.load(this.#next, 0));
  }

  /**
   * Moves on so that `next()` is at least `number` (RFC 6311 5: a counter only ever jumps forward, after a failover or a
   * restart under the same keys). Returns whether it moved.
   */
  advanceTo(number: number): boolean {
    if (!Number.isSafeInteger(number) || number < 1 || number > this.limit + 1)
      throw new RangeError(`"number" must be from 1 to ${this.limit + 1}, got ${number}`);
    for (;;) {
      const seen = Atomics.load(this.#next, 0);
      if (Number(seen) >= number) return false;
      if (Atomics.compareExchange(this.#next, 0, seen, BigInt(number)) === seen) return true;
    }
  }
}
