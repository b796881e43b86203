/** What has been accepted comes out only up to the durable mark of its SA: see marks.ts. */
import { SaStat } from '@espalier/esp';
import { type Burst, Row } from '@espalier/wire';
import { DropReason } from '@espalier/xfrm';

/** Numbers are gated in blocks of so many, so that a gate of 2^40 numbers is one 32-bit word, and never read in halves. */
export const GATE_BLOCK = 512;
const LOG_BLOCK = 9;
/** The gate of an SA whose state nobody keeps. */
export const GATE_OPEN = -1;

/**
 * For a burst that has been through `EspPath.inbound`: packets beyond their SA's gate end as EXHAUSTED, counted for the SA.
 * Their numbers are used up all the same; the mark follows the window, so the gate opens at the next save.
 */
export function holdBack(burst: Burst, gates: Int32Array, saStats: Float64Array): void {
  const { rows, list } = burst;
  for (let i = 0; i < burst.length; i++) {
    const r = list[i]! * Row.WORDS;
    const slot = rows[r + Row.SA]!;
    if (rows[r + Row.FATE] !== 0 || slot < 0) continue;
    const block = rows[r + Row.SEQ_HI]! * 2 ** (32 - LOG_BLOCK) + (rows[r + Row.SEQ_LO]! >>> LOG_BLOCK);
    if (block < Atomics.load(gates, slot) >>> 0) continue;
    rows[r + Row.FATE] = DropReason.EXHAUSTED;
    const s = slot * SaStat.COLUMNS;
    saStats[s + SaStat.DROPPED] = saStats[s + SaStat.DROPPED]! + 1;
    saStats[s + SaStat.DROPS + DropReason.EXHAUSTED] = saStats[s + SaStat.DROPS + DropReason.EXHAUSTED]! + 1;
  }
}
