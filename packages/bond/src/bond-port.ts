/** The bond on one worker: hash, split, hand over. */
import { type Burst, createBurst, type FrameSlab, Row } from '@espalier/wire';
import { DropReason, type LowerHandle, type Port, type StateLowerHandle } from '@espalier/xfrm';
import { ReplicaTable, type ReplicaTicket } from './replicas.ts';
import { SnapshotReader, type SnapshotTicket } from './snapshot.ts';
import { XMIT_HASH_POLICIES, xmitHash } from './xmit-hash.ts';

/** What a worker needs of a bond; plain data. */
export interface BondTicket {
  readonly snapshot: SnapshotTicket;
  readonly replicas: ReplicaTicket;
  /** One word: index of the transmit hash policy. */
  readonly policy: SharedArrayBuffer;
}

export interface BondPortOptions {
  readonly worker: number;
  /** This worker's ports by lower index. */
  readonly ports: ReadonlyMap<number, Port>;
  readonly slab: FrameSlab;
  /** Longest burst; 256 when absent. */
  readonly capacity?: number;
}

export class BondPort implements StateLowerHandle {
  readonly #snapshot: SnapshotReader;
  readonly #replicas: ReplicaTable;
  readonly #policy: Int32Array;
  readonly #ports: (Port | null)[];
  /** Per lower: the rows of the burst at hand that are its own. */
  readonly #parts: Burst[];

  private constructor(ticket: BondTicket, options: BondPortOptions) {
    const { worker, ports, slab, capacity = 256 } = options;
    this.#snapshot = new SnapshotReader(ticket.snapshot, worker);
    this.#replicas = ReplicaTable.attach(ticket.replicas);
    this.#policy = new Int32Array(ticket.policy);
    const lowers = ticket.replicas.maxLowers;
    this.#ports = Array.from({ length: lowers }, (_, i) => ports.get(i) ?? null);
    this.#parts = Array.from({ length: lowers }, () => createBurst(slab, capacity));
  }

  static attach(ticket: BondTicket, options: BondPortOptions): BondPort {
    return new BondPort(ticket, options);
  }

  /** Around every burst, received ones too: what is resolved under a pin stays valid until `unpin`. */
  pin(): void {
    this.#snapshot.pin();
  }

  /** Before any wait. */
  unpin(): void {
    this.#snapshot.unpin();
  }

  /** The handle for an SA on one slave; under a pin. Kernel: xdo_dev_state_lower_handle. */
  stateLowerHandle(saSlot: number, lowerIndex: number): LowerHandle {
    return this.#replicas.stateLowerHandle(saSlot, lowerIndex);
  }

  /** How often this worker asked; 0 as long as the bond is active-backup. */
  get asked(): number {
    return this.#replicas.asked;
  }

  /** As `Port.xmit`, under a pin: `usable[hash % count]` for each row. Refused rows have a FATE and stay the caller's. */
  xmit(burst: Burst): number {
    const { rows, list, slab } = burst;
    const count = this.#snapshot.count();
    const policy = XMIT_HASH_POLICIES[Atomics.load(this.#policy, 0)]!;
    for (let i = 0; i < burst.length; i++) {
      const row = list[i]!;
      const r = row * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      if (count === 0) {
        rows[r + Row.FATE] = DropReason.NO_USABLE_SLAVE;
        continue;
      }
      let nth = 0;
      if (count > 1) {
        const tci = rows[r + Row.TCI]!;
        nth = xmitHash(policy, slab.view, rows[r + Row.START]!, rows[r + Row.END]!, tci & 0xffff) % count;
      }
      const lower = this.#snapshot.usable(nth);
      rows[r + Row.LOWER] = lower;
      const part = this.#parts[lower]!;
      part.list[part.length++] = row;
    }
    let sent = 0;
    for (let i = 0; i < count; i++) {
      const lower = this.#snapshot.usable(i);
      const part = this.#parts[lower]!;
      if (part.length === 0) continue;
      const port = this.#ports[lower];
      if (port) sent += port.xmit(part);
      else
        for (let k = 0; k < part.length; k++) rows[part.list[k]! * Row.WORDS + Row.FATE] = DropReason.NO_USABLE_SLAVE;
      part.length = 0;
    }
    return sent;
  }
}
