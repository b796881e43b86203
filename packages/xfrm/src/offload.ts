/**
 * The datapath's view of `x->xso`: per SA slot, which device holds its offload state and under which handle.
 * Shared memory, written by the control actor alone, one Atomics.store each, under the upper's grace period.
 */
import type { LowerHandle } from './handle.ts';

const DEVICE = 0;
const HANDLE = 1;
/** Per set of L3Flag: length of the longest packet that every lower concerned takes. */
const LIMIT = 2;
const L3_FLAG_SETS = 4;
const WORDS = 8;
const NO_LIMIT = 0x7fff_ffff;

/** Values of the device word beside a lower's index. */
export const OffloadDevice = {
  /** No offload, or none right now. */
  NONE: -1,
  /** An upper holds one handle per lower: ask it. */
  UPPER: -2,
  /** An upper has a slave that could not take this SA: sealed in software for every slave. Resolves to nothing. */
  SOFTWARE: -3,
} as const;

export class OffloadTable {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;

  private constructor(memory: SharedArrayBuffer) {
    this.memory = memory;
    this.#words = new Int32Array(memory);
  }

  /** A table for `slots` SAs, all NONE. */
  static create(slots: number): OffloadTable {
    if (!Number.isInteger(slots) || slots < 1) throw new RangeError(`"slots" must be a positive integer, got ${slots}`);
    const table = new OffloadTable(new SharedArrayBuffer(slots * WORDS * 4));
    for (let slot = 0; slot < slots; slot++) {
      table.#words[slot * WORDS + DEVICE] = OffloadDevice.NONE;
      table.#words.fill(NO_LIMIT, slot * WORDS + LIMIT, slot * WORDS + LIMIT + L3_FLAG_SETS);
    }
    return table;
  }

  /** The same table on another thread. */
  static attach(memory: SharedArrayBuffer): OffloadTable {
    return new OffloadTable(memory);
  }

  get slots(): number {
    return this.#words.length / WORDS;
  }

  /** A lower's index, NONE, UPPER or SOFTWARE. */
  device(slot: number): number {
    return Atomics.load(this.#words, slot * WORDS + DEVICE);
  }

  handle(slot: number): LowerHandle {
    return Atomics.load(this.#words, slot * WORDS + HANDLE);
  }

  /** One lower holds the only handle (kernel: xso.real_dev, xso.offload_handle). Clear and let a grace period pass before changing lowers. */
  setDirect(slot: number, lowerIndex: number, handle: LowerHandle): void {
    Atomics.store(this.#words, slot * WORDS + HANDLE, handle);
    Atomics.store(this.#words, slot * WORDS + DEVICE, lowerIndex);
  }

  /** An upper holds one handle per lower. */
  setUpper(slot: number): void {
    Atomics.store(this.#words, slot * WORDS + HANDLE, 0);
    Atomics.store(this.#words, slot * WORDS + DEVICE, OffloadDevice.UPPER);
  }

  /** An upper wants it sealed in software, whichever slave carries it. */
  setSoftware(slot: number): void {
    Atomics.store(this.#words, slot * WORDS + DEVICE, OffloadDevice.SOFTWARE);
    Atomics.store(this.#words, slot * WORDS + HANDLE, 0);
  }

  /** Longest packet with these L3Flags that a lower may seal; shorter ones too. -1 = none. */
  setLimit(slot: number, l3Flags: number, length: number): void {
    Atomics.store(this.#words, slot * WORDS + LIMIT + l3Flags, length);
  }

  /** Whether no lower concerned vetoes such a packet (`offloadOk`), length in bytes from the IP header on. One load. */
  fits(slot: number, length: number, l3Flags: number): boolean {
    return length <= Atomics.load(this.#words, slot * WORDS + LIMIT + l3Flags);
  }

  /** From now on nothing resolves. */
  clear(slot: number): void {
    Atomics.store(this.#words, slot * WORDS + DEVICE, OffloadDevice.NONE);
    Atomics.store(this.#words, slot * WORDS + HANDLE, 0);
  }
}
