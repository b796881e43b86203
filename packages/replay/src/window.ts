/**
 * The anti-replay window of one SA, shared without a lock by every worker and every replica (RFC 4303 3.4.3).
 *
 *     numbers      ... |<------------- size ------------->|
 *                      bottom                            top
 *     regions of G     '----'----'----'----'----'----'----'----'         EDGE = region of the greatest announced number
 *     blocks of 8      '-'-'-'-'-'-'-'-'-'-'-'-'-'-'-'-'-'-'-'           block b lives in word b mod N
 *     a word           [ tag 24 bits | one bit for each of 8 numbers ]   tag = floor(b / N): which lap of the ring
 *
 * A number is taken by ONE compare-and-swap that turns its bit on under its tag. Why nothing is ever taken twice:
 *
 *  1. A word only rises. The swap either adds bits under the same tag or replaces an older tag by a newer one. Tags are
 *     compared by order and are exact for the life of the SA (that is what LIMIT is for), so a recycled word can never
 *     look like an older lap again. Hence the swap that turns a given bit on under a given tag exists once: of any number
 *     of concurrent copies one wins, whatever the order of loads, jumps, and crashes between any two steps.
 *  2. The edge only prunes. Rows are judged by the edge as the burst found it, and it is raised before words are touched.
 *     It may make an old number STALE; it can make no number fresh.
 *  3. The edge is coarse: it names a region of G numbers, so that it moves, and its cache line travels, once per G
 *     numbers. Where the missing bits of precision matter, within G of the left edge, the words of the edge's region are
 *     looked at, and the answer is exact again.
 *
 * The atomic steps of a burst, in this order:
 *
 *     check     load EDGE; read the word of each block once (and LOOK)              writes nothing shared
 *     commit    load EDGE; read words that check has not (and LOOK); raise EDGE by compare-and-swap when the burst goes
 *               beyond it; one compare-and-swap per word, expecting what was read
 *
 * What a burst asks of each word its check has found out already (Wish). Where every row still stands, with its number, and
 * the edge is the same, the commit takes that over; else it goes through the rows again, one by one.
 *
 * Nothing waits for anybody: a worker that dies between two steps leaves a window that is right for all the others.
 * The Promela models in `model/` and the explorer in `test/` check this against every interleaving of small instances.
 */
import { Accounts } from './accounts.ts';
import { Blocks, Entry } from './blocks.ts';
import { Edge } from './edge.ts';
import { reconstruct, TWO_32 } from './esn.ts';
import { bytesOf, readHeader, ringOf, writeHeader } from './header.ts';
import { Judge } from './judge.ts';
import { Column, Verdict } from './layout.ts';
import { peek } from './peek.ts';
import { Ring } from './ring.ts';
import { BLOCK, LOG_BLOCK, shapeOf, type WindowOptions } from './shape.ts';
import { Wish } from './wish.ts';

const { SEQ_LO, SEQ_HI, FATE } = Column;
const { TAG, SEEN, MASK } = Entry;
/** Further from the first sure number than any that is judged the short way. */
const UNREACHED = 0x7fff_ffff;

/** Where something lies that is shared: its own memory by default. */
export interface Place {
  readonly memory?: SharedArrayBuffer;
  /** Byte offset in `memory`, a multiple of 64. */
  readonly offset?: number;
}

export class ReplayWindow {
  readonly memory: SharedArrayBuffer;
  readonly offset: number;
  readonly size: number;
  readonly esn: boolean;
  /** Greatest number accepted; beyond it the SA is EXHAUSTED. */
  readonly limit: number;
  /** Nine tenths of `limit`: time to rekey once `top()` has reached it. */
  readonly soft: number;
  readonly #edge: Edge;
  readonly #ring: Ring;
  readonly #judge: Judge;
  readonly #accounts: Accounts;
  readonly #region: number;
  readonly #blocks: Blocks = new Blocks();
  readonly #wish: Wish = new Wish();
  /** How far behind the greatest number before it an accepted row has been at most, in whole blocks. */
  #settled = 0.5;

