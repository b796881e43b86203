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
 *  2. The edge only prunes. It is announced (raised) before words are touched, and rows are judged against the edge as it
 *     was read before that raise. It may make an old number STALE; it can make no number fresh.
 *  3. The edge is coarse: it names a region of G numbers, so that it moves, and its cache line travels, once per G
 *     numbers. Where the missing bits of precision matter, within G of the left edge, the words of the edge's region are
 *     looked at, and the answer is exact again.
 *
 * Nothing waits for anybody: a worker that dies between two steps leaves a window that is right for all the others.
 * The Promela models in `model/` and the explorer in `test/` check this against every interleaving of small instances.
 */
import { reconstruct, TWO_32 } from './esn.ts';
import { Column, LINE_BYTES, Verdict, WINDOW_VERSION, WindowFlag, WindowWord } from './layout.ts';

const BLOCK = 8;
const LOG_BLOCK = 3;
const LOG_TAG = 24;
const { WORDS, SEQ_LO, SEQ_HI, FATE } = Column;

export interface WindowOptions {
  /** Numbers the window spans, 32 to 2^20; any integer. */
  readonly size: number;
  readonly esn: boolean;
  /** Greatest number to accept; beyond it EXHAUSTED. At most, and by default: 2^32 - 1 without ESN, 2^40 - 1 with it (2^32 x G - 1 for windows below 1024). */
  readonly limit?: number;
  readonly memory?: SharedArrayBuffer;
  /** Byte offset in `memory`, a multiple of 64. */
  readonly offset?: number;
}

/** Everything that follows from the options. */
interface Shape {
  readonly logBlocks: number;
  readonly logRegion: number;
  readonly limit: number;
}

function shapeOf(options: WindowOptions): Shape {
  const { size, esn } = options;
  if (!Number.isInteger(size) || size < 32 || size > 1 << 20)
    throw new RangeError(`"size" must be an integer from 32 to 2^20 (RFC 4303 3.4.3), got ${size}`);
  const logRegion = Math.floor(Math.log2(size / 4));
  const most = esn ? Math.min(2 ** 40, 2 ** (32 + logRegion)) - 1 : TWO_32 - 1;
  const limit = options.limit ?? most;
  if (!Number.isInteger(limit) || limit < 1 || limit > most)
    throw new RangeError(`"limit" must be from 1 to ${most} for this window, got ${limit}`);
  // The ring holds the window wherever its edges fall in their blocks, and enough laps of 2^24 tags to reach LIMIT.
  let logBlocks = 0;
  while (BLOCK << logBlocks < size + BLOCK - 1 || 2 ** (logBlocks + LOG_BLOCK + LOG_TAG) <= limit) logBlocks++;
  return { logBlocks, logRegion, limit };
}

export class ReplayWindow {
  readonly memory: SharedArrayBuffer;
  readonly offset: number;
  readonly size: number;
  readonly esn: boolean;
  /** Greatest number accepted. */
  readonly limit: number;

  readonly #words: Int32Array;
  readonly #logBlocks: number;
  readonly #blockMask: number;
  readonly #logRegion: number;
  readonly #region: number;
  readonly #limitHi: number;
  readonly #limitLo: number;
  /** log2 of the ring's cache lines; see #wordAt. */
  readonly #logLines: number;

  // The blocks of the burst at hand: this worker's scratch. `#seen` keeps the word that check loaded; it is the value
  // that commit's swap expects, so a burst that nobody races costs one atomic per word and phase.
  #at: Int32Array = new Int32Array(64);
  #tag: Int32Array = new Int32Array(64);
  #seen: Int32Array = new Int32Array(64);
  #mask: Int32Array = new Int32Array(64);
  #blocks = 0;
  /** Compare-and-swaps that found another value than expected; this worker's, for tests and reports. */
  swapFailures = 0;

  private constructor(memory: SharedArrayBuffer, offset: number) {
    if (offset % LINE_BYTES !== 0 || offset < 0 || offset + WindowWord.BLOCKS * 4 > memory.byteLength)
      throw new RangeError(`no window fits at offset ${offset} of ${memory.byteLength} bytes`);
    const header = new Int32Array(memory, offset, WindowWord.BLOCKS);
    if (header[WindowWord.VERSION] !== WINDOW_VERSION)
      throw new RangeError(`no replay window of this layout at offset ${offset}`);
    this.memory = memory;
    this.offset = offset;
    this.size = header[WindowWord.SIZE]!;
    this.esn = (header[WindowWord.FLAGS]! & WindowFlag.ESN) !== 0;
    this.#logBlocks = header[WindowWord.LOG_BLOCKS]!;
    this.#logRegion = header[WindowWord.LOG_REGION]!;
    this.#limitLo = header[WindowWord.LIMIT_LO]! >>> 0;
    this.#limitHi = header[WindowWord.LIMIT_HI]!;
    this.limit = this.#limitHi * TWO_32 + this.#limitLo;
    this.#blockMask = (1 << this.#logBlocks) - 1;
    this.#region = 2 ** this.#logRegion;
    this.#logLines = Math.max(0, this.#logBlocks - 4);
    this.#words = new Int32Array(memory, offset, WindowWord.BLOCKS + (1 << this.#logBlocks));
  }

