import { type Burst, type FrameSlab, Row, RowState } from '@espalier/wire';
import { DROP_CODES, DropReason } from '@espalier/xfrm';
import type { AuditSink } from './audit.ts';
import type { InboundTicket, OutboundTicket } from './tickets.ts';

/**
 * Columns of the per-SA counters. From DROPS on there is one column per DropReason: what this SA's packets ended of.
 * PACKETS and BYTES (of the inner packets) count what went through.
 */
export const SaStat = { PACKETS: 0, BYTES: 1, DROPPED: 2, SOFTWARE: 3, DROPS: 4, COLUMNS: 4 + DROP_CODES } as const;

/** Indexed by DropReason: 1 = what ports and bonds say and the way in never does. */
const OF_PORTS: Uint8Array = (() => {
  const table = new Uint8Array(256);
  for (const reason of [
    DropReason.NO_ROOM,
    DropReason.LINK_DOWN,
    DropReason.UNSET,
    DropReason.TOO_BIG,
    DropReason.NO_LOWER_HANDLE,
    DropReason.NO_NEIGHBOUR,
    DropReason.NO_USABLE_SLAVE,
  ])
    table[reason] = 1;
  return table;
})();

/** One worker's counters of all SAs, and who is told of drops. */
export class SaCounters {
  /** `values[slot * SaStat.COLUMNS + SaStat.X]`. */
  readonly values: Float64Array;
  readonly #audit: AuditSink | null;

  constructor(values: Float64Array, audit: AuditSink | null) {
    this.values = values;
    this.#audit = audit;
  }

  /** Packets that went through, and the bytes of the inner ones. */
  count(slot: number, packets: number, bytes: number): void {
    const s = slot * SaStat.COLUMNS;
    this.values[s + SaStat.PACKETS] = this.values[s + SaStat.PACKETS]! + packets;
    this.values[s + SaStat.BYTES] = this.values[s + SaStat.BYTES]! + bytes;
  }

  /** Packets that the path's own engine seals or opens. */
  software(slot: number, count: number): void {
    const s = slot * SaStat.COLUMNS + SaStat.SOFTWARE;
    this.values[s] = this.values[s]! + count;
  }

  countDrop(slot: number, fate: number): void {
    this.#countDrops(slot, fate, 1);
  }

  #countDrops(slot: number, fate: number, count: number): void {
    const s = slot * SaStat.COLUMNS;
    this.values[s + SaStat.DROPPED] = this.values[s + SaStat.DROPPED]! + count;
    this.values[s + SaStat.DROPS + fate] = this.values[s + SaStat.DROPS + fate]! + count;
  }

  /** Counts a row that ended, and has it audited; `ticket` is its SA's, null where none was found. */
  drop(fate: number, ticket: InboundTicket | OutboundTicket | null, slab: FrameSlab, r: number): void {
    if (ticket !== null) this.countDrop(ticket.slot, fate);
    this.#audit?.drop(fate as DropReason, ticket, slab, r);
  }

  /** The same for those of the rows `order[from .. to)` of one SA that have a FATE. */
  drops(ticket: InboundTicket | OutboundTicket, slab: FrameSlab, order: Int32Array, from: number, to: number): void {
    const FATE: typeof Row.FATE = 9;
    const { rows } = slab;
    const audit = this.#audit;
    // Rows in a run have mostly ended of the same.
    let last = 0;
    let count = 0;
    for (let i = from; i < to; i++) {
      const r = order[i]! << 4;
      const fate = rows[r | FATE]!;
      if (fate === 0) continue;
      if (fate !== last) {
        this.#countDrops(ticket.slot, last, count);
        last = fate;
        count = 0;
      }
      count = (count + 1) | 0;
      if (audit !== null) audit.drop(fate as DropReason, ticket, slab, r);
    }
    this.#countDrops(ticket.slot, last, count);
  }

  /** See EspPath. */
  countUnsent(burst: Burst): void {
    const { rows, list } = burst;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      const fate = rows[r + Row.FATE]!;
      if (fate === 0 || rows[r + Row.SA]! < 0) continue;
      const state = rows[r + Row.STATE]!;
      const left =
        state === RowState.TO_SEAL || state === RowState.SEALED || (state === RowState.OPENED && OF_PORTS[fate]);
      if (left) this.countDrop(rows[r + Row.SA]!, fate);
    }
  }
}
