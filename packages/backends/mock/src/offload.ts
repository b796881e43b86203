import { type Burst, createBurst, type FrameSlab, Row, RowState, readSeqLo, readSpi } from '@espalier/wire';
import { type CryptoEngine, type LinkType, SadIndex, SaKey, XfrmError } from '@espalier/xfrm';
import { EntryState, type MockSaTable } from './sa-table.ts';

const ESP = 50;
const UDP = 17;
const NAT_T = 4500;

/**
 * The NIC's crypto on one worker: the engine does the cipher, everything else (which keys there are, which high half a
 * number has) is the NIC's own. Belongs to one worker.
 */
export class MockOffload {
  readonly #table: MockSaTable;
  readonly #engine: CryptoEngine;
  readonly #port: number;
  readonly #linkType: LinkType;
  readonly #view: DataView;
  readonly #index: SadIndex;
  /** Per entry: key number of the engine (0 = none) and the generation that it was installed for. */
  readonly #keys: Int32Array;
  readonly #generations: Int32Array;
  /** Rows of one call, a burst of our own; the caller's is never reordered. */
  readonly #work: Burst;
  /** Entry of each row of `#work`. */
  readonly #entries: Int32Array;
  #epoch = -1;

  constructor(
    table: MockSaTable,
    engine: CryptoEngine,
    port: number,
    linkType: LinkType,
    slab: FrameSlab,
    capacity: number,
  ) {
    this.#table = table;
    this.#engine = engine;
    this.#port = port;
    this.#linkType = linkType;
    this.#view = slab.view;
    this.#index = new SadIndex(table.capacity + 1);
    this.#keys = new Int32Array(table.capacity + 1);
    this.#generations = new Int32Array(table.capacity + 1);
    this.#work = createBurst(slab, capacity);
    this.#entries = new Int32Array(capacity);
  }

  /** The entry of a handle that may be used now, or 0. A handle that is not 0 and resolves to nothing is a violation. */
  resolve(handle: number): number {
    if (handle === 0) return 0;
    const entry = this.#table.live(handle);
    if (entry === 0) {
      this.#table.violate();
      return 0;
    }
    return this.#key(entry) === 0 ? 0 : entry;
  }

  /** Adds a row to the next `seal` or `open`. */
  stage(row: number, entry: number): void {
    const work = this.#work;
    work.rows[row * Row.WORDS + Row.KEY] = this.#keys[entry]!;
    this.#entries[work.length] = entry;
    work.list[work.length++] = row;
  }

  /** Rows staged and not yet done. */
  get staged(): number {
    return this.#work.length;
  }

  staging(i: number): number {
    return this.#work.list[i]!;
  }

  entry(i: number): number {
    return this.#entries[i]!;
  }

