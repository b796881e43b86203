import {
  ALGORITHM_NAMES,
  L3Flag,
  type LinkType,
  type LowerHandle,
  type Sa,
  type SaStats,
  type XfrmDeviceOps,
  XfrmError,
} from '@espalier/xfrm';
import { EntryState, MockSaTable } from './sa-table.ts';

/** What happens to a chosen add; see MockNic. */
type AddFault = 'refuse' | 'hang' | Promise<void>;

/**
 * The offload half of a mock device: a NIC with a limited number of SA slots, keys of its own and ESN state of its own.
 * Failures are asked for beforehand, by count: the n-th call from now on (1 = the next). Control thread.
 */
export class MockNic implements XfrmDeviceOps {
  readonly lowerHandle: boolean;
  readonly table: MockSaTable;
  readonly #device: string;
  readonly #mtu: number;
  /** Packets show no outer destination: inbound SAs are told apart by their SPI alone. */
  readonly #spiAlone: boolean;
  /** Entries free now, oldest first, so that a slot comes back as late as possible. */
  readonly #free: number[];
  readonly #addFaults: Map<number, AddFault> = new Map();
  readonly #freeFaults: Set<number> = new Set();
  readonly #pending: Set<Promise<LowerHandle>> = new Set();
  readonly #closing: AbortController = new AbortController();
  #adds = 0;
  #frees = 0;

  constructor(device: string, linkType: LinkType, saSlots: number, ports: number, mtu: number, lowerHandle: boolean) {
    this.#spiAlone = linkType === 'esp-udp';
    this.table = MockSaTable.create(saSlots, ports);
    this.lowerHandle = lowerHandle;
    this.#device = device;
    this.#mtu = mtu;
    this.#free = Array.from({ length: saSlots }, (_, i) => i + 1);
  }

  /** Handles that have not been freed, adds under way included. */
  get installed(): number {
    return this.table.capacity - this.#free.length;
  }

  /** Adds asked for so far, refused ones included. */
  get adds(): number {
    return this.#adds;
  }

  /** Uses of dead handles, double deletes, frees too early. */
  get violations(): number {
    return this.table.violations;
  }

  /** The n-th add from now on is refused. */
  refuseAdd(nth = 1): void {
    this.#addFaults.set(this.#adds + nth, 'refuse');
  }

