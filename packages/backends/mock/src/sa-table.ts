import {
  ALGORITHM_NAMES,
  ALGORITHMS,
  type AlgorithmName,
  conceal,
  type LowerHandle,
  MAX_KEY_LENGTH,
  type Sa,
  type SaStats,
} from '@espalier/xfrm';

/** What another thread needs to attach a NIC's table; plain data. */
export interface MockSaTableTicket {
  readonly memory: SharedArrayBuffer;
  readonly capacity: number;
  readonly ports: number;
}

/** Words in front of the entries. */
const VIOLATIONS = 0;
/** Rises whenever an entry comes or goes, so that ports know when to look again. */
const EPOCH = 1;
const HEADER_WORDS = 16;

/** Words of one entry. */
const Entry = {
  STATE: 0,
  GENERATION: 1,
  SPI: 2,
  FLAGS: 3,
  ALGORITHM: 4,
  ICV: 5,
  SLOT: 6,
  /** floor(bottom / 2^31) of the window as last told: a top bit more than the high half. Kernel drivers: esn_msb, overlap. */
  ESN_BASE: 7,
  DESTINATION: 9,
  KEY: 16,
  WORDS: 16 + Math.ceil(MAX_KEY_LENGTH / 64) * 16,
} as const;

export const EntryState = { FREE: 0, ADDING: 1, LIVE: 2, DELETED: 3 } as const;

const INBOUND = 1;
const ESN = 2;
const V6 = 4;
const ENCAP = 8;

const INDEX_BITS = 20;
const INDEX_MASK = (1 << INDEX_BITS) - 1;
/** Generations stay below 2^11, so that a handle is a positive Int32. */
const GENERATIONS = 1 << 11;
const STAT_COLUMNS = 3;

/**
 * The key table of one mock NIC in shared memory, apart from everything that esp has: a deleted entry's key is wiped at
 * once, and whatever is done under an entry that is not live is a violation, counted. Written by the control thread;
 * read by the NIC's ports, which write only their own counters.
 */
export class MockSaTable {
  readonly capacity: number;
  readonly ports: number;
  readonly #memory: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #stats: Float64Array;
  /** Per port and entry: rows posted and not yet completed. */
  readonly #pending: Int32Array;

  private constructor(ticket: MockSaTableTicket) {
    const { memory, capacity, ports } = ticket;
    this.capacity = capacity;
    this.ports = ports;
    this.#memory = memory;
    conceal(memory, '[key table]');
    const words = HEADER_WORDS + (capacity + 1) * Entry.WORDS;
    this.#words = new Int32Array(memory, 0, words);
    this.#bytes = new Uint8Array(memory, 0, words * 4);
    const cells = ports * (capacity + 1);
    this.#stats = new Float64Array(memory, words * 4, cells * STAT_COLUMNS);
    this.#pending = new Int32Array(memory, words * 4 + cells * STAT_COLUMNS * 8, cells);
  }

