/** The (SA, lower) -> handle table, in shared memory; cells are written by the control actor alone, one store each. */
import type { LowerHandle, StateLowerHandle } from '@espalier/xfrm';

export interface ReplicaTicket {
  readonly memory: SharedArrayBuffer;
  readonly maxLowers: number;
}

export class ReplicaTable implements StateLowerHandle {
  readonly ticket: ReplicaTicket;
  readonly #cells: Int32Array;
  readonly #lowers: number;
  /** Calls of `stateLowerHandle` on this thread; in active-backup it stays 0. */
  asked = 0;

  private constructor(ticket: ReplicaTicket) {
    this.ticket = ticket;
    this.#cells = new Int32Array(ticket.memory);
    this.#lowers = ticket.maxLowers;
  }

  static create(maxSas: number, maxLowers: number): ReplicaTable {
    return new ReplicaTable({ memory: new SharedArrayBuffer(maxSas * maxLowers * 4), maxLowers });
  }

  /** The same table on another thread. */
  static attach(ticket: ReplicaTicket): ReplicaTable {
    return new ReplicaTable(ticket);
  }

  /** One load; 0 when the lower has no READY replica. Kernel: xdo_dev_state_lower_handle. */
  stateLowerHandle(saSlot: number, lowerIndex: number): LowerHandle {
    this.asked++;
    return this.read(saSlot, lowerIndex);
  }

  /** The cell, for the control actor and tests. */
  read(saSlot: number, lowerIndex: number): LowerHandle {
    if (lowerIndex < 0 || lowerIndex >= this.#lowers) return 0;
    return Atomics.load(this.#cells, saSlot * this.#lowers + lowerIndex);
  }

  /** Publishes a READY replica's handle, or 0. */
  write(saSlot: number, lowerIndex: number, handle: LowerHandle): void {
    Atomics.store(this.#cells, saSlot * this.#lowers + lowerIndex, handle);
  }
}
