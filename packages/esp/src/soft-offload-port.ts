import { type Burst, Row, RowState } from '@espalier/wire';
import {
  ALGORITHM_NAMES,
  type CryptoEngine,
  conceal,
  DropReason,
  type HandleSource,
  PortStat,
  SaKey,
} from '@espalier/xfrm';
import {
  entryAt,
  HANDLE_INDEX_BITS,
  SOFT_CAPACITY,
  SOFT_CHANGES,
  SOFT_PORTS,
  SoftEntry,
  SoftLife,
  SoftStat,
  softStatAt,
  statsAt,
} from './soft-offload.ts';
import { finishUdp6 } from './udp-checksum.ts';

export interface SoftOffloadPortOptions {
  /** `SoftOffload.memory` of the lower. */
  readonly memory: SharedArrayBuffer;
  /** The worker's engine. */
  readonly engine: CryptoEngine;
  readonly handles: HandleSource;
  readonly lowerIndex: number;
  /** Which port of the lower this is; 0 when absent. */
  readonly port?: number;
  /** This port's PortStat columns. */
  readonly stats: Float64Array;
}

/**
 * HW_ESP carried by software, datapath half: one per port. `seal` is the rule that every lower obeys before anything
 * reaches its wire: no handle, no packet.
 */
export class SoftOffloadPort {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #engine: CryptoEngine;
  readonly #handles: HandleSource;
  readonly #lower: number;
  readonly #stats: Float64Array;
  /** Per entry, SoftStat columns of this port. */
  readonly #counts: Float64Array;
  /** Of the last `#keyFor` that found one: index of its entry. */
  #entry = 0;
  /** By place in the burst: entry under which a row is being opened. */
  #entries: Int32Array = new Int32Array(0);
  /** By entry index: the handle whose key this worker has installed, and the engine's number for it. */
  readonly #handleOf: Int32Array;
  readonly #keyOf: Int32Array;
  #changes = 0;

  constructor(options: SoftOffloadPortOptions) {
    const { port = 0 } = options;
    conceal(options.memory, '[key table]');
    const capacity = new Int32Array(options.memory, 0, SOFT_PORTS + 1)[SOFT_CAPACITY]!;
    const ports = new Int32Array(options.memory, 0, SOFT_PORTS + 1)[SOFT_PORTS]!;
    if (!(port >= 0 && port < ports)) throw new RangeError(`port ${port} of ${ports}`);
    this.#words = new Int32Array(options.memory, 0, statsAt(capacity) / 4);
    this.#bytes = new Uint8Array(options.memory, 0, statsAt(capacity));
    const from = statsAt(capacity) + softStatAt(capacity, port, 1) * 8;
    this.#counts = new Float64Array(options.memory, from, capacity * SoftStat.COLUMNS);
    this.#engine = options.engine;
    this.#handles = options.handles;
    this.#lower = options.lowerIndex;
    this.#stats = options.stats;
    this.#handleOf = new Int32Array(capacity + 1);
    this.#keyOf = new Int32Array(capacity + 1);
  }