  static create(capacity: number, ports: number): MockSaTable {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity >= 1 << INDEX_BITS)
      throw new RangeError(`"saSlots" must be an integer from 1 to 2^20 - 1, got ${capacity}`);
    const bytes = (HEADER_WORDS + (capacity + 1) * Entry.WORDS) * 4 + ports * (capacity + 1) * (STAT_COLUMNS * 8 + 4);
    return new MockSaTable({ memory: new SharedArrayBuffer(bytes), capacity, ports });
  }

  static attach(ticket: MockSaTableTicket): MockSaTable {
    return new MockSaTable(ticket);
  }

  ticket(): MockSaTableTicket {
    return { memory: this.#memory, capacity: this.capacity, ports: this.ports };
  }

  /** Uses of deleted or freed handles, double deletes, frees too early: 0 in a house that keeps the rules. */
  get violations(): number {
    return Atomics.load(this.#words, VIOLATIONS);
  }

  violate(): void {
    Atomics.add(this.#words, VIOLATIONS, 1);
  }

  get epoch(): number {
    return Atomics.load(this.#words, EPOCH);
  }

  state(index: number): number {
    return Atomics.load(this.#words, at(index) + Entry.STATE);
  }

  generation(index: number): number {
    return Atomics.load(this.#words, at(index) + Entry.GENERATION);
  }

  handle(index: number): LowerHandle {
    return index | (this.generation(index) << INDEX_BITS);
  }

  /** The entry of a handle whose generation still holds, whatever its state; 0 when there is none. */
  indexOf(handle: LowerHandle): number {
    const index = handle & INDEX_MASK;
    if (index === 0 || index > this.capacity || handle >>> INDEX_BITS !== this.generation(index)) return 0;
    return index;
  }

  /** The entry of a handle that may be used now; 0 when there is none. */
  live(handle: LowerHandle): number {
    const index = this.indexOf(handle);
    return index !== 0 && this.state(index) === EntryState.LIVE ? index : 0;
  }

  /** Control: takes the entry for an add under way. */
  reserve(index: number): void {
    Atomics.store(this.#words, at(index) + Entry.STATE, EntryState.ADDING);
  }

  /** Control: writes the SA into its entry and makes it live. */
  publish(index: number, sa: Sa): LowerHandle {
    const e = at(index);
    const words = this.#words;
    words[e + Entry.SPI] = sa.spi | 0;
    words[e + Entry.FLAGS] =
      (sa.direction === 'in' ? INBOUND : 0) |
      (sa.esn ? ESN : 0) |
      (sa.destination.length === 16 ? V6 : 0) |
      (sa.encap === null ? 0 : ENCAP);
    words[e + Entry.ALGORITHM] = ALGORITHM_NAMES.indexOf(sa.algorithm);
    words[e + Entry.ICV] = sa.icvLength;
    words[e + Entry.SLOT] = sa.slot;
    words[e + Entry.ESN_BASE] = 0;
    const bytes = e * 4;
    this.#bytes.fill(0, bytes + Entry.DESTINATION * 4, bytes + Entry.KEY * 4);
    this.#bytes.set(sa.destination, bytes + Entry.DESTINATION * 4);
    this.#bytes.set(sa.key.reveal(), bytes + Entry.KEY * 4);
    for (let port = 0; port < this.ports; port++) {
      Atomics.store(this.#pending, port * (this.capacity + 1) + index, 0);
      for (let column = 0; column < STAT_COLUMNS; column++) this.#stats[this.#stat(port, index) + column] = 0;
    }
    Atomics.store(words, e + Entry.STATE, EntryState.LIVE);
    Atomics.add(words, EPOCH, 1);
    return this.handle(index);
  }

  /** Control: no new use, key gone. */
  wipe(index: number): void {
    const e = at(index);
    Atomics.store(this.#words, e + Entry.STATE, EntryState.DELETED);
    this.#bytes.fill(0, (e + Entry.KEY) * 4, (e + Entry.WORDS) * 4);
    Atomics.add(this.#words, EPOCH, 1);
  }

  /** Control: the entry may be taken again. Its handle resolves to nothing from now on. */
  release(index: number): void {
    const e = at(index);
    Atomics.store(this.#words, e + Entry.GENERATION, (this.generation(index) + 1) % GENERATIONS);
    Atomics.store(this.#words, e + Entry.STATE, EntryState.FREE);
    Atomics.add(this.#words, EPOCH, 1);
  }

  /** Control: the add came to nothing; the entry is as it was. */
  unreserve(index: number): void {
    Atomics.store(this.#words, at(index) + Entry.STATE, EntryState.FREE);
  }

  /** Control: the window's left edge as told; only upwards. */
  tellBottom(index: number, bottom: number): void {
    const e = at(index) + Entry.ESN_BASE;
    const base = Math.floor(bottom / 2 ** 31);
    if (base > Atomics.load(this.#words, e)) Atomics.store(this.#words, e, base);
  }

  /** High half of a received number: the one number with this low half in the 2^32 from the told edge on. 0 without ESN. */
  inferHi(index: number, seqLo: number): number {
    const e = at(index);
    if ((this.#words[e + Entry.FLAGS]! & ESN) === 0) return 0;
    const base = Atomics.load(this.#words, e + Entry.ESN_BASE);
    const hi = base >> 1;
    // The edge lies in the lower or the upper half of its 2^32; below it only the next round is left.
    return (base & 1) === 1 && seqLo >>> 31 === 0 ? hi + 1 : hi;
  }

  inbound(index: number): boolean {
    return (this.#words[at(index) + Entry.FLAGS]! & INBOUND) !== 0;
  }

  esn(index: number): boolean {
    return (this.#words[at(index) + Entry.FLAGS]! & ESN) !== 0;
  }

  encap(index: number): boolean {
    return (this.#words[at(index) + Entry.FLAGS]! & ENCAP) !== 0;
  }

  spi(index: number): number {
    return this.#words[at(index) + Entry.SPI]! >>> 0;
  }

  icvLength(index: number): number {
    return this.#words[at(index) + Entry.ICV]!;
  }

  /** The SA's slot in the house's tables. */
  slot(index: number): number {
    return this.#words[at(index) + Entry.SLOT]!;
  }

  algorithm(index: number): AlgorithmName {
    return ALGORITHM_NAMES[this.#words[at(index) + Entry.ALGORITHM]!]!;
  }

  destination(index: number): Uint8Array {
    const v6 = (this.#words[at(index) + Entry.FLAGS]! & V6) !== 0;
    const from = (at(index) + Entry.DESTINATION) * 4;
    return this.#bytes.slice(from, from + (v6 ? 16 : 4));
  }

  /** A copy of the key; all zeros once deleted. */
  key(index: number): Uint8Array {
    const from = (at(index) + Entry.KEY) * 4;
    return this.#bytes.slice(from, from + ALGORITHMS[this.algorithm(index)].keyLength);
  }

  /** Port: rows posted (+1) or completed (-1) under an entry. */
  addPending(port: number, index: number, by: number): void {
    Atomics.add(this.#pending, port * (this.capacity + 1) + index, by);
  }

  pending(index: number): number {
    let sum = 0;
    for (let port = 0; port < this.ports; port++)
      sum += Atomics.load(this.#pending, port * (this.capacity + 1) + index);
    return sum;
  }

  /** Control: the port's thread has exited; what it had posted is done. */
  portGone(port: number): void {
    const from = port * (this.capacity + 1);
    for (let i = from; i <= from + this.capacity; i++) Atomics.store(this.#pending, i, 0);
  }

  /** Port: counts one packet of an entry; each port writes its own columns. */
  count(port: number, index: number, bytes: number): void {
    const s = this.#stat(port, index);
    this.#stats[s] = this.#stats[s]! + 1;
    this.#stats[s + 1] = this.#stats[s + 1]! + bytes;
  }

  countIcvFailure(port: number, index: number): void {
    const s = this.#stat(port, index);
    this.#stats[s + 2] = this.#stats[s + 2]! + 1;
  }

  /** Sums over the ports `[from, to)` into `into`. */
  readStats(index: number, into: SaStats, from = 0, to: number = this.ports): void {
    into.packets = 0;
    into.bytes = 0;
    into.icvFailures = 0;
    for (let port = from; port < to; port++) {
      const s = this.#stat(port, index);
      into.packets += this.#stats[s]!;
      into.bytes += this.#stats[s + 1]!;
      into.icvFailures += this.#stats[s + 2]!;
    }
  }

  #stat(port: number, index: number): number {
    return (port * (this.capacity + 1) + index) * STAT_COLUMNS;
  }
}

function at(index: number): number {
  return HEADER_WORDS + index * Entry.WORDS;
}
