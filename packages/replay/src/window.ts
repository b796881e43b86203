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
 *     check     load EDGE; load the word of each block once (and LOOK)              writes nothing shared
 *     commit    load EDGE; load words that check has not (and LOOK); raise EDGE by compare-and-swap when the burst goes
 *               beyond it; one compare-and-swap per word, expecting what check loaded
 *
 * Nothing waits for anybody: a worker that dies between two steps leaves a window that is right for all the others.
 * The Promela models in `model/` and the explorer in `test/` check this against every interleaving of small instances.
 */
import { Blocks } from './blocks.ts';
import { reconstruct, TWO_32 } from './esn.ts';
import { Column, fits, LINE_BYTES, stripe, Verdict, WINDOW_VERSION, WindowFlag, WindowWord } from './layout.ts';
import { BLOCK, LOG_BLOCK, shapeOf, type WindowOptions } from './shape.ts';

const { WORDS, SEQ_LO, SEQ_HI, FATE } = Column;
const { EDGE, WORKER, WORDS_PER_WORKER } = WindowWord;
/** Float64 in a window's header and in a worker's line. */
const BASE = WindowWord.BASE / 2;
const ACCEPTED = 0;
const LATE = 1;

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
  /** Compare-and-swaps that found another value than expected; this worker's, for tests and reports. */
  swapFailures = 0;

  readonly #words: Int32Array;
  /** The edge where 32 bits of regions do not reach LIMIT, else null. */
  readonly #wideEdge: BigUint64Array | null;
  readonly #accounts: Float64Array;
  /** This worker's line in `#accounts`. */
  readonly #account: number;
  readonly #workers: number;
  /** First word of the ring. */
  readonly #ring: number;
  readonly #logBlocks: number;
  readonly #blockMask: number;
  readonly #logLines: number;
  readonly #region: number;

  readonly #blocks: Blocks = new Blocks();
  // The edge that the burst at hand is judged by, and what follows from it.
  #edge = 0;
  /** Greatest number that is known to have been announced: the edge's first, or a row of this burst. */
  #run = 0.5;
  /** From here on the edge's missing precision cannot matter. */
  #sure = 0.5;
  /** Greatest number taken in the edge's region; -1 until somebody has to know. */
  #top = -1.5;
  /** How far the burst's rows lie behind `#run` at most, in whole blocks; the most that has been settled. */
  #behind = 0.5;
  #settled = 0.5;

  private constructor(memory: SharedArrayBuffer, offset: number, worker: number) {
    fits(memory, offset, WORKER * 4);
    const header = new Int32Array(memory, offset, WORKER);
    if (header[WindowWord.VERSION] !== WINDOW_VERSION)
      throw new RangeError(`no replay window of this layout at offset ${offset}`);
    const shape = shapeOf({
      size: header[WindowWord.SIZE]!,
      esn: (header[WindowWord.FLAGS]! & WindowFlag.ESN) !== 0,
      limit: header[WindowWord.LIMIT_HI]! * TWO_32 + (header[WindowWord.LIMIT_LO]! >>> 0),
      workers: header[WindowWord.WORKERS]!,
    });
    if (shape.logBlocks !== header[WindowWord.LOG_BLOCKS] || shape.logRegion !== header[WindowWord.LOG_REGION])
      throw new RangeError(`the replay window at offset ${offset} contradicts itself`);
    if (!Number.isInteger(worker) || worker < 0 || worker >= shape.workers)
      throw new RangeError(`"worker" must be from 0 to ${shape.workers - 1}, got ${worker}`);
    this.#ring = WORKER + shape.workers * WORDS_PER_WORKER;
    const words = this.#ring + 2 ** shape.logBlocks;
    fits(memory, offset, words * 4);
    this.memory = memory;
    this.offset = offset;
    this.size = shape.size;
    this.esn = shape.esn;
    this.limit = shape.limit;
    this.soft = Math.floor(shape.limit * 0.9);
    this.#workers = shape.workers;
    this.#logBlocks = shape.logBlocks;
    this.#blockMask = 2 ** shape.logBlocks - 1;
    this.#logLines = Math.max(0, shape.logBlocks - 4);
    this.#region = 2 ** shape.logRegion;
    this.#words = new Int32Array(memory, offset, words);
    const wide = shape.limit >= this.#region * TWO_32;
    this.#wideEdge = wide ? new BigUint64Array(memory, offset + EDGE * 4, 1) : null;
    this.#accounts = new Float64Array(memory, offset, this.#ring / 2);
    this.#account = (WORKER + worker * WORDS_PER_WORKER) / 2;
  }

  /** Bytes of shared memory that a window takes. */
  static byteLength(options: WindowOptions): number {
    const { workers, logBlocks } = shapeOf(options);
    const bytes = (WORKER + workers * WORDS_PER_WORKER + 2 ** logBlocks) * 4;
    return Math.ceil(bytes / LINE_BYTES) * LINE_BYTES;
  }

  /** A window that has seen nothing; number 0 is taken from the start, since no packet carries it (RFC 4303 3.3.2). */
  static create(options: WindowOptions & Place): ReplayWindow {
    const shape = shapeOf(options);
    const bytes = ReplayWindow.byteLength(options);
    const { offset = 0, memory = new SharedArrayBuffer(bytes) } = options;
    fits(memory, offset, bytes);
    const words = new Int32Array(memory, offset, bytes / 4);
    words.fill(0);
    words[WindowWord.SIZE] = shape.size;
    words[WindowWord.FLAGS] = shape.esn ? WindowFlag.ESN : 0;
    words[WindowWord.LOG_BLOCKS] = shape.logBlocks;
    words[WindowWord.LOG_REGION] = shape.logRegion;
    words[WindowWord.WORKERS] = shape.workers;
    words[WindowWord.LIMIT_LO] = shape.limit | 0;
    words[WindowWord.LIMIT_HI] = Math.floor(shape.limit / TWO_32);
    words[WORKER + shape.workers * WORDS_PER_WORKER] = 1;
    Atomics.store(words, WindowWord.VERSION, WINDOW_VERSION);
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
   * stay: the first may be forged.
   */
  checkBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    // Literals where V8 sees them, each held to the table by its type: a tenth of the time.
    const WORDS: typeof Column.WORDS = 16;
    const SEQ_LO: typeof Column.SEQ_LO = 6;
    const SEQ_HI: typeof Column.SEQ_HI = 7;
    const FATE: typeof Column.FATE = 9;
    const { esn } = this;
    const blocks = this.#blocks;
    blocks.count = 0;
    blocks.reserve(to - from);
    this.#judgeBy(this.#loadEdge());
    const bottom = this.#run - this.size + 1;
    const bottomHi = Math.floor(bottom / TWO_32) | 0;
    const bottomLo = (bottom - bottomHi * TWO_32) >>> 0;
    const strip = (this.#region - 1) | 0;

    let block = -1;
    let blockHi = 0;
    let clear = false;
    let alike = false;
    let taken = -1;
    let newer = false;
    for (let i = from; i < to; i++) {
      const r = list[i]! * WORDS;
      if (rows[r + FATE] !== 0) continue;
      const lo = rows[r + SEQ_LO]!;
      let hi = rows[r + SEQ_HI]!;
      if (hi === -1) {
        // The number congruent to lo in [bottom, bottom + 2^32); where the edge leaves the bottom open, by the exact top.
        const ahead = (lo - bottomLo) | 0;
        if (!esn) hi = 0;
        else if (alike && ((lo >>> 3) | 0) === block) hi = blockHi;
        else if (ahead >= 0 && ahead < strip) hi = this.#inferExactly(lo >>> 0);
        else hi = lo >>> 0 >= bottomLo ? bottomHi : (bottomHi + 1) | 0;
        if (hi < 0) {
          rows[r + FATE] = Verdict.INVALID;
          continue;
        }
        rows[r + SEQ_HI] = hi;
      }
      if (((lo >>> 3) | 0) !== block || hi !== blockHi) {
        block = (lo >>> 3) | 0;
        blockHi = hi;
        clear = this.#isClear(hi, block);
        alike = clear && block !== bottomLo >>> 3;
        taken = -1;
      }
      if (!clear) {
        const verdict = this.#judge(hi * TWO_32 + (lo >>> 0));
        if (verdict !== Verdict.ACCEPT) {
          rows[r + FATE] = verdict;
          continue;
        }
      }
      if (taken < 0) {
        const k = this.#entry(hi, block);
        const word = blocks.seen[k]!;
        newer = word >>> 8 > blocks.tag[k]!;
        taken = newer ? 0xff : word >>> 8 === blocks.tag[k]! ? word & 0xff : 0;
      }
      if (((taken >>> (lo & 7)) & 1) !== 0) rows[r + FATE] = newer ? Verdict.STALE : Verdict.REPLAYED;
    }
  }

  /**
   * After the ICV, with the same numbers: the only word that counts. Rows `list[from .. to)` without a FATE are accepted,
   * each number once, or get one. A row that is accepted has used its number up, whatever becomes of it.
   */
  commitBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    // Literals where V8 sees them, each held to the table by its type: a tenth of the time.
    const WORDS: typeof Column.WORDS = 16;
    const SEQ_LO: typeof Column.SEQ_LO = 6;
    const SEQ_HI: typeof Column.SEQ_HI = 7;
    const FATE: typeof Column.FATE = 9;
    const blocks = this.#blocks;
    blocks.reserve(to - from);
    this.#judgeBy(this.#loadEdge());

    // Judge each row by the edge as it was, and by the rows before it: never by the burst's own maximum, which would
    // refuse the first half of a burst longer than the window. Gather one mask per block.
    let block = -1;
    let blockHi = 0;
    let clear = false;
    let k = -1;
    let mask = 0;
    let copies = 0;
    let asked = 0;
    for (let i = from; i < to; i++) {
      const r = list[i]! * WORDS;
      if (rows[r + FATE] !== 0) continue;
      const lo = rows[r + SEQ_LO]!;
      const hi = rows[r + SEQ_HI]!;
      if (((lo >>> 3) | 0) !== block || hi !== blockHi) {
        if (k >= 0) this.#leave(k, mask, blockHi, block);
        block = (lo >>> 3) | 0;
        blockHi = hi;
        clear = this.#isClear(hi, block);
        k = -1;
      }
      if (!clear) {
        const s = hi * TWO_32 + (lo >>> 0);
        const verdict = this.#judge(s);
        if (verdict !== Verdict.ACCEPT) {
          rows[r + FATE] = verdict;
          continue;
        }
        if (s > this.#run) this.#run = s;
      }
      if (k < 0) {
        k = this.#entry(hi, block);
        mask = blocks.mask[k]!;
      }
      const bit = 1 << (lo & 7);
      copies |= mask & bit;
      mask |= bit;
      asked++;
    }
    if (asked > 0) {
      if (k >= 0) this.#leave(k, mask, blockHi, block);
      this.#announce(this.#run);
      let whole = copies === 0;
      for (k = 0; k < blocks.count; k++) if (blocks.mask[k] !== 0 && !this.#claim(k)) whole = false;
      if (!whole || this.#behind > this.#settled) asked -= this.#settle(rows, list, from, to);
      const account = this.#account + ACCEPTED;
      this.#accounts[account] = this.#accounts[account]! + asked;
    }
    blocks.count = 0;
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
    return this.#topOf(this.#loadEdge());
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
    const accepted = this.accepted() - this.#count(seq + 1, top);
    this.#accounts.set([seq, accepted, this.lost()], BASE);

    this.#judgeBy(this.#loadEdge());
    this.#announce(seq);
    const blocks = this.#blocks;
    blocks.count = 0;
    blocks.reserve(this.size / BLOCK + 2);
    const first = Math.max(0, Math.floor((seq - this.size + 1) / BLOCK)) * BLOCK;
    for (let s = first; s <= seq; s += BLOCK) {
      const k = this.#entry(Math.floor(s / TWO_32), s >>> LOG_BLOCK);
      blocks.mask[k] = 0xff >>> Math.max(0, BLOCK - 1 - (seq - s));
      this.#claim(k);
    }
    blocks.count = 0;
    return seq > top;
  }

  /** How many numbers have been accepted, by all workers. Exact at rest; a killed worker hides at most one burst. */
  accepted(): number {
    let sum = 0;
    for (let w = 0; w < this.#workers; w++) sum += this.#accounts[this.#accountOf(w) + ACCEPTED]!;
    return sum;
  }

  /**
   * How many numbers left the window without having been seen: those that have left it, less those accepted, which are
   * all that were accepted but for the bits still in it. Nothing is counted on the way; exact at rest, and at most one
   * burst too high per killed worker.
   */
  lost(): number {
    const [base, accepted, lost] = this.#accounts.subarray(BASE, BASE + 3) as unknown as [number, number, number];
    const top = this.top();
    const left = Math.max(0, top - this.size - base);
    const inside = this.#count(Math.max(base, top - this.size) + 1, top);
    return lost + Math.max(0, left - (this.accepted() - accepted - inside));
  }

  /**
   * How far behind the top an accepted number has been at most: a smaller window than this would have refused some. Never
   * too low, and too high by less than G + 7 (G = the greatest power of two up to size / 4).
   */
  lateness(): number {
    let late = 0;
    for (let w = 0; w < this.#workers; w++) late = Math.max(late, this.#accounts[this.#accountOf(w) + LATE]!);
    return this.accepted() === 0 ? 0 : late + this.#region - 1;
  }

  #inferExactly(lo: number): number {
    return Math.floor(reconstruct(lo, this.#exactTop(), this.size) / TWO_32) | 0;
  }

  #accountOf(worker: number): number {
    return (WORKER + worker * WORDS_PER_WORKER) / 2;
  }

  #judgeBy(edge: number): void {
    this.#edge = edge;
    this.#run = edge * this.#region;
    this.#sure = this.#run + this.#region - this.size;
    this.#top = -1;
    this.#behind = 0;
  }

  /** Whether every number of a block is inside the window for sure: then its rows need no judging one by one. */
  #isClear(hi: number, block: number): boolean {
    const first = hi * TWO_32 + block * BLOCK;
    if (this.#run - first > this.#behind) this.#behind = this.#run - first;
    return first > 0 && first >= this.#sure && first > this.#run - this.size && first + BLOCK - 1 <= this.limit;
  }

  /** Judges one number by the edge and the rows before it. */
  #judge(s: number): Verdict {
    if (s < 1) return Verdict.INVALID;
    if (s > this.limit) return Verdict.EXHAUSTED;
    if (s <= this.#run - this.size) return Verdict.STALE;
    if (s < this.#sure && s <= this.#exactTop() - this.size) return Verdict.STALE;
    return Verdict.ACCEPT;
  }

  /** LOOK: the exact top, once per burst and phase, and only for numbers near the left edge. */
  #exactTop(): number {
    if (this.#top < 0) this.#top = this.#topOf(this.#edge);
    return this.#top;
  }

  /** The burst leaves a block: keeps what it asks for, and how far the burst has come. */
  #leave(k: number, mask: number, hi: number, block: number): void {
    this.#blocks.mask[k] = mask;
    const last = hi * TWO_32 + block * BLOCK + 31 - Math.clz32(mask);
    if (last > this.#run) this.#run = last;
  }

  /** The entry of a block; loads its word when the burst meets it first. */
  #entry(hi: number, block: number): number {
    const k = this.#blocks.find(hi, block);
    if (k >= 0) return k;
    const at = this.#wordAt(block);
    return this.#blocks.add(hi, block, at, this.#tagOf(hi, block), Atomics.load(this.#words, at));
  }

  #wordAt(block: number): number {
    return this.#ring + stripe(block & this.#blockMask, this.#logLines);
  }

  /** Which lap of the ring a block belongs to: 24 bits, since LIMIT keeps the high half small enough for the shift. */
  #tagOf(hi: number, block: number): number {
    return (hi << (32 - LOG_BLOCK - this.#logBlocks)) | (block >>> this.#logBlocks);
  }

  /** Takes the numbers in mask k; leaves in it those granted, and in seen k the word that decided. Whether it got all. */
  #claim(k: number): boolean {
    const { at, tag, seen, mask } = this.#blocks;
    const asked = mask[k]!;
    let word = seen[k]!;
    for (;;) {
      const lap = word >>> 8;
      const fresh = lap < tag[k]! ? asked : lap === tag[k]! ? asked & ~word : 0;
      if (fresh === 0) {
        mask[k] = 0;
        seen[k] = word;
        return false;
      }
      const next = lap < tag[k]! ? (tag[k]! << 8) | asked : word | fresh;
      const found = Atomics.compareExchange(this.#words, at[k]!, word, next);
      if (found === word) {
        mask[k] = fresh;
        seen[k] = next;
        return fresh === asked;
      }
      this.swapFailures++;
      word = found;
    }
  }

  /**
   * Tells the rows apart where not all that was asked for was granted: the first row of a granted number has it, its
   * copies are replays. Also settles how late the accepted ones are. Returns how many rows were refused.
   */
  #settle(rows: Int32Array, list: Int32Array, from: number, to: number): number {
    const { tag, seen, mask } = this.#blocks;
    let refused = 0;
    let run = this.#edge * this.#region;
    for (let i = from; i < to; i++) {
      const r = list[i]! * WORDS;
      if (rows[r + FATE] !== 0) continue;
      const lo = rows[r + SEQ_LO]! >>> 0;
      const first = rows[r + SEQ_HI]! * TWO_32 + (lo - (lo & 7));
      const k = this.#blocks.find(rows[r + SEQ_HI]!, lo >>> LOG_BLOCK);
      const bit = 1 << (lo & 7);
      if ((mask[k]! & bit) !== 0) {
        mask[k] = mask[k]! & ~bit;
        if (run - first > this.#settled) this.#settled = run - first;
      } else {
        rows[r + FATE] = seen[k]! >>> 8 > tag[k]! ? Verdict.STALE : Verdict.REPLAYED;
        refused++;
      }
      run = Math.max(run, first + (lo & 7));
    }
    if (this.#settled > this.#accounts[this.#account + LATE]!) this.#accounts[this.#account + LATE] = this.#settled;
    return refused;
  }

  #loadEdge(): number {
    return this.#wideEdge === null ? Atomics.load(this.#words, EDGE) >>> 0 : Number(Atomics.load(this.#wideEdge, 0));
  }

  /** Raises the edge from what was loaded to the region of `s`. */
  #announce(s: number): void {
    const region = Math.floor(s / this.#region);
    for (let seen = this.#edge; seen < region; ) {
      const found =
        this.#wideEdge === null
          ? Atomics.compareExchange(this.#words, EDGE, seen | 0, region | 0) >>> 0
          : Number(Atomics.compareExchange(this.#wideEdge, 0, BigInt(seen), BigInt(region)));
      if (found === seen) return;
      this.swapFailures++;
      seen = found;
    }
  }

  /** The greatest number taken in a region; its first when none is yet (announced, not claimed). */
  #topOf(region: number): number {
    const first = region * this.#region;
    const last = first + this.#region - 1;
    for (let s = last - BLOCK + 1; s >= first; s -= BLOCK) {
      const hi = Math.floor(s / TWO_32);
      const word = Atomics.load(this.#words, this.#wordAt(s >>> LOG_BLOCK));
      const tag = this.#tagOf(hi, s >>> LOG_BLOCK);
      // A newer lap: something far beyond the region has been taken.
      if (word >>> 8 > tag) return last;
      if (word >>> 8 === tag && (word & 0xff) !== 0) return s + 31 - Math.clz32(word & 0xff);
    }
    return first;
  }

  /** How many of the numbers from .. to, all inside the window, have been taken. */
  #count(from: number, to: number): number {
    let count = 0;
    for (let s = from; s <= to; s++) if (this.taken(s)) count++;
    return count;
  }

  readonly #row: Int32Array = new Int32Array(WORDS);
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
