import {
  ALGORITHM_NAMES,
  type LowerHandle,
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
  /** 8 words and 64 bytes of key. */
  WORDS: 24,
} as const;

/** State bits of LIFE. */
export const SoftLife = { FREE: 0, READY: 1, DELETED: 2 } as const;

/** A handle is index | generation << 20; indices begin at 1, so that no handle is 0. */
export const HANDLE_INDEX_BITS = 20;
const GENERATIONS = 1 << 11;

/** The first words: how often the table changed, so that ports know when to look for keys to forget. */
export const SOFT_HEADER_WORDS = 16;
export const SOFT_CHANGES = 0;

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
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #free: number[] = [];

  constructor(options: { readonly device: string; readonly capacity?: number }) {
    const { device, capacity = 4096 } = options;
    if (!Number.isInteger(capacity) || capacity < 1 || capacity >= 1 << HANDLE_INDEX_BITS)
      throw new RangeError(`"capacity" must be from 1 to 2^20 - 1, got ${capacity}`);
    this.#device = device;
    this.#capacity = capacity;
    this.memory = new SharedArrayBuffer((SOFT_HEADER_WORDS + capacity * SoftEntry.WORDS) * 4);
    this.#words = new Int32Array(this.memory);
    this.#bytes = new Uint8Array(this.memory);
    for (let index = capacity; index >= 1; index--) this.#free.push(index);
  }

  /** Handles not yet freed; 0 when nothing has leaked. */
  get used(): number {
    return this.#capacity - this.#free.length;
  }

  async stateAdd(sa: Sa, signal?: AbortSignal): Promise<LowerHandle> {
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

  /** Counts live with the ports (PortStat), since every port has its own row there. */
  updateStats(handle: LowerHandle, into: SaStats): void {
    this.#entry(handle, SoftLife.READY, 'read');
    into.packets = 0;
    into.bytes = 0;
    into.icvFailures = 0;
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
