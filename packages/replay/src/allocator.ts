import { TWO_32 } from './esn.ts';
import { ALLOCATOR_VERSION, AllocatorWord, fits } from './layout.ts';

export interface AllocatorOptions {
  readonly esn: boolean;
  /** Greatest number to hand out; 2^32 - 1 without ESN, 2^40 - 1 with it, the default window's LIMIT. */
  readonly limit?: number;
  /** Where to begin to rekey; nine tenths of `limit` by default. */
  readonly soft?: number;
  /**
   * The keys outlive this memory: nothing is handed out beyond the mark that `persisted` has raised, so that a restart
   * which goes on after it cannot use a number twice. Default false: no mark.
   */
  readonly marked?: boolean;
  readonly memory?: SharedArrayBuffer;
  /** Byte offset in `memory`, a multiple of 64. */
  readonly offset?: number;
}

/**
 * The outbound numbers of one SA, for any number of workers. A burst reserves exactly what it is about to send, by a
 * compare-and-swap that saturates at the limit: an add would wrap past it and hand a number out twice, which under an
 * AEAD is a nonce used twice. Exhaustion is final; what is not used is burnt, never given back.
 *
 * Restart under the same keys: numbers go out only up to a mark that was made durable before.
 *
 *     1 ......... next ......... mark ......... limit           const m = a.mark(100_000); save(m); a.persisted(m);
 *     handed out |  free to use  |  not yet                     after a restart:  create({ marked }), advanceTo(m + 1)
 */
export class SequenceAllocator {
  readonly memory: SharedArrayBuffer;
  readonly offset: number;
  /** Greatest number ever handed out. */
  readonly limit: number;
  /** Beyond this it is time to rekey. */
  readonly soft: number;
  /** How many numbers the last `reserve` gave. */
  granted = 0;
  /** Compare-and-swaps that found another value than expected; this worker's, for tests and reports. */
  swapFailures = 0;
  /** One 64-bit word, swapped once per burst: two halves cannot be, and a worker that slept on one would reuse numbers. */
  readonly #next: BigUint64Array;
  readonly #mark: BigUint64Array;
  /** The counter as last seen: what the next swap expects, so that a lone worker needs one atomic per burst. */
  #seen = 1n;
  /** The mark as last seen; it only rises. */
  #seenMark = 0;

  private constructor(memory: SharedArrayBuffer, offset: number) {
    fits(memory, offset, SequenceAllocator.byteLength());
    const words = new Int32Array(memory, offset, AllocatorWord.WORDS);
    if (words[AllocatorWord.VERSION] !== ALLOCATOR_VERSION)
      throw new RangeError(`no sequence allocator of this layout at offset ${offset}`);
    this.memory = memory;
    this.offset = offset;
    this.limit = readNumber(words, AllocatorWord.LIMIT_LO);
    this.soft = readNumber(words, AllocatorWord.SOFT_LO);
    this.#next = new BigUint64Array(memory, offset + AllocatorWord.NEXT * 4, 1);
    this.#mark = new BigUint64Array(memory, offset + AllocatorWord.MARK * 4, 1);
  }

  static byteLength(): number {
    return AllocatorWord.WORDS * 4;
  }

  static create(options: AllocatorOptions): SequenceAllocator {
    const { esn, offset = 0, marked = false } = options;
    const most = esn ? Number.MAX_SAFE_INTEGER - 1 : TWO_32 - 1;
    const limit = options.limit ?? (esn ? 2 ** 40 - 1 : TWO_32 - 1);
    if (!Number.isSafeInteger(limit) || limit < 1 || limit > most)
      throw new RangeError(`"limit" must be from 1 to ${most}, got ${limit}`);
    const soft = options.soft ?? Math.floor(limit * 0.9);
    if (!Number.isSafeInteger(soft) || soft < 0 || soft > limit)
      throw new RangeError(`"soft" must be from 0 to ${limit}, got ${soft}`);
    const memory = options.memory ?? new SharedArrayBuffer(SequenceAllocator.byteLength());
    fits(memory, offset, SequenceAllocator.byteLength());
    const words = new Int32Array(memory, offset, AllocatorWord.WORDS);
    words.fill(0);
    writeNumber(words, AllocatorWord.LIMIT_LO, limit);
    writeNumber(words, AllocatorWord.SOFT_LO, soft);
    writeNumber(words, AllocatorWord.NEXT, 1);
    writeNumber(words, AllocatorWord.MARK, marked ? 0 : limit);
    Atomics.store(words, AllocatorWord.VERSION, ALLOCATOR_VERSION);
    return new SequenceAllocator(memory, offset);
  }