  /** Bytes of shared memory that a window takes. */
  static byteLength(options: WindowOptions): number {
    const bytes = (WindowWord.BLOCKS + (1 << shapeOf(options).logBlocks)) * 4;
    return Math.ceil(bytes / LINE_BYTES) * LINE_BYTES;
  }

  /** A window that has seen nothing; number 0 is taken from the start, since no packet carries it (RFC 4303 3.3.2). */
  static create(options: WindowOptions): ReplayWindow {
    const shape = shapeOf(options);
    const bytes = ReplayWindow.byteLength(options);
    const { offset = 0 } = options;
    const memory = options.memory ?? new SharedArrayBuffer(bytes);
    if (offset % LINE_BYTES !== 0 || offset < 0 || offset + bytes > memory.byteLength)
      throw new RangeError(`a window of ${bytes} bytes does not fit at offset ${offset} of ${memory.byteLength}`);
    const words = new Int32Array(memory, offset, bytes / 4);
    words.fill(0);
    words[WindowWord.SIZE] = options.size;
    words[WindowWord.FLAGS] = options.esn ? WindowFlag.ESN : 0;
    words[WindowWord.LOG_BLOCKS] = shape.logBlocks;
    words[WindowWord.LOG_REGION] = shape.logRegion;
    words[WindowWord.LIMIT_LO] = shape.limit | 0;
    words[WindowWord.LIMIT_HI] = Math.floor(shape.limit / TWO_32);
    words[WindowWord.BLOCKS] = 1;
    Atomics.store(words, WindowWord.VERSION, WINDOW_VERSION);
    return new ReplayWindow(memory, offset);
  }

  /** The same window on another thread. Throws RangeError on memory that holds no window of this layout. */
  static attach(memory: SharedArrayBuffer, offset: number): ReplayWindow {
    return new ReplayWindow(memory, offset);
  }

