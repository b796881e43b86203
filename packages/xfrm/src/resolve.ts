import type { LowerHandle } from './handle.ts';
import { OffloadDevice, type OffloadTable } from './offload.ts';
import type { HandleSource, StateLowerHandle } from './seam.ts';

/**
 * The handle for this SA on the lower about to carry the packet; 0 means drop.
 * A single lower is the fast path and asks no upper. Kernel: xfrm_dev_state_lower_handle.
 */
export function resolveLowerHandle(
  offloads: OffloadTable,
  upper: StateLowerHandle | null,
  saSlot: number,
  lowerIndex: number,
): LowerHandle {
  if (saSlot < 0 || saSlot >= offloads.slots) return 0;
  const device = offloads.device(saSlot);
  if (device === lowerIndex) return offloads.handle(saSlot);
  if (device !== OffloadDevice.UPPER || upper === null) return 0;
  return upper.stateLowerHandle(saSlot, lowerIndex);
}

/** `resolveLowerHandle` with its tables bound: what a worker lends to its ports. */
export class LowerHandles implements HandleSource {
  readonly #offloads: OffloadTable;
  readonly #upper: StateLowerHandle | null;

  constructor(offloads: OffloadTable, upper: StateLowerHandle | null) {
    this.#offloads = offloads;
    this.#upper = upper;
  }

  resolve(saSlot: number, lowerIndex: number): LowerHandle {
    return resolveLowerHandle(this.#offloads, this.#upper, saSlot, lowerIndex);
  }
}