  /** The same allocator on another thread. Throws RangeError on memory that holds no allocator of this layout. */
  static attach(memory: SharedArrayBuffer, offset: number): SequenceAllocator {
    return new SequenceAllocator(memory, offset);
  }

  /**
   * Reserves up to `count` consecutive numbers; returns the first, `granted` says how many. 0 and nothing granted once
   * the limit is reached (`exhausted`: for good) or until the mark is raised. The first number is 1 (RFC 4303 3.3.2).
   */
  reserve(count: number): number {
    for (;;) {
      const seen = this.#seen;
      const next = Number(seen);
      if (next + count > this.#seenMark + 1) this.#seenMark = Number(Atomics.load(this.#mark, 0));
      const take = Math.min(count, this.#seenMark + 1 - next);
      if (take <= 0) {
        // What was seen may be old, but never too high: the counter only rises.
        this.granted = 0;
        return 0;
      }
      const found = Atomics.compareExchange(this.#next, 0, seen, BigInt(next + take));
      if (found === seen) {
        this.#seen = BigInt(next + take);
        this.granted = take;
        return next;
      }
      this.swapFailures++;
      this.#seen = found;
    }
  }

  /** The first number that nobody has been given. */
  next(): number {
    return Number(Atomics.load(this.#next, 0));
  }

  /** Whether the last number is out: for good. */
  exhausted(): boolean {
    return this.next() > this.limit;
  }

  /**
   * Moves on so that `next()` is at least `number` (RFC 6311 5: a counter only ever jumps forward, after a failover or a
   * restart under the same keys). Returns whether it moved.
   */
  advanceTo(number: number): boolean {
    if (!Number.isSafeInteger(number) || number < 1 || number > this.limit + 1)
      throw new RangeError(`"number" must be from 1 to ${this.limit + 1}, got ${number}`);
    return raise(this.#next, number);
  }

  /** The number to make durable so that `ahead` more can be handed out; nothing changes until `persisted` is told. */
  mark(ahead: number): number {
    if (!Number.isSafeInteger(ahead) || ahead < 1) throw new RangeError(`"ahead" must be at least 1, got ${ahead}`);
    return Math.min(this.limit, this.next() - 1 + ahead);
  }

  /**
   * `mark` is durable: numbers up to it may be handed out. Whoever restarts under the same keys goes on behind the last
   * mark that was made durable, which is never behind a number that went out.
   */
  persisted(mark: number): void {
    if (!Number.isSafeInteger(mark) || mark < 0 || mark > this.limit)
      throw new RangeError(`"mark" must be from 0 to ${this.limit}, got ${mark}`);
    raise(this.#mark, mark);
  }

  /** How many numbers `reserve` would still give before the mark has to be raised, or the limit is reached. */
  left(): number {
    return Math.max(0, Number(Atomics.load(this.#mark, 0)) + 1 - this.next());
  }
}

/** Raises a 64-bit word to at least `number`; whether it was lower. */
function raise(word: BigUint64Array, number: number): boolean {
  const wanted = BigInt(number);
  for (let seen = Atomics.load(word, 0); seen < wanted; ) {
    const found = Atomics.compareExchange(word, 0, seen, wanted);
    if (found === seen) return true;
    seen = found;
  }
  return false;
}

function readNumber(words: Int32Array, lo: number): number {
  return (words[lo + 1]! >>> 0) * TWO_32 + (words[lo]! >>> 0);
}

/** Before anybody else can see the memory. */
function writeNumber(words: Int32Array, lo: number, number: number): void {
  words[lo] = number | 0;
  words[lo + 1] = Math.floor(number / TWO_32);
}
