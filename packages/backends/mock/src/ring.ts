/** Control words of a ring, head and tail on cache lines of their own, counters beside the head that their writer owns. */
export const RingWord = {
  /** Slots ever filled; written by the sender. */
  HEAD: 0,
  /** Counters of the sender. */
  LOST: 1,
  REORDERED: 2,
  DUPLICATED: 3,
  CORRUPTED: 4,
  REPLAYED: 5,
  /** Slots ever emptied; written by the receiver. */
  TAIL: 16,
  WORDS: 32,
} as const;

/**
 * Words beside each slot: length of the frame (0 = emptied), the tick from which it may be taken (0 = at once), and how
 * many bytes into the slot it begins (0 to 3, as it was aligned where it came from: so frames are copied by words).
 */
const LENGTH = 0;
const DUE = 1;
const SKEW = 2;
const SLOT_WORDS = 4;

/**
 * Frames on their way: one sender thread, one receiver thread, fixed slots in shared memory. The receiver may take a
 * later slot before an earlier one that is not due, so frames can overtake each other without being moved.
 */
export class MockRing {
  /** All frames of the ring; slot i is `[i * slotBytes, (i + 1) * slotBytes)`. */
  readonly bytes: Uint8Array;
  /** Bytes of the largest frame. */
  readonly limit: number;
  /** The same bytes by words. */
  readonly words: Int32Array;
  readonly #slotBytes: number;
  readonly #words: Int32Array;
  readonly #slots: Int32Array;
  readonly #mask: number;

  constructor(memory: SharedArrayBuffer, offset: number, slots: number, slotBytes: number) {
    this.#words = new Int32Array(memory, offset, RingWord.WORDS);
    this.#slots = new Int32Array(memory, offset + RingWord.WORDS * 4, slots * SLOT_WORDS);
    this.bytes = new Uint8Array(memory, offset + ringHeader(slots), slots * slotBytes);
    this.words = new Int32Array(memory, offset + ringHeader(slots), (slots * slotBytes) / 4);
    this.#slotBytes = slotBytes;
    this.limit = slotBytes - 3;
    this.#mask = slots - 1;
  }

  /** Slots that the sender could fill now. */
  room(): number {
    return this.#mask + 1 - ((this.#words[RingWord.HEAD]! - Atomics.load(this.#words, RingWord.TAIL)) | 0);
  }

  /** Slots filled and not yet emptied, as seen by whoever asks. */
  waiting(): number {
    return (Atomics.load(this.#words, RingWord.HEAD) - Atomics.load(this.#words, RingWord.TAIL)) | 0;
  }

  /**
   * Sender: copies `[start, end)` of memory seen as words into the next slot; the caller has asked for room. Returns where
   * the copy begins in `bytes`.
   */
  put(from: Int32Array, start: number, end: number, due: number): number {
    const first = start >> 2;
    const last = (end + 3) >> 2;
    const words = this.words;
    const slot = this.#claim(end - start, start & 3, due);
    for (let i = first, o = slot >> 2; i < last; i++, o++) words[o] = from[i]!;
    return slot + (start & 3);
  }

  /** Sender: the same for bytes of any alignment. */
  putBytes(frame: Uint8Array): void {
    this.bytes.set(frame, this.#claim(frame.length, 0, 0));
  }

  #claim(length: number, skew: number, due: number): number {
    const slot = this.#words[RingWord.HEAD]! & this.#mask;
    const s = slot * SLOT_WORDS;
    this.#slots[s + LENGTH] = length;
    this.#slots[s + DUE] = due;
    this.#slots[s + SKEW] = skew;
    return slot * this.#slotBytes;
  }

  /** Sender: hands the slot last put to the receiver. */
  submit(): void {
    Atomics.store(this.#words, RingWord.HEAD, (this.#words[RingWord.HEAD]! + 1) | 0);
  }

  /** Receiver: the first slot at or behind `position` that is due at `tick`, or -1. Start with `begin()`. */
  next(position: number, tick: number): number {
    const head = Atomics.load(this.#words, RingWord.HEAD);
    for (let i = position; i !== head; i = (i + 1) | 0) {
      const s = (i & this.#mask) * SLOT_WORDS;
      if (this.#slots[s + LENGTH] === 0) continue;
      const due = this.#slots[s + DUE]!;
      if (due !== 0 && ((tick - due) | 0) < 0) continue;
      return i;
    }
    return -1;
  }

  /** Receiver: where to start looking. */
  begin(): number {
    return this.#words[RingWord.TAIL]!;
  }

  /** Receiver: where the frame of a slot begins in `bytes`. */
  at(position: number): number {
    const slot = position & this.#mask;
    return slot * this.#slotBytes + this.#slots[slot * SLOT_WORDS + SKEW]!;
  }

  /** Receiver: its length. */
  length(position: number): number {
    return this.#slots[(position & this.#mask) * SLOT_WORDS + LENGTH]!;
  }

  /** Receiver: marks a slot as emptied; the sender learns of it by `release`. */
  empty(position: number): void {
    this.#slots[(position & this.#mask) * SLOT_WORDS + LENGTH] = 0;
  }

  /** Receiver: copies the frame of a slot to where `to` has the same alignment; `start` is its first byte there. */
  copy(position: number, to: Int32Array, start: number): void {
    const from = this.at(position);
    const last = (from + this.length(position) + 3) >> 2;
    const words = this.words;
    for (let i = from >> 2, o = start >> 2; i < last; i++, o++) to[o] = words[i]!;
  }

  /** Receiver: gives back every emptied slot up to the first that is still waiting. */
  release(): void {
    const head = Atomics.load(this.#words, RingWord.HEAD);
    let tail = this.#words[RingWord.TAIL]!;
    while (tail !== head && this.#slots[(tail & this.#mask) * SLOT_WORDS + LENGTH] === 0) tail = (tail + 1) | 0;
    Atomics.store(this.#words, RingWord.TAIL, tail);
  }

  /** Sender: one more of a counter. */
  count(word: number): void {
    this.#words[word] = this.#words[word]! + 1;
  }

  /** A counter, from anywhere. */
  counted(word: number): number {
    return this.#words[word]!;
  }
}

function ringHeader(slots: number): number {
  return RingWord.WORDS * 4 + Math.ceil((slots * SLOT_WORDS * 4) / 64) * 64;
}

/** Bytes of shared memory that one ring takes, a multiple of 64. */
export function ringBytes(slots: number, slotBytes: number): number {
  return ringHeader(slots) + slots * slotBytes;
}
