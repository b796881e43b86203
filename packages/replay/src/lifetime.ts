import { Column, fits, LIFETIME_VERSION, LifetimeWord } from './layout.ts';

const LIMITS = LifetimeWord.LIMITS / 2;

export interface LifetimeOptions {
  /** Numbers of packets and bytes; absent means none. A soft limit is for rekeying, a hard one ends the SA. */
  readonly softPackets?: number;
  readonly hardPackets?: number;
  readonly softBytes?: number;
  readonly hardBytes?: number;
  /** How much a worker reserves at once beyond what its burst needs; 64 packets and 4000 bytes by default. */
  readonly quotaPackets?: number;
  readonly quotaBytes?: number;
  readonly memory?: SharedArrayBuffer;
  /** Byte offset in `memory`, a multiple of 64. */
  readonly offset?: number;
}

/** Bits of `events()`. */
export const LifetimeEvent = { SOFT: 1, HARD: 2 } as const;
export type LifetimeEvent = (typeof LifetimeEvent)[keyof typeof LifetimeEvent];

/**
 * The lifetimes of one SA in packets and bytes (RFC 4301 4.4.2.1), shared by all its replicas and workers.
 *
 * A worker uses nothing that it has not reserved before, and what all have reserved never passes the hard limit: so use
 * never overshoots. What a worker has reserved and not used is its quota: so use ends short of the limit that ended it by at
 * most workers x quota, plus the packet that no longer fitted, plus a burst and a quota for each worker that was killed. The
 * first packet refused ends the SA for every worker.
 *
 *     0 .............. used by all ......... reserved by all .......... hard
 *                                 |  quotas  |
 *
 * Outbound, take lifetimes before numbers: `grant` gives a prefix of the burst, and only that prefix wants numbers.
 */
export class Lifetime {
  readonly memory: SharedArrayBuffer;
  readonly offset: number;
  readonly softPackets: number;
  readonly hardPackets: number;
  readonly softBytes: number;
  readonly hardBytes: number;
  readonly #quotaPackets: number;
  readonly #quotaBytes: number;
  /** Nothing to count: `grant` gives all until `expire`. */
  readonly #free: boolean;
  readonly #words: Int32Array;
  readonly #packets: BigUint64Array;
  readonly #bytes: BigUint64Array;
  /** What this worker has reserved and not used. */
  #packetsLeft = 0;
  #bytesLeft = 0;

