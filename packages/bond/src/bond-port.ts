/** The bond on one worker: hash, choose, split, hand over. */
import { type Burst, createBurst, type FrameSlab, Row, RowState } from '@espalier/wire';
import {
  DropReason,
  type HandleSource,
  type LinkType,
  type LowerHandle,
  NoHandle,
  type Port,
  type StateLowerHandle,
} from '@espalier/xfrm';
import { ReplicaTable, type ReplicaTicket } from './replicas.ts';
import { resilientChoice } from './resilient.ts';
import { SnapshotReader, type SnapshotTicket } from './snapshot.ts';
import { XMIT_HASH_POLICIES, type XmitHashPolicy, xmitHash, xmitHashEsp, xmitHashIp } from './xmit-hash.ts';

/** What a worker needs of a bond; plain data. */
export interface BondTicket {
  readonly snapshot: SnapshotTicket;
  readonly replicas: ReplicaTicket;
  /** One word: index of the transmit hash policy. */
  readonly policy: SharedArrayBuffer;
  /** Whether a change of members moves only that member's flows (not as Linux); false when absent. */
  readonly resilient?: boolean;
}

/** The path's half of what becomes of a packet whose slave has no handle for its SA. Same thread. */
export interface WithoutHandle {
  /** A NoHandle by SA slot. */
  readonly noHandle: Uint8Array;
  /** Seals every TO_SEAL row with the path's own engine. */
  seal(burst: Burst): void;
}

export interface BondPortOptions {
  readonly worker: number;
  /** This worker's ports by lower index. */
  readonly ports: ReadonlyMap<number, Port>;
  readonly slab: FrameSlab;
  /** Longest burst; 256 when absent. */
  readonly capacity?: number;
  /** Of all slaves; 'ethernet' when absent. */
  readonly linkType?: LinkType;
  /** Needed for SAs that say other than `drop`: where handles are looked up, and the path. */
  readonly handles?: HandleSource;
  readonly path?: WithoutHandle;
}

export class BondPort implements StateLowerHandle {
  readonly #snapshot: SnapshotReader;
  readonly #replicas: ReplicaTable;
  readonly #policy: Int32Array;
  readonly #resilient: boolean;
  readonly #linkType: LinkType;
  readonly #handles: HandleSource | null;
  readonly #path: WithoutHandle | null;
  readonly #ports: (Port | null)[];
  /** Lower indices of the pinned snapshot. */
  readonly #lowers: Int32Array;
  /** Per lower: the rows of the burst at hand that are its own. */
  readonly #parts: Burst[];
  /** Rows of the burst at hand that are sealed here. */
  readonly #bare: Burst;

  private constructor(ticket: BondTicket, options: BondPortOptions) {
    const { worker, ports, slab, capacity = 256, linkType = 'ethernet' } = options;
    this.#snapshot = new SnapshotReader(ticket.snapshot, worker);
    this.#replicas = ReplicaTable.attach(ticket.replicas);
    this.#policy = new Int32Array(ticket.policy);
    this.#resilient = ticket.resilient ?? false;
    this.#linkType = linkType;
    this.#handles = options.handles ?? null;
    this.#path = options.path ?? null;
    const lowers = ticket.replicas.maxLowers;
    this.#ports = Array.from({ length: lowers }, (_, i) => ports.get(i) ?? null);
    this.#lowers = new Int32Array(lowers);
    this.#parts = Array.from({ length: lowers }, () => createBurst(slab, capacity));
    this.#bare = createBurst(slab, capacity);
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

  /** As `Port.xmit`, under a pin: one slave for each row. Refused rows have a FATE and stay the caller's. */
  xmit(burst: Burst): number {
    const count = this.#snapshot.count();
    for (let i = 0; i < count; i++) this.#lowers[i] = this.#snapshot.usable(i);
    this.#split(burst, count);
    // Sealed before any slave sees them: a port is never given a choice.
    if (this.#bare.length > 0) {
      this.#path!.seal(this.#bare);
      this.#bare.length = 0;
    }
    let sent = 0;
    for (let i = 0; i < count; i++) {
      const lower = this.#lowers[i]!;
      const part = this.#parts[lower]!;
      if (part.length === 0) continue;
      const port = this.#ports[lower];
      if (port) sent += port.xmit(part);
      else this.#refuse(part);
      part.length = 0;
    }
    return sent;
  }

  #split(burst: Burst, count: number): void {
    const { rows, list, length } = burst;
    const lowers = this.#lowers;
    const policy = XMIT_HASH_POLICIES[Atomics.load(this.#policy, 0)]!;
    // What an SA knows of its packets is their layer3+4 hash, or the spread that takes its place.
    const known = policy === 'layer3+4';
    const path = this.#path;
    for (let i = 0; i < length; i++) {
      const row = list[i]!;
      const r = row * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      if (count === 0) {
        rows[r + Row.FATE] = DropReason.NO_USABLE_SLAVE;
        continue;
      }
      let nth = 0;
      if (count > 1) {
        let hash = rows[r + Row.HASH]!;
        if (!known || hash < 0) hash = this.#hash(policy, burst.slab.view, rows, r);
        nth = this.#resilient ? resilientChoice(hash, lowers, count) : hash % count;
      }
      if (path !== null && rows[r + Row.STATE] === RowState.TO_SEAL) {
        const choice = path.noHandle[rows[r + Row.SA]!];
        if (choice !== NoHandle.DROP) nth = this.#withoutHandle(choice!, row, rows[r + Row.SA]!, nth, count);
      }
      const lower = lowers[nth]!;
      rows[r + Row.LOWER] = lower;
      const part = this.#parts[lower]!;
      part.list[part.length++] = row;
    }
  }

  #hash(policy: XmitHashPolicy, view: DataView, rows: Int32Array, r: number): number {
    const start = rows[r + Row.START]!;
    const end = rows[r + Row.END]!;
    if (this.#linkType === 'ethernet') return xmitHash(policy, view, start, end, rows[r + Row.TCI]!);
    if (this.#linkType === 'ip') return xmitHashIp(view, start, end);
    // A socket sends from the ESP header on, whatever stands in front of it.
    const esp = rows[r + Row.ESP]!;
    return xmitHashEsp(view, esp < 0 ? start : esp, end);
  }

  /**
   * For an SA that does not drop: the slave at `nth` if it has a handle; else the next one that has (STEER), or the row is
   * put down to be sealed here (SOFTWARE). The pin keeps what is resolved now until the port resolves it again.
   */
  #withoutHandle(choice: number, row: number, slot: number, nth: number, count: number): number {
    const handles = this.#handles;
    if (handles === null || handles.resolve(slot, this.#lowers[nth]!) !== 0) return nth;
    if (choice === NoHandle.SOFTWARE) {
      this.#bare.list[this.#bare.length++] = row;
      return nth;
    }
    for (let i = 1; i < count; i++) {
      const other = nth + i < count ? nth + i : nth + i - count;
      if (handles.resolve(slot, this.#lowers[other]!) !== 0) return other;
    }
    return nth;
  }

  /** This worker has no port of the slave. */
  #refuse(part: Burst): void {
    for (let k = 0; k < part.length; k++) part.rows[part.list[k]! * Row.WORDS + Row.FATE] = DropReason.NO_USABLE_SLAVE;
  }
}
