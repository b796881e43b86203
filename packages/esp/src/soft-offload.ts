import {
  ALGORITHM_NAMES,
  conceal,
  type LowerHandle,
  MAX_KEY_LENGTH,
  type Sa,
  type SaStats,
  type XfrmDeviceOps,
  XfrmError,
} from '@espalier/xfrm';

/** Words of one entry in the shared key table; the key's bytes lie behind the words. */
export const SoftEntry = {
  /** generation << 2 | state */
  LIFE: 0,
  ALGORITHM: 1,
  ICV: 2,
  ESN: 3,
  KEY_LENGTH: 4,
  KEY: 8,
  /** 8 words and the key; a multiple of a cache line. */
  WORDS: Math.ceil((8 * 4 + MAX_KEY_LENGTH) / 64) * 16,
} as const;

/** State bits of LIFE. */
export const SoftLife = { FREE: 0, READY: 1, DELETED: 2 } as const;

/** A handle is index | generation << 20; indices begin at 1, so that no handle is 0. */
export const HANDLE_INDEX_BITS = 20;
const GENERATIONS = 1 << 11;

/** The first words: how often the table changed, so that ports know when to look for keys to forget; entries and ports. */
const SOFT_HEADER_WORDS = 16;
export const SOFT_CHANGES = 0;
export const SOFT_CAPACITY = 1;
export const SOFT_PORTS = 2;

/** Counters of one entry on one port, behind the entries; written by that port alone. */
export const SoftStat = { PACKETS: 0, BYTES: 1, ICV_FAILURES: 2, COLUMNS: 3 } as const;

/**
 * HW_ESP carried by software, control half: a lower's key table in shared memory, as a NIC has one. The lower's ports
 * (SoftOffloadPort, one per worker) seal and open with the key behind the handle that was resolved for them; nothing
 * needs to be sent to a worker when an SA comes or goes.
 */
export class SoftOffload implements XfrmDeviceOps {
  readonly lowerHandle = true;
  /** The key table, for the tickets of the lower's ports. */
  readonly memory: SharedArrayBuffer;
  readonly #device: string;
  readonly #capacity: number;
  readonly #ports: number;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #stats: Float64Array;
  readonly #free: number[] = [];
  #closed = false;

  /** `ports`: how many the lower has; each keeps its own counters. */
  constructor(options: { readonly device: string; readonly capacity?: number; readonly ports?: number }) {
    const { device, capacity = 4096, ports = 1 } = options;
    if (!Number.isInteger(capacity) || capacity < 1 || capacity >= 1 << HANDLE_INDEX_BITS)
      throw new RangeError(`"capacity" must be from 1 to 2^20 - 1, got ${capacity}`);
    this.#device = device;
    this.#capacity = capacity;
    this.#ports = ports;
    this.memory = new SharedArrayBuffer(statsAt(capacity) + ports * capacity * SoftStat.COLUMNS * 8);
    conceal(this.memory, '[key table]');
    this.#words = new Int32Array(this.memory, 0, statsAt(capacity) / 4);
    this.#bytes = new Uint8Array(this.memory, 0, statsAt(capacity));
    this.#stats = new Float64Array(this.memory, statsAt(capacity));
    this.#words[SOFT_CAPACITY] = capacity;
    this.#words[SOFT_PORTS] = ports;
    for (let index = capacity; index >= 1; index--) this.#free.push(index);
  }

  /** Handles not yet freed; 0 when nothing has leaked. */
  get used(): number {
    return this.#capacity - this.#free.length;
  }

  /** From now on adds are refused with CLOSED; what is installed can still be deleted and freed. */
  close(): void {
    this.#closed = true;
  }