  private constructor(memory: SharedArrayBuffer, offset: number, worker: number) {
    const shape = readHeader(memory, offset);
    if (!Number.isInteger(worker) || worker < 0 || worker >= shape.workers)
      throw new RangeError(`"worker" must be from 0 to ${shape.workers - 1}, got ${worker}`);
    this.memory = memory;
    this.offset = offset;
    this.size = shape.size;
    this.esn = shape.esn;
    this.limit = shape.limit;
    this.soft = Math.floor(shape.limit * 0.9);
    const words = new Int32Array(memory, offset, ringOf(shape) + 2 ** shape.logBlocks);
    this.#region = 1 << shape.logRegion;
    this.#edge = new Edge(words, shape.limit >= this.#region * TWO_32);
    this.#ring = new Ring(words, shape);
    this.#judge = new Judge(shape, this.#ring);
    this.#accounts = new Accounts(words, shape.workers, worker);
  }

  /** Bytes of shared memory that a window takes. */
  static byteLength(options: WindowOptions): number {
    return bytesOf(shapeOf(options));
  }

  /** A window that has seen nothing; number 0 is taken from the start, since no packet carries it (RFC 4303 3.3.2). */
  static create(options: WindowOptions & Place): ReplayWindow {
    const shape = shapeOf(options);
    const { offset = 0, memory = new SharedArrayBuffer(bytesOf(shape)) } = options;
    writeHeader(memory, offset, shape);
    return new ReplayWindow(memory, offset, 0);
  }

  /**
   * The same window on another thread; `worker` names the line of accounts that this thread alone writes. Throws
   * RangeError on memory that holds no window of this layout.
   */
  static attach(memory: SharedArrayBuffer, offset: number, worker = 0): ReplayWindow {
    return new ReplayWindow(memory, offset, worker);
  }