  /**
   * Before the ICV: advises, and writes nothing shared. Rows `list[from .. to)` of this window without a FATE get their
   * high half (once: a SEQ_HI other than -1 stays) and a FATE if they need not be opened. Copies inside one burst all
   * stay: the first may be forged.
   */
  checkBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    const edge = Atomics.load(this.#words, WindowWord.EDGE) >>> 0;
    const floor = edge * this.#region;
    const bottom = floor - this.size + 1;
    const bottomHi = Math.floor(bottom / TWO_32);
    const bottomLo = bottom - bottomHi * TWO_32;
    // Below this the edge's missing precision cannot matter.
    const sure = floor + this.#region - this.size;
    let exactTop = -1;
    this.#begin(to - from);
    for (let i = from; i < to; i++) {
      const r = list[i]! * WORDS;
      if (rows[r + FATE] !== 0) continue;
      const lo = rows[r + SEQ_LO]! >>> 0;
      let hi = rows[r + SEQ_HI]!;
      if (hi === -1) {
        hi = this.esn ? (lo >= bottomLo ? bottomHi : bottomHi + 1) : 0;
        if (this.esn && hi * TWO_32 + lo < sure) {
          // In the strip where the coarse edge does not say which subspace: the exact top does.
          if (exactTop < 0) exactTop = this.#topOf(edge);
          const number = reconstruct(lo, exactTop, this.size);
          hi = number < 0 ? -1 : Math.floor(number / TWO_32);
        }
        if (hi < 0) {
          rows[r + FATE] = Verdict.INVALID;
          continue;
        }
        rows[r + SEQ_HI] = hi;
      }
      const s = hi * TWO_32 + lo;
      if (s === 0) rows[r + FATE] = Verdict.INVALID;
      else if (hi > this.#limitHi || (hi === this.#limitHi && lo > this.#limitLo)) rows[r + FATE] = Verdict.EXHAUSTED;
      else if (s < bottom) rows[r + FATE] = Verdict.STALE;
      else {
        if (s < sure) {
          if (exactTop < 0) exactTop = this.#topOf(edge);
          if (s <= exactTop - this.size) {
            rows[r + FATE] = Verdict.STALE;
            continue;
          }
        }
        const k = this.#block(hi, lo);
        const seen = this.#seen[k]!;
        const lap = seen >>> 8;
        if (lap > this.#tag[k]!) rows[r + FATE] = Verdict.STALE;
        else if (lap === this.#tag[k]! && ((seen >>> (lo & 7)) & 1) !== 0) rows[r + FATE] = Verdict.REPLAYED;
      }
    }
  }

  /**
   * After the ICV, with the same numbers: the only word that counts. Rows `list[from .. to)` without a FATE are accepted,
   * each number once, or get one. A row that is accepted has used its number up, whatever becomes of it.
   */
  commitBurst(rows: Int32Array, list: Int32Array, from: number, to: number): void {
    let greatest = 0;
    for (let i = from; i < to; i++) {
      const r = list[i]! * WORDS;
      if (rows[r + FATE] !== 0) continue;
      const s = rows[r + SEQ_HI]! * TWO_32 + (rows[r + SEQ_LO]! >>> 0);
      if (s < 1 || s > this.limit) rows[r + FATE] = s < 1 ? Verdict.INVALID : Verdict.EXHAUSTED;
      else if (s > greatest) greatest = s;
    }
    if (greatest === 0) return;
    const edge = this.#announce(greatest);

    // Judge each row by the edge as it was, and by the rows before it: never by the burst's own maximum, which would
    // refuse the first half of a burst longer than the window.
    const floor = edge * this.#region;
    const sure = floor + this.#region - this.size;
    let exactTop = -1;
    let run = floor;
    const known = this.#blocks;
    for (let k = 0; k < known; k++) this.#mask[k] = 0;
    this.#grow(known + to - from);
    for (let i = from; i < to; i++) {
      const r = list[i]! * WORDS;
      if (rows[r + FATE] !== 0) continue;
      const hi = rows[r + SEQ_HI]!;
      const lo = rows[r + SEQ_LO]! >>> 0;
      const s = hi * TWO_32 + lo;
      if (s > run) run = s;
      else if (s <= run - this.size) {
        rows[r + FATE] = Verdict.STALE;
        continue;
      }
      if (s < sure) {
        if (exactTop < 0) exactTop = this.#topOf(edge);
        if (s <= exactTop - this.size) {
          rows[r + FATE] = Verdict.STALE;
          continue;
        }
      }
      const k = this.#block(hi, lo);
      this.#mask[k] = this.#mask[k]! | (1 << (lo & 7));
    }

    for (let k = 0; k < this.#blocks; k++) if (this.#mask[k] !== 0) this.#claim(k);

    // The first row of a granted number has it, its copies are replays. A mask now holds what was granted.
    for (let i = from; i < to; i++) {
      const r = list[i]! * WORDS;
      if (rows[r + FATE] !== 0) continue;
      const lo = rows[r + SEQ_LO]! >>> 0;
      const k = this.#block(rows[r + SEQ_HI]!, lo);
      const bit = 1 << (lo & 7);
      const granted = this.#mask[k]!;
      if ((granted & bit) !== 0) this.#mask[k] = granted & ~bit;
      else rows[r + FATE] = this.#seen[k]! >>> 8 > this.#tag[k]! ? Verdict.STALE : Verdict.REPLAYED;
    }
    this.#blocks = 0;
  }

  /** The full number of a received low half (RFC 4303 A2), by the top as it is now; -1 when there is none (INVALID). */
  infer(seqLo: number): number {
    if (!this.esn) return seqLo === 0 ? -1 : seqLo;
    return reconstruct(seqLo, this.top(), this.size);
  }

  /** `checkBurst` for one number. */
  check(seq: number): Verdict {
    return this.#single(seq, false);
  }

  /** `commitBurst` for one number. */
  commit(seq: number): Verdict {
    return this.#single(seq, true);
  }

  /** Greatest number accepted so far, 0 at the start; a lower bound within the region while a commit is under way. */
  top(): number {
    return this.#topOf(Atomics.load(this.#words, WindowWord.EDGE) >>> 0);
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
   * All numbers up to `seq` count as seen: for a restart under the same keys, or a takeover. Not while workers commit.
   * Only moves forward; returns whether it moved.
   */
  acceptUpTo(seq: number): boolean {
    if (!Number.isInteger(seq) || seq < 0 || seq > this.limit)
      throw new RangeError(`"seq" must be from 0 to ${this.limit}, got ${seq}`);
    if (seq <= this.top()) return false;
    const first = Math.max(0, Math.floor((seq - this.size + 1) / BLOCK));
    for (let block = first; block <= Math.floor(seq / BLOCK); block++) {
      const bits = Math.min(BLOCK, seq - block * BLOCK + 1);
      const word = (Math.floor(block / 2 ** this.#logBlocks) << 8) | ((1 << bits) - 1);
      Atomics.store(this.#words, this.#wordAt(block % (this.#blockMask + 1)), word);
    }
    Atomics.store(this.#words, WindowWord.EDGE, Math.floor(seq / this.#region) | 0);
    this.#blocks = 0;
    return true;
  }

  /** Raises the edge to the region of `seq`; returns the edge as it was before. */
  #announce(seq: number): number {
    const region = Math.floor(seq / this.#region);
    let seen = Atomics.load(this.#words, WindowWord.EDGE) >>> 0;
    const before = seen;
    while (seen < region) {
      const found = Atomics.compareExchange(this.#words, WindowWord.EDGE, seen | 0, region | 0) >>> 0;
      if (found === seen) break;
      this.swapFailures++;
      seen = found;
    }
    return before;
  }

  /** Takes the numbers in mask k; leaves in it those granted, and in seen k the word that decided. */
  #claim(k: number): void {
    const at = this.#at[k]!;
    const tag = this.#tag[k]!;
    const mask = this.#mask[k]!;
    let word = this.#seen[k]!;
    for (;;) {
      const lap = word >>> 8;
      const fresh = lap < tag ? mask : lap === tag ? mask & ~word : 0;
      if (fresh === 0) {
        this.#mask[k] = 0;
        this.#seen[k] = word;
        return;
      }
      const next = lap < tag ? (tag << 8) | mask : word | fresh;
      const found = Atomics.compareExchange(this.#words, at, word, next);
      if (found === word) {
        this.#mask[k] = fresh;
        this.#seen[k] = next;
        return;
      }
      this.swapFailures++;
      word = found;
    }
  }

  /** The scratch entry of a number's block; loads its word when the burst meets it first. */
  #block(hi: number, lo: number): number {
    const at = this.#wordAt((lo >>> LOG_BLOCK) & this.#blockMask);
    // 24 bits: LIMIT keeps the high half small enough for the shift.
    const tag = (hi << (29 - this.#logBlocks)) | (lo >>> (this.#logBlocks + LOG_BLOCK));
    for (let k = this.#blocks - 1; k >= 0; k--) if (this.#at[k] === at && this.#tag[k] === tag) return k;
    const k = this.#blocks++;
    this.#at[k] = at;
    this.#tag[k] = tag;
    this.#mask[k] = 0;
    this.#seen[k] = Atomics.load(this.#words, at);
    return k;
  }

  /**
   * Where block `index` of the ring lies: four neighbours share a cache line, the next four are on another line, so
   * that workers dealt neighbouring runs of 32 numbers do not pull one line to and fro.
   */
  #wordAt(index: number): number {
    const logLines = this.#logLines;
    const group = index >>> 2;
    const line = group & ((1 << logLines) - 1);
    return WindowWord.BLOCKS + (line << 4) + ((group >>> logLines) << 2) + (index & 3);
  }

  /** The greatest number taken in a region; its first when none is yet (announced, not claimed). */
  #topOf(region: number): number {
    const first = region * this.#region;
    const last = first + this.#region - 1;
    for (let block = Math.floor(last / BLOCK); block * BLOCK + BLOCK > first; block--) {
      const word = Atomics.load(this.#words, this.#wordAt(block % (this.#blockMask + 1)));
      const tag = Math.floor(block / 2 ** this.#logBlocks);
      // A newer lap: something far beyond the region has been taken.
      if (word >>> 8 > tag) return last;
      if (word >>> 8 < tag) continue;
      const bits = word & 0xff;
      if (bits !== 0) return Math.max(first, block * BLOCK + 31 - Math.clz32(bits));
    }
    return first;
  }

  #begin(rows: number): void {
    this.#blocks = 0;
    this.#grow(rows);
  }

  #grow(blocks: number): void {
    if (blocks <= this.#at.length) return;
    const size = 2 ** Math.ceil(Math.log2(blocks));
    this.#at = grown(this.#at, size);
    this.#tag = grown(this.#tag, size);
    this.#seen = grown(this.#seen, size);
    this.#mask = grown(this.#mask, size);
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

function grown(array: Int32Array, size: number): Int32Array {
  const bigger = new Int32Array(size);
  bigger.set(array);
  return bigger;
}