  /** Seals what is staged; `done` empties the stage. */
  seal(): void {
    if (this.#work.length > 0) this.#engine.seal(this.#work);
  }

  /** Whether the entry of a staged row has been live until now; false is a violation: deleted in the middle of a burst. */
  heldThroughout(i: number): boolean {
    const entry = this.#entries[i]!;
    if (this.#table.state(entry) === EntryState.LIVE && this.#table.generation(entry) === this.#generations[entry])
      return true;
    this.#table.violate();
    return false;
  }

  countSealed(i: number): void {
    const r = this.#work.list[i]! * Row.WORDS;
    const rows = this.#work.rows;
    this.#table.count(this.#port, this.#entries[i]!, rows[r + Row.END]! - rows[r + Row.START]!);
  }

  done(): void {
    this.#work.length = 0;
  }

  /** Stages a received row if the NIC has a key for it: as hardware does, from the packet's bytes alone. */
  recognize(row: number): void {
    this.refresh();
    if (this.#index.size === 0) return;
    const rows = this.#work.rows;
    const r = row * Row.WORDS;
    const entry = this.#parse(rows, r, rows[r + Row.START]!, rows[r + Row.END]!);
    if (entry <= 0 || this.#key(entry) === 0) return;
    const esp = rows[r + Row.ESP]!;
    const seqLo = readSeqLo(this.#view, esp);
    rows[r + Row.SA] = this.#table.slot(entry);
    rows[r + Row.SEQ_LO] = seqLo | 0;
    rows[r + Row.SEQ_HI] = this.#table.inferHi(entry, seqLo);
    this.stage(row, entry);
  }

  /** Opens what is staged and counts; returns how many ICVs held. */
  open(): number {
    const work = this.#work;
    if (work.length === 0) return 0;
    this.#engine.open(work);
    let opened = 0;
    for (let i = 0; i < work.length; i++) {
      const r = work.list[i]! * Row.WORDS;
      work.rows[r + Row.KEY] = 0;
      if (work.rows[r + Row.STATE] === RowState.OPENED) {
        this.#table.count(this.#port, this.#entries[i]!, work.rows[r + Row.END]! - work.rows[r + Row.START]!);
        opened++;
      } else this.#table.countIcvFailure(this.#port, this.#entries[i]!);
    }
    return opened;
  }

  /** Follows the table: engine keys of dead entries go, inbound entries are found. Cheap while nothing has changed. */
  refresh(): void {
    const epoch = this.#table.epoch;
    if (epoch === this.#epoch) return;
    this.#epoch = epoch;
    for (let entry = 1; entry <= this.#table.capacity; entry++) if (!this.#same(entry)) this.#forget(entry);
    for (let entry = 1; entry <= this.#table.capacity; entry++)
      if (this.#table.state(entry) === EntryState.LIVE && this.#table.inbound(entry) && !this.#index.has(entry))
        this.#follow(entry);
  }

  /** Whether what this worker holds of an entry is still what the table says. */
  #same(entry: number): boolean {
    return this.#table.state(entry) === EntryState.LIVE && this.#generations[entry] === this.#table.generation(entry);
  }

  #follow(entry: number): void {
    this.#generations[entry] = this.#table.generation(entry);
    try {
      this.#index.add(entry, {
        spi: this.#table.spi(entry),
        destination: this.#linkType === 'esp-udp' ? null : this.#table.destination(entry),
        source: null,
      });
    } catch (error) {
      // The table changed under this walk: an SA went and came back elsewhere. The next look sees both.
      if (!(error instanceof XfrmError)) throw error;
      this.#epoch = -1;
    }
  }

  /** Every engine key goes. */
  close(): void {
    for (let entry = 1; entry <= this.#table.capacity; entry++) this.#forget(entry);
  }

  #forget(entry: number): void {
    this.#index.remove(entry);
    this.#dropKey(entry);
  }

  #dropKey(entry: number): void {
    const key = this.#keys[entry]!;
    if (key === 0) return;
    this.#keys[entry] = 0;
    this.#engine.remove(key);
  }

  /** The engine's key for a live entry, installed on first use; 0 when the engine cannot. */
  #key(entry: number): number {
    const generation = this.#table.generation(entry);
    if (this.#keys[entry] !== 0 && this.#generations[entry] === generation) return this.#keys[entry]!;
    this.#dropKey(entry);
    const algorithm = this.#table.algorithm(entry);
    const key = SaKey.import(algorithm, this.#table.key(entry));
    // Deleted while we were reading: what we have may be half of a wiped key.
    if (this.#table.state(entry) !== EntryState.LIVE) return 0;
    try {
      this.#keys[entry] = this.#engine.install(algorithm, key, {
        esn: this.#table.esn(entry),
        icvLength: this.#table.icvLength(entry),
      });
      this.#generations[entry] = generation;
      return this.#keys[entry]!;
    } catch (error) {
      if (error instanceof XfrmError) return 0;
      throw error;
    } finally {
      key.wipe();
    }
  }

  /** Finds IP, optional UDP and ESP; writes L3 and ESP when the NIC has the SA. The entry, or -1. */
  #parse(rows: Int32Array, r: number, start: number, end: number): number {
    const view = this.#view;
    let at = start;
    if (this.#linkType === 'esp-udp')
      return this.#take(rows, r, -1, start, end, this.#find(start, end, -1, false), false);
    if (this.#linkType === 'ethernet') {
      if (end - start < 14) return -1;
      const type = view.getUint16(start + 12);
      if (type !== 0x0800 && type !== 0x86dd) return -1;
      at = start + 14;
    }
    if (end - at < 20) return -1;
    const v6 = view.getUint8(at) >> 4 === 6;
    if (v6 && end - at < 40) return -1;
    const protocol = view.getUint8(at + (v6 ? 6 : 9));
    const header = v6 ? 40 : (view.getUint8(at) & 15) * 4;
    const length = v6 ? 40 + view.getUint16(at + 4) : view.getUint16(at + 2);
    // Fragments and frames with bytes behind the packet are left to software.
    if (at + length !== end || header < 20 || (!v6 && (view.getUint16(at + 6) & 0x3fff) !== 0)) return -1;
    let esp = at + header;
    if (protocol === UDP) {
      if (end - esp < 8 || view.getUint16(esp + 2) !== NAT_T) return -1;
      esp += 8;
    } else if (protocol !== ESP) return -1;
    return this.#take(rows, r, at, esp, end, this.#find(esp, end, at, v6), protocol === UDP);
  }

  #find(esp: number, end: number, ip: number, v6: boolean): number {
    if (end - esp < 8) return -1;
    const spi = readSpi(this.#view, esp);
    if (ip < 0) return this.#index.findSpi(spi);
    return this.#index.find(spi, this.#view, ip + (v6 ? 24 : 16), ip + (v6 ? 8 : 12), v6);
  }

  #take(rows: Int32Array, r: number, l3: number, esp: number, end: number, entry: number, udp: boolean): number {
    if (entry <= 0 || (l3 >= 0 && this.#table.encap(entry) !== udp)) return -1;
    // Header, IV, trailer and ICV: anything shorter is software's to count.
    if (end - esp < 16 + 2 + this.#table.icvLength(entry)) return -1;
    rows[r + Row.L3] = l3;
    rows[r + Row.ESP] = esp;
    return entry;
  }
}