  /** The n-th add from now on waits until the returned function is called. */
  holdAdd(nth = 1): () => void {
    let go: () => void = () => {};
    this.#addFaults.set(
      this.#adds + nth,
      new Promise((resolve) => {
        go = resolve;
      }),
    );
    return go;
  }

  /** The n-th add from now on never resolves: it ends by its signal or when the device closes. */
  hangAdd(nth = 1): void {
    this.#addFaults.set(this.#adds + nth, 'hang');
  }

  /** The n-th free from now on fails; the handle stays deleted and can be freed again. */
  failFree(nth = 1): void {
    this.#freeFaults.add(this.#frees + nth);
  }

  /** Throws XfrmError UNSUPPORTED, REFUSED, EXISTS, ABORTED or CLOSED; then nothing has been taken. */
  stateAdd(sa: Sa, signal?: AbortSignal): Promise<LowerHandle> {
    const adding = this.#add(sa, ++this.#adds, signal);
    this.#pending.add(adding);
    const done = (): void => {
      this.#pending.delete(adding);
    };
    adding.then(done, done);
    return adding;
  }

  async #add(sa: Sa, nth: number, signal: AbortSignal | undefined): Promise<LowerHandle> {
    const fault = this.#addFaults.get(nth);
    this.#addFaults.delete(nth);
    this.#demand(sa, signal);
    const index = this.#free.shift();
    if (index === undefined)
      throw new XfrmError({ code: 'REFUSED', device: this.#device, spi: sa.spi, what: 'all SA slots are taken' });
    this.table.reserve(index);
    try {
      // Even a quick device answers later: whoever relies on an immediate answer is found out.
      await Promise.resolve();
      if (fault === 'refuse')
        throw new XfrmError({ code: 'REFUSED', device: this.#device, spi: sa.spi, what: 'told to refuse it' });
      if (fault !== undefined) await this.#stall(fault, sa, signal);
      this.#demandOpen(sa, signal);
      return this.table.publish(index, sa);
    } catch (error) {
      this.table.unreserve(index);
      this.#free.unshift(index);
      throw error;
    }
  }

  #demand(sa: Sa, signal: AbortSignal | undefined): void {
    const refuse = (what: string): XfrmError => new XfrmError({ code: 'UNSUPPORTED', device: this.#device, what });
    if (this.#closing.signal.aborted) throw new XfrmError({ code: 'CLOSED', what: `${this.#device} is closed` });
    if (signal?.aborted) throw aborted(sa);
    if (sa.offload?.type === 'packet') throw refuse('offload type packet');
    if (!ALGORITHM_NAMES.includes(sa.algorithm)) throw refuse(`algorithm ${sa.algorithm}`);
    if (sa.direction === 'in' && this.#knows(sa))
      throw new XfrmError({
        code: 'EXISTS',
        what: `${this.#device} has an inbound SA with this SPI and destination already`,
      });
  }

  #knows(sa: Sa): boolean {
    for (let index = 1; index <= this.table.capacity; index++)
      if (
        this.table.state(index) === EntryState.LIVE &&
        this.table.spi(index) === sa.spi &&
        this.table.inbound(index) &&
        (this.#spiAlone || this.table.destination(index).join() === sa.destination.join())
      )
        return true;
    return false;
  }

  #demandOpen(sa: Sa, signal: AbortSignal | undefined): void {
    if (signal?.aborted || this.#closing.signal.aborted) throw aborted(sa);
  }

  /** Waits until the add is let go or aborted; one that hangs ends with the device too. */
  #stall(fault: 'hang' | Promise<void>, sa: Sa, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = (): void => reject(aborted(sa));
      signal?.addEventListener('abort', stop, { once: true });
      if (fault === 'hang') this.#closing.signal.addEventListener('abort', stop, { once: true });
      else fault.then(resolve, reject);
    });
  }

  stateDelete(handle: LowerHandle): void {
    const index = this.table.live(handle);
    if (index === 0) throw this.#misuse(handle, 'delete');
    this.table.wipe(index);
  }

  async stateFree(handle: LowerHandle): Promise<void> {
    const index = this.table.indexOf(handle);
    if (index === 0 || this.table.state(index) !== EntryState.DELETED) throw this.#misuse(handle, 'free');
    const nth = ++this.#frees;
    if (this.#freeFaults.delete(nth))
      throw new XfrmError({ code: 'REFUSED', device: this.#device, what: 'told to fail this free' });
    // A frame is still out under this handle: whoever frees has not waited for the ring.
    if (this.table.pending(index) > 0) this.table.violate();
    this.table.release(index);
    this.#free.push(index);
  }

  advanceEsn(handle: LowerHandle, bottom: number): void {
    if (!Number.isSafeInteger(bottom) || bottom < 0) throw new RangeError(`"bottom" must be a number, got ${bottom}`);
    const index = this.table.live(handle);
    if (index === 0) throw this.#misuse(handle, 'advance');
    this.table.tellBottom(index, bottom);
  }

  updateStats(handle: LowerHandle, into: SaStats): void {
    const index = this.table.indexOf(handle);
    if (index === 0) throw this.#misuse(handle, 'read the counters of');
    this.table.readStats(index, into);
  }

  updatePortStats(handle: LowerHandle, port: number, into: SaStats): void {
    const index = this.table.indexOf(handle);
    if (index === 0) throw this.#misuse(handle, 'read the counters of');
    this.table.readStats(index, into, port, port + 1);
  }

  offloadOk(_sa: Sa, length: number, l3Flags: number): boolean {
    return length <= this.#mtu && (l3Flags & (L3Flag.IP_OPTIONS | L3Flag.EXTENSION_HEADERS)) === 0;
  }

  /** Ends what hangs, waits for what is under way. New adds are refused. */
  async close(): Promise<void> {
    const pending = [...this.#pending];
    this.#closing.abort();
    await Promise.allSettled(pending);
  }

  #misuse(handle: LowerHandle, what: string): XfrmError {
    this.table.violate();
    return new XfrmError({ code: 'NOT_FOUND', what: `${this.#device} has no handle ${handle} to ${what}` });
  }
}

function aborted(sa: Sa): XfrmError {
  return new XfrmError({
    code: 'ABORTED',
    what: `the add of SPI 0x${sa.spi.toString(16).padStart(8, '0')} was aborted`,
  });
}