  private constructor(memory: SharedArrayBuffer, offset: number) {
    fits(memory, offset, Lifetime.byteLength());
    this.#words = new Int32Array(memory, offset, LifetimeWord.WORDS);
    if (this.#words[LifetimeWord.VERSION] !== LIFETIME_VERSION)
      throw new RangeError(`no lifetime of this layout at offset ${offset}`);
    this.memory = memory;
    this.offset = offset;
    const limits = new Float64Array(memory, offset, LIMITS + 6);
    this.softPackets = limits[LIMITS]!;
    this.hardPackets = limits[LIMITS + 1]!;
    this.softBytes = limits[LIMITS + 2]!;
    this.hardBytes = limits[LIMITS + 3]!;
    this.#quotaPackets = limits[LIMITS + 4]!;
    this.#quotaBytes = limits[LIMITS + 5]!;
    this.#free = Math.min(this.softPackets, this.hardPackets, this.softBytes, this.hardBytes) === Infinity;
    this.#packets = new BigUint64Array(memory, offset + LifetimeWord.PACKETS * 4, 1);
    this.#bytes = new BigUint64Array(memory, offset + LifetimeWord.BYTES * 4, 1);
  }

  static byteLength(): number {
    return LifetimeWord.WORDS * 4;
  }

  static create(options: LifetimeOptions = {}): Lifetime {
    const { hardPackets = Infinity, hardBytes = Infinity, quotaPackets = 64, quotaBytes = 4000, offset = 0 } = options;
    const { softPackets = Infinity, softBytes = Infinity } = options;
    for (const [name, value] of Object.entries({ softPackets, hardPackets, softBytes, hardBytes }))
      if (value !== Infinity && (!Number.isSafeInteger(value) || value < 1))
        throw new RangeError(`"${name}" must be from 1 to 2^53 - 1, got ${value}`);
    for (const [name, value] of Object.entries({ quotaPackets, quotaBytes }))
      if (!Number.isInteger(value) || value < 0 || value > 2 ** 31)
        throw new RangeError(`"${name}" must be from 0 to 2^31, got ${value}`);
    const memory = options.memory ?? new SharedArrayBuffer(Lifetime.byteLength());
    fits(memory, offset, Lifetime.byteLength());
    const words = new Int32Array(memory, offset, LifetimeWord.WORDS);
    words.fill(0);
    const limits = [softPackets, hardPackets, softBytes, hardBytes, quotaPackets, quotaBytes];
    new Float64Array(memory, offset, LIMITS + 6).set(limits, LIMITS);
    Atomics.store(words, LifetimeWord.VERSION, LIFETIME_VERSION);
    return new Lifetime(memory, offset);
  }

  /** The same lifetimes on another thread, with a quota of its own. */
  static attach(memory: SharedArrayBuffer, offset: number): Lifetime {
    return new Lifetime(memory, offset);
  }

  /**
   * How many of the rows `list[from .. to)`, from the front, may be used. Of each row END - START counts as bytes, so the
   * caller decides by the moment of its call what is counted. Fewer than all means that the hard limit is reached: from
   * then on nobody is granted anything.
   */
  grant(rows: Int32Array, list: Int32Array, from: number, to: number): number {
    if ((Atomics.load(this.#words, LifetimeWord.SPENT) & LifetimeEvent.HARD) !== 0) return 0;
    if (this.#free) return to - from;
    // Bytes only for as many packets as there are: what one limit refuses must not be reserved of the other.
    this.#packetsLeft += more(this.#packets, this.#packetsLeft, to - from, this.#quotaPackets, this.hardPackets);
    let end = Math.min(to, from + this.#packetsLeft);
    let bytes = 0;
    for (let i = from; i < end; i++) bytes += lengthOf(rows, list[i]!);
    this.#bytesLeft += more(this.#bytes, this.#bytesLeft, bytes, this.#quotaBytes, this.hardBytes);
    while (bytes > this.#bytesLeft) bytes -= lengthOf(rows, list[--end]!);
    this.#packetsLeft -= end - from;
    this.#bytesLeft -= bytes;
    if (end < to) Atomics.or(this.#words, LifetimeWord.SPENT, LifetimeEvent.HARD);
    return end - from;
  }

  /**
   * A limit that is kept elsewhere, of time for instance, has been met: HARD ends the SA for every worker, from its next
   * burst on; either is told by `events`, once, whichever limit of its kind was the first.
   */
  expire(event: LifetimeEvent): void {
    Atomics.or(this.#words, LifetimeWord.SPENT, event);
  }

  /** Whether the hard limit has ended the SA. */
  spent(): boolean {
    return (Atomics.load(this.#words, LifetimeWord.SPENT) & LifetimeEvent.HARD) !== 0;
  }

  /**
   * The events that nobody has been told yet, as bits of LifetimeEvent: each is returned once, by one of all the calls on
   * all threads. Events follow from what is shared, so a worker that dies takes none with it but one that it has been told:
   * whoever must not miss any asks on the thread that acts. SOFT comes when what workers have reserved reaches the soft
   * limit: never late, and early by at most workers x quota.
   */
  events(): number {
    let due = Atomics.load(this.#words, LifetimeWord.SPENT);
    if (this.packets() >= this.softPackets || this.bytes() >= this.softBytes) due |= LifetimeEvent.SOFT;
    if ((due & ~Atomics.load(this.#words, LifetimeWord.TOLD)) === 0) return 0;
    return due & ~Atomics.or(this.#words, LifetimeWord.TOLD, due);
  }

  /** Packets reserved by all workers: at most this many have been used, and until the end at least this less workers x quota. */
  packets(): number {
    return Number(Atomics.load(this.#packets, 0));
  }

  /** Bytes reserved by all workers, as `packets`. */
  bytes(): number {
    return Number(Atomics.load(this.#bytes, 0));
  }
}

function lengthOf(rows: Int32Array, row: number): number {
  return rows[row * Column.WORDS + Column.END]! - rows[row * Column.WORDS + Column.START]!;
}

/** Reserves what is missing of `need`, and a quota beyond it, as far as the limit goes; returns how much. */
function more(counter: BigUint64Array, left: number, need: number, quota: number, limit: number): number {
  if (need <= left) return 0;
  for (let seen = Atomics.load(counter, 0); ; ) {
    const taken = Math.min(need - left + quota, limit - Number(seen));
    if (taken <= 0) return 0;
    const found = Atomics.compareExchange(counter, 0, seen, seen + BigInt(taken));
    if (found === seen) return taken;
    seen = found;
  }
}