  /**
   * Every row without a FATE ends SEALED, CLEAR, or with a FATE: UNSET for a row that is neither, NO_LOWER_HANDLE where
   * nothing resolves. Refused rows are left bit-identical. One engine call. A handle is asked for once for a run of rows of
   * one SA: all of a burst are under the same pin.
   */
  seal(burst: Burst): void {
    const { rows, list } = burst;
    const stats = this.#stats;
    let toSeal = 0;
    let slot = -1;
    let key = 0;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      const state = rows[r + Row.STATE]!;
      if (state === RowState.TO_SEAL) {
        if (rows[r + Row.SA] !== slot) {
          slot = rows[r + Row.SA]!;
          key = this.#keyFor(slot);
        }
        if (key === 0) {
          rows[r + Row.FATE] = DropReason.NO_LOWER_HANDLE;
          stats[PortStat.NO_HANDLE] = stats[PortStat.NO_HANDLE]! + 1;
        } else {
          rows[r + Row.KEY] = key;
          rows[r + Row.LOWER] = this.#lower;
          this.#countPackets(this.#entry, 1, rows[r + Row.END]! - rows[r + Row.START]!);
          toSeal++;
        }
      } else if (state === RowState.SEALED) {
        stats[PortStat.SENT_SEALED] = stats[PortStat.SENT_SEALED]! + 1;
      } else if (state === RowState.CLEAR) {
        stats[PortStat.CLEAR] = stats[PortStat.CLEAR]! + 1;
      } else {
        rows[r + Row.FATE] = DropReason.UNSET;
        stats[PortStat.REFUSED] = stats[PortStat.REFUSED]! + 1;
      }
    }
    if (toSeal === 0) return;
    this.#engine.seal(burst);
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] === 0 && rows[r + Row.STATE] === RowState.SEALED) finishUdp6(burst.slab, r);
    }
    stats[PortStat.SEALED] = stats[PortStat.SEALED]! + toSeal;
  }

  /**
   * Opens RECEIVED rows (SA, SEQ_LO and SEQ_HI set) whose handle resolves here; leaves the others RECEIVED. One engine call.
   * Returns how many are OPENED. A handle is asked for once for a run of rows of one SA.
   */
  open(burst: Burst): number {
    const { rows, list } = burst;
    let toOpen = 0;
    if (this.#entries.length < burst.length) this.#entries = new Int32Array(list.length);
    let slot = -1;
    let key = 0;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      this.#entries[i] = 0;
      if (rows[r + Row.FATE] !== 0 || rows[r + Row.STATE] !== RowState.RECEIVED || rows[r + Row.SA]! < 0) continue;
      if (rows[r + Row.SA] !== slot) {
        slot = rows[r + Row.SA]!;
        key = this.#keyFor(slot);
      }
      rows[r + Row.KEY] = key;
      if (key === 0) continue;
      this.#entries[i] = this.#entry;
      toOpen++;
    }
    if (toOpen === 0) return 0;
    this.#engine.open(burst);
    return this.#countOpened(burst);
  }

  /** What has become of the rows that were to be opened; returns how many are. */
  #countOpened({ rows, list, length }: Burst): number {
    const stats = this.#stats;
    let opened = 0;
    let bad = 0;
    let entry = 0;
    let packets = 0;
    let bytes = 0;
    for (let i = 0; i < length; i++) {
      if (this.#entries[i] === 0) continue;
      const r = list[i]! * Row.WORDS;
      if (this.#entries[i] !== entry) {
        this.#countPackets(entry, packets, bytes);
        opened += packets;
        entry = this.#entries[i]!;
        packets = bytes = 0;
      }
      if (rows[r + Row.STATE] === RowState.OPENED) {
        packets++;
        bytes += rows[r + Row.END]! - rows[r + Row.START]!;
      } else if (rows[r + Row.STATE] === RowState.ICV_BAD) {
        bad++;
        const c = (entry - 1) * SoftStat.COLUMNS + SoftStat.ICV_FAILURES;
        this.#counts[c] = this.#counts[c]! + 1;
      }
    }
    this.#countPackets(entry, packets, bytes);
    opened += packets;
    stats[PortStat.OPENED] = stats[PortStat.OPENED]! + opened;
    stats[PortStat.ICV_BAD] = stats[PortStat.ICV_BAD]! + bad;
    return opened;
  }

  #countPackets(entry: number, packets: number, bytes: number): void {
    if (packets === 0) return;
    const c = (entry - 1) * SoftStat.COLUMNS;
    this.#counts[c] = this.#counts[c]! + packets;
    this.#counts[c + SoftStat.BYTES] = this.#counts[c + SoftStat.BYTES]! + bytes;
  }

  /** Forgets keys whose handle is gone; cheap when nothing has changed. */
  sweep(): void {
    const changes = Atomics.load(this.#words, SOFT_CHANGES);
    if (changes === this.#changes) return;
    this.#changes = changes;
    for (let index = 1; index < this.#handleOf.length; index++)
      if (this.#handleOf[index] !== 0 && !this.#live(this.#handleOf[index]!)) this.#forget(index);
  }

  /** Forgets every key. */
  close(): void {
    for (let index = 1; index < this.#handleOf.length; index++) if (this.#handleOf[index] !== 0) this.#forget(index);
  }

  /** The engine's key for an SA on this lower; 0 = no handle, or one that is deleted or of an older generation. */
  #keyFor(slot: number): number {
    const handle = this.#handles.resolve(slot, this.#lower);
    if (handle === 0 || !this.#live(handle)) return 0;
    const index = handle & ((1 << HANDLE_INDEX_BITS) - 1);
    this.#entry = index;
    if (this.#handleOf[index] === handle) return this.#keyOf[index]!;
    return this.#install(index, handle);
  }

  #live(handle: number): boolean {
    const index = handle & ((1 << HANDLE_INDEX_BITS) - 1);
    if (index < 1 || index >= this.#handleOf.length) return false;
    const life = Atomics.load(this.#words, entryAt(index) + SoftEntry.LIFE);
    return (life & 3) === SoftLife.READY && life >>> 2 === handle >>> HANDLE_INDEX_BITS;
  }

  #install(index: number, handle: number): number {
    if (this.#handleOf[index] !== 0) this.#forget(index);
    const e = entryAt(index);
    const words = this.#words;
    const algorithm = ALGORITHM_NAMES[words[e + SoftEntry.ALGORITHM]!];
    if (algorithm === undefined || !this.#engine.algorithms.includes(algorithm)) return 0;
    const at = (e + SoftEntry.KEY) * 4;
    const material = this.#bytes.slice(at, at + words[e + SoftEntry.KEY_LENGTH]!);
    // Deleted and freed while we were reading: what we have may be half of a wiped key.
    if (!this.#live(handle)) return 0;
    const key = SaKey.import(algorithm, material);
    const number = this.#engine.install(algorithm, key, {
      esn: words[e + SoftEntry.ESN] === 1,
      icvLength: words[e + SoftEntry.ICV]!,
    });
    key.wipe();
    material.fill(0);
    this.#handleOf[index] = handle;
    this.#keyOf[index] = number;
    return number;
  }

  #forget(index: number): void {
    this.#engine.remove(this.#keyOf[index]!);
    this.#handleOf[index] = 0;
    this.#keyOf[index] = 0;
  }
}