  /**
   * Before the ICV: advises, and writes nothing shared. Rows `list[from .. to)` of this window without a FATE get their
   * high half (once: a SEQ_HI other than -1 stays) and a FATE if they need not be opened. Copies inside one burst all
   * stay: the first may be forged. Returns how many got a FATE.
   */
  checkBurst(rows: Int32Array, list: Int32Array, from: number, to: number): number {
    // Literals where V8 sees them, each held to its table by its type, and a row as a multiple of 16 whose words need no
    // overflow check: a fifth of the time.
    const SEQ_LO: typeof Column.SEQ_LO = 6;
    const SEQ_HI: typeof Column.SEQ_HI = 7;
    const FATE: typeof Column.FATE = 9;
    const TAKEN: typeof Entry.TAKEN = 6;
    const MASK: typeof Entry.MASK = 7;
    const blocks = this.#blocks;
    const judge = this.#judge;
    blocks.begin(to - from);
    judge.by(this.#edge.load());
    const { table } = blocks;
    const sureLo = judge.sureLo | 0;
    const sureHi = judge.sureHi | 0;
    const room = judge.room | 0;
    const end = to | 0;
    let i = (from - 1) | 0;
    let block = -1;
    let entry = 0;
    /** Bits of the block at hand that are taken, or asked for by rows before. */
    let seen = 0;
    let taken = 0;
    const lows = this.#wish.begin(to);
    let refused = 0;
    let run = judge.edgeAhead | 0;
    let late = 0;
    for (;;) {
      let r = 0;
      let lo = 0;
      let hi = 0;
      // Rows of one block that lies in the window whole.
      for (;;) {
        if (++i >= end) break;
        r = list[i]! << 4;
        if (rows[r | FATE] !== 0) continue;
        lo = rows[r | SEQ_LO]!;
        hi = rows[r | SEQ_HI]!;
        if (lo >>> 3 !== block || (hi !== -1 && hi !== sureHi)) break;
        rows[r | SEQ_HI] = sureHi;
        const bit = 1 << (lo & 7);
        if ((seen & bit) !== 0) {
          if ((taken & bit) !== 0) {
            rows[r | FATE] = taken < 0 ? Verdict.STALE : Verdict.REPLAYED;
            refused = (refused + 1) | 0;
            continue;
          }
          late = UNREACHED;
        }
        seen |= bit;
        lows[i] = lo;
      }
      if (block >= 0) {
        const mask = seen & ~taken;
        table[entry | MASK] = mask;
        const last = ((block << 3) - sureLo + 31 - Math.clz32(mask)) | 0;
        if (last > run) run = last;
      }
      if (i >= end) break;
      // A row of another block, or of one that wants to be judged number by number.
      const ahead = ((lo & -8) - sureLo) | 0;
      if (ahead < 0 || ahead > room || (hi !== -1 && hi !== sureHi)) {
        block = -1;
        late = UNREACHED;
        if (!this.#checkOne(rows, r, lo, hi)) refused = (refused + 1) | 0;
        continue;
      }
      block = lo >>> 3;
      entry = this.#entry(sureHi, block);
      taken = table[entry | TAKEN]!;
      seen = taken | table[entry | MASK]!;
      if (run - ahead > late) late = (run - ahead) | 0;
      rows[r | SEQ_HI] = sureHi;
      lows[i] = lo;
      const bit = 1 << (lo & 7);
      if ((seen & bit) !== 0) {
        late = UNREACHED;
        if ((taken & bit) !== 0) {
          rows[r | FATE] = taken < 0 ? Verdict.STALE : Verdict.REPLAYED;
          refused = (refused + 1) | 0;
        }
      }
      seen |= bit;
    }
    this.#wish.checked(refused === 0 && late < this.size, from, to, judge, blocks.name, run, late);
    return refused;
  }

  /**
   * After the ICV, with the same numbers: the only word that counts. Rows `list[from .. to)` without a FATE are accepted,
   * each number once, or get one. A row that is accepted has used its number up, whatever becomes of it.
   *
   * Each row is judged by the edge as it was, and by the rows before it: never by the burst's own maximum, which would
   * refuse the first half of a burst longer than the window.
   */
  commitBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    const judge = this.#judge;
    const wish = this.#wish;
    judge.by(this.#edge.load());
    if (!wish.holds(rows, list, from, to, judge, this.#blocks.name)) this.#gather(rows, list, from, to);
    let { count } = wish;
    if (count > 0) {
      const { run } = wish;
      if (run >= judge.edgeAhead + this.#region) this.#announce(Math.max(judge.run, judge.sure + run));
      const whole = this.#ring.claim(this.#blocks) && wish.copies === 0;
      if (!whole || wish.late > this.#settled) count -= this.#settle(rows, list, from, to);
      this.#accounts.add(count);
    }
    this.#blocks.begin(0);
  }

  /** `checkBurst` for one number. */
  check(seq: number): Verdict {
    return this.#single(seq, false);
  }

  /** `commitBurst` for one number. */
  commit(seq: number): Verdict {
    return this.#single(seq, true);
  }

  /** The full number of a received low half (RFC 4303 A2), by the top as it is now; -1 when there is none (INVALID). */
  infer(seqLo: number): number {
    if (!this.esn) return seqLo === 0 ? -1 : seqLo;
    return reconstruct(seqLo, this.top(), this.size);
  }

  /** Greatest number accepted so far, 0 at the start; a lower bound within the region while a commit is under way. */
  top(): number {
    return this.#ring.topOf(this.#edge.load());
  }

  /** Least number that could still be accepted; 1 at the start. */
  bottom(): number {
    return Math.max(1, this.top() - this.size + 1);
  }

  /** Whether this number has been accepted, or has left the window. */
  taken(seq: number): boolean {
    return this.check(seq) !== Verdict.ACCEPT;
  }

  /**
   * All numbers up to `seq` count as seen: for a restart under the same keys or a takeover, since an empty window under
   * an old key accepts every old packet. Workers may commit meanwhile (the accounts are exact only when none does). Only
   * moves forward; returns whether `top()` moved.
   */
  acceptUpTo(seq: number): boolean {
    if (!Number.isInteger(seq) || seq < 0 || seq > this.limit)
      throw new RangeError(`"seq" must be from 0 to ${this.limit}, got ${seq}`);
    const top = this.top();
    if (seq <= top - this.size) return false;
    this.#accounts.rebase(seq, this.accepted() - this.#count(seq + 1, top), this.lost());

    this.#judge.by(this.#edge.load());
    this.#announce(seq);
    const blocks = this.#blocks;
    blocks.begin(this.size / BLOCK + 2);
    const first = Math.max(0, Math.floor((seq - this.size + 1) / BLOCK)) * BLOCK;
    for (let s = first; s <= seq; s += BLOCK) {
      const entry = this.#entry(Math.floor(s / TWO_32), s >>> LOG_BLOCK);
      blocks.table[entry | MASK] = 0xff >>> Math.max(0, BLOCK - 1 - (seq - s));
    }
    this.#ring.claim(blocks);
    blocks.begin(0);
    return seq > top;
  }

  /** Compare-and-swaps that found another value than expected; this worker's, for tests and reports. */
  get swapFailures(): number {
    return this.#edge.swapFailures + this.#ring.swapFailures;
  }

  /** How many numbers have been accepted, by all workers. Exact at rest; a killed worker hides at most one burst. */
  accepted(): number {
    return this.#accounts.accepted();
  }

  /**
   * How many numbers left the window without having been seen: those that have left it, less those accepted, which are
   * all that were accepted but for the bits still in it. Nothing is counted on the way; exact at rest, and at most one
   * burst too high per killed worker.
   */
  lost(): number {
    const { from } = this.#accounts;
    const top = this.top();
    const inside = this.#count(Math.max(from, top - this.size) + 1, top);
    return this.#accounts.lost(Math.max(0, top - this.size - from), inside);
  }

  /**
   * How far behind the top an accepted number has been at most: a smaller window than this would have refused some. Never
   * too low, and too high by less than G + 7 (G = the greatest power of two up to size / 4).
   */
  lateness(): number {
    return this.accepted() === 0 ? 0 : this.#accounts.lateness() + this.#region - 1;
  }

  /** The entry of a block; reads its word when the burst meets it first. */
  #entry(hi: number, block: number): number {
    const entry = this.#blocks.find(hi, block);
    if (entry >= 0) return entry;
    const ring = this.#ring;
    const at = ring.at(block);
    return this.#blocks.add(hi, block, at, ring.tag(hi, block), peek(ring.words, at));
  }

  /** Raises the edge to the region of `s`. */
  #announce(s: number): void {
    this.#edge.raise(this.#judge.found, Math.floor(s / this.#region));
  }

  /** Checks a row by its number alone; whether it stays. */
  #checkOne(rows: Int32Array, r: number, lo: number, preset: number): boolean {
    const judge = this.#judge;
    const hi = preset === -1 ? judge.infer(lo >>> 0) : preset;
    let verdict: Verdict = hi < 0 ? Verdict.INVALID : judge.number(hi * TWO_32 + (lo >>> 0));
    if (hi >= 0) rows[r + SEQ_HI] = hi;
    if (verdict === Verdict.ACCEPT) {
      const taken = this.#blocks.table[this.#entry(hi, lo >>> LOG_BLOCK) + Entry.TAKEN]!;
      if (((taken >>> (lo & (BLOCK - 1))) & 1) !== 0) verdict = taken < 0 ? Verdict.STALE : Verdict.REPLAYED;
    }
    rows[r + FATE] = verdict;
    return verdict === Verdict.ACCEPT;
  }

  /** What the rows without a FATE ask of each block, found row by row. */
  #gather(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    const SEQ_LO: typeof Column.SEQ_LO = 6;
    const SEQ_HI: typeof Column.SEQ_HI = 7;
    const FATE: typeof Column.FATE = 9;
    const MASK: typeof Entry.MASK = 7;
    const blocks = this.#blocks;
    const judge = this.#judge;
    blocks.forgetMasks();
    blocks.reserve(to - from);
    const { table } = blocks;
    let late = 0;
    let copies = 0;
    let count = 0;
    let first = -BLOCK;
    let entry = 0;
    for (let i = from | 0; i < to; i = (i + 1) | 0) {
      const r = list[i]! << 4;
      if (rows[r | FATE] !== 0) continue;
      const lo = rows[r | SEQ_LO]!;
      const hi = rows[r | SEQ_HI]!;
      const s = hi * TWO_32 + (lo >>> 0);
      const verdict = judge.number(s);
      if (verdict !== Verdict.ACCEPT) {
        rows[r | FATE] = verdict;
        continue;
      }
      if (s < first || s >= first + BLOCK) {
        first = s - (lo & 7);
        entry = this.#entry(hi, lo >>> 3);
        late = Math.max(late, judge.run - first);
      }
      judge.run = Math.max(judge.run, s);
      const bit = 1 << (lo & 7);
      copies |= table[entry | MASK]! & bit;
      table[entry | MASK] = table[entry | MASK]! | bit;
      count++;
    }
    this.#wish.gathered(count, copies, Math.min(judge.run - judge.sure, UNREACHED) | 0, late);
  }

  /**
   * Tells the rows apart where not all that was asked for was granted: the first row of a granted number has it, its
   * copies are replays. Also settles how late the accepted ones are. Returns how many rows were refused.
   */
  #settle(rows: Int32Array, list: Int32Array, from: number, to: number): number {
    const { table } = this.#blocks;
    let refused = 0;
    let run = this.#judge.found * this.#region;
    for (let i = from; i < to; i++) {
      const r = list[i]! * Column.WORDS;
      if (rows[r + FATE] !== 0) continue;
      const lo = rows[r + SEQ_LO]!;
      const hi = rows[r + SEQ_HI]!;
      const first = hi * TWO_32 + ((lo & -BLOCK) >>> 0);
      const entry = this.#blocks.find(hi, lo >>> LOG_BLOCK);
      const bit = 1 << (lo & 7);
      if ((table[entry | MASK]! & bit) !== 0) {
        table[entry | MASK] = table[entry | MASK]! & ~bit;
        if (run - first > this.#settled) this.#settled = run - first;
      } else {
        rows[r + FATE] = table[entry | SEEN]! >>> 8 > table[entry | TAG]! ? Verdict.STALE : Verdict.REPLAYED;
        refused++;
      }
      run = Math.max(run, first + (lo & 7));
    }
    this.#accounts.late(this.#settled);
    return refused;
  }

  /** How many of the numbers from .. to, all inside the window, have been taken. */
  #count(from: number, to: number): number {
    let count = 0;
    for (let s = from; s <= to; s++) if (this.taken(s)) count++;
    return count;
  }

  readonly #row: Int32Array = new Int32Array(Column.WORDS);
  readonly #list: Int32Array = new Int32Array(1);

  #single(seq: number, commit: boolean): Verdict {
    if (!Number.isSafeInteger(seq) || seq < 0) throw new RangeError(`"seq" must be from 0 to 2^53 - 1, got ${seq}`);
    const row = this.#row;
    row[SEQ_LO] = seq | 0;
    row[SEQ_HI] = Math.floor(seq / TWO_32);
    row[FATE] = 0;
    if (commit) this.commitBurst(row, this.#list, 0, 1);
    else this.checkBurst(row, this.#list, 0, 1);
    return row[FATE] as Verdict;
  }
}
