import { type Burst, Row } from '@espalier/wire';
import { DropReason } from '@espalier/xfrm';

/**
 * The rows of a burst that have an SA and no FATE, by SA, each group in burst order. One worker's scratch. Filled by `begin`,
 * `add` and `end`.
 */
export class SaGroups {
  /** Row numbers: group g is `order[g === 0 ? 0 : ends[g - 1] .. ends[g])`. */
  readonly order: Int32Array;
  readonly ends: Int32Array;
  /** The SA of each group. */
  readonly slots: Int32Array;
  count = 0;
  /**
   * While rows are added: the last one's SA, whether there is another, and how many rows there are. The paths' own loops do
   * as `add` does with these three in locals, which is worth 1 ns a packet.
   */
  last = -1;
  mixed = false;
  placed = 0;
  readonly #groupOf: Int32Array;

  constructor(maxSas: number, capacity: number) {
    this.order = new Int32Array(capacity);
    this.ends = new Int32Array(capacity);
    this.slots = new Int32Array(capacity);
    this.#groupOf = new Int32Array(maxSas).fill(-1);
  }

  /** Before anything looks at a burst: its rows beyond the capacity end here, NO_ROOM, without an SA and untouched. */
  bound(burst: Burst): void {
    if (burst.length > this.order.length) this.#refuse(burst);
  }

  #refuse({ rows, list, length }: Burst): void {
    for (let i = this.order.length; i < length; i++) {
      const r = list[i]! * Row.WORDS;
      rows[r + Row.SA] = -1;
      if (rows[r + Row.FATE] === 0) rows[r + Row.FATE] = DropReason.NO_ROOM;
    }
  }

  /** Before the rows of a burst are added. */
  begin(): void {
    this.last = -1;
    this.mixed = false;
    this.placed = 0;
  }

  /** The burst's next row that has an SA and no FATE. */
  add(row: number, slot: number): void {
    this.turn(slot);
    this.order[this.placed++] = row;
  }

  /** Before rows of an SA that may be another than the last one's. */
  turn(slot: number): void {
    if (slot === this.last) return;
    this.mixed ||= this.last >= 0;
    this.last = slot;
  }

  /** After the last: most bursts are of one SA, and then they are grouped by now. */
  end(burst: Burst): void {
    if (this.mixed) {
      this.#fill(burst);
      return;
    }
    this.count = this.placed === 0 ? 0 : 1;
    this.slots[0] = this.last;
    this.ends[0] = this.placed;
  }

  /** Groups the burst by the rows' SA column. */
  #fill(burst: Burst): void {
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