  async stateAdd(sa: Sa, signal?: AbortSignal): Promise<LowerHandle> {
    if (this.#closed) throw new XfrmError({ code: 'CLOSED', what: `${this.#device} is closed` });
    if (signal?.aborted) throw new XfrmError({ code: 'ABORTED', what: `adding an SA to ${this.#device}` });
    if (sa.offload?.type === 'packet')
      throw new XfrmError({ code: 'UNSUPPORTED', device: this.#device, what: 'offload type packet' });
    const algorithm = ALGORITHM_NAMES.indexOf(sa.algorithm);
    if (algorithm < 0) throw new XfrmError({ code: 'UNSUPPORTED', device: this.#device, what: sa.algorithm });
    const index = this.#free.pop();
    if (index === undefined)
      throw new XfrmError({
        code: 'REFUSED',
        device: this.#device,
        spi: sa.spi,
        what: `all ${this.#capacity} SA slots are in use`,
      });
    const e = entryAt(index);
    const words = this.#words;
    const generation = words[e + SoftEntry.LIFE]! >>> 2;
    const key = sa.key.reveal();
    words[e + SoftEntry.ALGORITHM] = algorithm;
    words[e + SoftEntry.ICV] = sa.icvLength;
    words[e + SoftEntry.ESN] = sa.esn ? 1 : 0;
    words[e + SoftEntry.KEY_LENGTH] = key.length;
    this.#bytes.set(key, (e + SoftEntry.KEY) * 4);
    for (let port = 0; port < this.#ports; port++) {
      const s = softStatAt(this.#capacity, port, index);
      this.#stats.fill(0, s, s + SoftStat.COLUMNS);
    }
    // The last store: from here on the handle works.
    Atomics.store(words, e + SoftEntry.LIFE, (generation << 2) | SoftLife.READY);
    return index | (generation << HANDLE_INDEX_BITS);
  }

  stateDelete(handle: LowerHandle): void {
    const e = this.#entry(handle, SoftLife.READY, 'deleted');
    Atomics.store(this.#words, e + SoftEntry.LIFE, (this.#words[e + SoftEntry.LIFE]! & ~3) | SoftLife.DELETED);
    Atomics.add(this.#words, SOFT_CHANGES, 1);
  }

  async stateFree(handle: LowerHandle): Promise<void> {
    const e = this.#entry(handle, SoftLife.DELETED, 'freed');
    this.#bytes.fill(0, (e + SoftEntry.KEY) * 4, (e + SoftEntry.WORDS) * 4);
    const generation = ((this.#words[e + SoftEntry.LIFE]! >>> 2) + 1) % GENERATIONS;
    Atomics.store(this.#words, e + SoftEntry.LIFE, generation << 2);
    Atomics.add(this.#words, SOFT_CHANGES, 1);
    this.#free.unshift(handle & ((1 << HANDLE_INDEX_BITS) - 1));
  }

  /** Rows carry the number that was inferred once, before the ICV: there is no ESN state here to move. */
  advanceEsn(handle: LowerHandle): void {
    this.#entry(handle, SoftLife.READY, 'advanced');
  }

  updateStats(handle: LowerHandle, into: SaStats): void {
    this.#read(handle, 0, this.#ports, into);
  }

  updatePortStats(handle: LowerHandle, port: number, into: SaStats): void {
    this.#read(handle, port, port + 1, into);
  }

  #read(handle: LowerHandle, from: number, to: number, into: SaStats): void {
    const index = handle & ((1 << HANDLE_INDEX_BITS) - 1);
    const life = index >= 1 && index <= this.#capacity ? this.#words[entryAt(index) + SoftEntry.LIFE]! : SoftLife.FREE;
    if ((life & 3) === SoftLife.FREE || life >>> 2 !== handle >>> HANDLE_INDEX_BITS)
      throw new XfrmError({
        code: 'NOT_FOUND',
        what: `handle 0x${handle.toString(16)} cannot be read on ${this.#device}`,
      });
    into.packets = 0;
    into.bytes = 0;
    into.icvFailures = 0;
    for (let port = from; port < to; port++) {
      const s = softStatAt(this.#capacity, port, index);
      into.packets += this.#stats[s + SoftStat.PACKETS]!;
      into.bytes += this.#stats[s + SoftStat.BYTES]!;
      into.icvFailures += this.#stats[s + SoftStat.ICV_FAILURES]!;
    }
  }

  /** Software takes every packet that fits a frame. */
  offloadOk(): boolean {
    return true;
  }

  #entry(handle: LowerHandle, state: number, what: string): number {
    const index = handle & ((1 << HANDLE_INDEX_BITS) - 1);
    const e = entryAt(index);
    const life = index >= 1 && index <= this.#capacity ? this.#words[e + SoftEntry.LIFE]! : -1;
    if (life < 0 || life >>> 2 !== handle >>> HANDLE_INDEX_BITS || (life & 3) !== state)
      throw new XfrmError({
        code: 'NOT_FOUND',
        what: `handle 0x${handle.toString(16)} cannot be ${what} on ${this.#device}`,
      });
    return e;
  }
}

/** First word of entry `index`. */
export function entryAt(index: number): number {
  return SOFT_HEADER_WORDS + (index - 1) * SoftEntry.WORDS;
}

/** Bytes in front of the counters: a multiple of 8, since headers and entries are. */
export function statsAt(capacity: number): number {
  return (SOFT_HEADER_WORDS + capacity * SoftEntry.WORDS) * 4;
}

/** First counter of entry `index` on port `port`, in the Float64Array that begins at `statsAt`. */
export function softStatAt(capacity: number, port: number, index: number): number {
  return (port * capacity + index - 1) * SoftStat.COLUMNS;
}
