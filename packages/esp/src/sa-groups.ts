import { type Burst, Row } from '@espalier/wire';

/** The rows of a burst that have an SA and no FATE, by SA, each group in burst order. One worker's scratch. */
export class SaGroups {
  /** Row numbers: group g is `order[g === 0 ? 0 : ends[g - 1] .. ends[g])`. */
  readonly order: Int32Array;
  readonly ends: Int32Array;
  /** The SA of each group. */
  readonly slots: Int32Array;
  count = 0;
  readonly #groupOf: Int32Array;

  constructor(maxSas: number, capacity: number) {
    this.order = new Int32Array(capacity);
    this.ends = new Int32Array(capacity);
    this.slots = new Int32Array(capacity);
    this.#groupOf = new Int32Array(maxSas).fill(-1);
  }

  /** The first `count` rows of `order` are one SA's; the caller has put them there. */
  set(slot: number, count: number): void {
    this.count = count === 0 ? 0 : 1;
    this.slots[0] = slot;
    this.ends[0] = count;
  }

  /** Groups the burst by the rows' SA column. */
  fill(burst: Burst): void {
    const { rows, list } = burst;
    const { order, ends, slots } = this;
    const groupOf = this.#groupOf;
    let groups = 0;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      const slot = rows[r + Row.SA]!;
      if (rows[r + Row.FATE] !== 0 || slot < 0) continue;
      let g = groupOf[slot]!;
      if (g < 0) {
        g = groups++;
        groupOf[slot] = g;
        slots[g] = slot;
        ends[g] = 0;
      }
      ends[g] = ends[g]! + 1;
    }
    // Counts become starts; filling moves each start to its end.
    for (let g = 0, at = 0; g < groups; g++) {
      const count = ends[g]!;
      ends[g] = at;
      at += count;
    }
    for (let i = 0; i < burst.length; i++) {
      const row = list[i]!;
      const r = row * Row.WORDS;
      if (rows[r + Row.FATE] !== 0 || rows[r + Row.SA]! < 0) continue;
      const g = groupOf[rows[r + Row.SA]!]!;
      order[ends[g]!] = row;
      ends[g] = ends[g]! + 1;
    }
    for (let g = 0; g < groups; g++) groupOf[slots[g]!] = -1;
    this.count = groups;
  }
}
