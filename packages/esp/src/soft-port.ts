import { type Burst, type FramePool, type FrameSlab, Row, RowState, resetRow } from '@espalier/wire';
import { attachPortStats, DropReason, NextHops, type Port, type PortContext, PortStat } from '@espalier/xfrm';
import { LinkWord, type SoftTicket } from './soft-device.ts';
import { SoftOffloadPort } from './soft-offload-port.ts';

/** Rows that go to or come from the device in one call. */
const BATCH = 64;
/** How often a queue is asked what it has lost, in reaps. */
const LOST_EVERY = 1024;

/** A device's queue as a SoftPort needs it: calls over the rows of one list, complete when they return. */
export interface RawQueue {
  /** For one wait over all ports of a worker; -1 where there is none. */
  readonly fd: number;
  /** Whether frames can come out of it. */
  readonly receives: boolean;
  /**
   * Sends rows `list[from, from + count)`, whose order it may change: how many before one was not taken, or below 0 when not
   * even the first was.
   */
  send(from: number, count: number): number;
  /** Fills rows `list[0, count)`: START, END, TCI; returns how many. */
  receive(count: number): number;
  /** Why a send did not take the first of its rows, by what it returned: 0 or below. */
  fate(result: number): DropReason;
  /** Frames that the device lost before they were read, since the last call. */
  lost(): number;
  close(): void;
}

/** A port that carries HW_ESP in software over a queue whose sends are complete when they return. */
export class SoftPort implements Port {
  readonly fd: number;
  readonly #queue: RawQueue;
  readonly #slab: FrameSlab;
  readonly #pool: FramePool;
  /** Of shared memory, as a device in C wants it: it cannot go away. */
  readonly #list: Int32Array = new Int32Array(new SharedArrayBuffer(4 * BATCH));
  readonly #index: number;
  readonly #crypto: SoftOffloadPort;
  readonly #stats: Float64Array;
  /** LinkWord, as the device saw them last. */
  readonly #link: Int32Array;
  readonly #hops: NextHops | null;
  #reaps = 0;
  #closed = false;

  /** `open` makes the queue over the port's own list of rows; what it throws goes on. */
  constructor(ticket: SoftTicket, context: PortContext, open: (list: Int32Array) => RawQueue) {
    const { index: lowerIndex, port, keys: memory } = ticket;
    const { slab, pool, engine, handles } = context;
    const stats = attachPortStats(ticket.stats).port(port);
    this.#slab = slab;
    this.#pool = pool;
    this.#index = lowerIndex;
    this.#stats = stats;
    this.#link = new Int32Array(ticket.link);
    const { hops } = ticket;
    this.#hops = hops === null ? null : new NextHops(hops.table, hops.mac, slab, stats);
    this.#crypto = new SoftOffloadPort({ memory, engine, handles, lowerIndex, port, stats });
    this.#queue = open(this.#list);
    this.fd = this.#queue.receives ? this.#queue.fd : -1;
  }

  /** A link known to be down refuses before anything is sealed; one that goes down in between leaves rows UNSENT. */
  xmit(burst: Burst): number {
    const link = this.#link;
    if (Atomics.load(link, LinkWord.RUNNING) === 0 || Atomics.load(link, LinkWord.CARRIER) === 0)
      return this.#refuse(burst);
    this.#hops?.look(burst);
    this.#crypto.seal(burst);
    const { rows, list } = burst;
    let taken = 0;
    for (let i = 0; i < burst.length; ) {
      let n = 0;
      for (; i < burst.length && n < BATCH; i++) {
        const r = list[i]! * Row.WORDS;
        if (rows[r + Row.FATE] !== 0) continue;
        const state = rows[r + Row.STATE];
        // Whatever went wrong before: only sealed rows, and those that may be clear, reach the wire.
        if (state !== RowState.SEALED && state !== RowState.CLEAR) {
          rows[r + Row.FATE] = DropReason.UNSET;
          continue;
        }
        this.#hops?.address(list[i]!, rows[r + Row.START]!);
        this.#list[n++] = list[i]!;
      }
      taken += n === 0 ? 0 : this.#send(n);
    }
    return taken;
  }

  #refuse(burst: Burst): number {
    const { rows, list } = burst;
    let refused = 0;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      rows[r + Row.FATE] = DropReason.LINK_DOWN;
      refused++;
    }
    this.#stats[PortStat.REFUSED] = this.#stats[PortStat.REFUSED]! + refused;
    return 0;
  }

  /** One row that is too big ends alone; what is behind it goes on. */
  #send(n: number): number {
    let taken = 0;
    for (let from = 0; from < n; ) {
      const result = this.#queue.send(from, n - from);
      if (result > 0) {
        this.#sent(from, result);
        taken += result;
        from += result;
        continue;
      }
      const fate = this.#queue.fate(result);
      const end = fate === DropReason.TOO_BIG ? from + 1 : n;
      this.#unsent(from, end, fate);
      from = end;
    }
    return taken;
  }

  #sent(from: number, count: number): void {
    const rows = this.#slab.rows;
    const stats = this.#stats;
    for (let k = from; k < from + count; k++) {
      const r = this.#list[k]! * Row.WORDS;
      stats[PortStat.SENT_BYTES] = stats[PortStat.SENT_BYTES]! + rows[r + Row.END]! - rows[r + Row.START]!;
      this.#pool.give(this.#list[k]!);
    }
    stats[PortStat.SENT] = stats[PortStat.SENT]! + count;
  }

  #unsent(from: number, end: number, fate: DropReason): void {
    // NO_ROOM too: ENOBUFS may be a frame that the driver dropped.
    if (fate !== DropReason.TOO_BIG) Atomics.store(this.#link, LinkWord.DOUBT, 1);
    for (let k = from; k < end; k++) this.#slab.rows[this.#list[k]! * Row.WORDS + Row.FATE] = fate;
    this.#stats[PortStat.UNSENT] = this.#stats[PortStat.UNSENT]! + end - from;
  }

  poll(burst: Burst): number {
    if (!this.#queue.receives) return 0;
    const want = Math.min(BATCH, burst.list.length - burst.length);
    let n = 0;
    for (; n < want; n++) {
      const frame = this.#pool.take();
      if (frame < 0) break;
      this.#list[n] = frame;
    }
    const got = n === 0 ? 0 : Math.max(0, this.#queue.receive(n));
    const rows = this.#slab.rows;
    const stats = this.#stats;
    for (let k = 0; k < got; k++) {
      const row = this.#list[k]!;
      const r = row * Row.WORDS;
      const start = rows[r + Row.START]!;
      const end = rows[r + Row.END]!;
      const tci = rows[r + Row.TCI]!;
      resetRow(rows, row, start, end, RowState.RECEIVED);
      rows[r + Row.TCI] = tci;
      rows[r + Row.LOWER] = this.#index;
      stats[PortStat.RECEIVED_BYTES] = stats[PortStat.RECEIVED_BYTES]! + end - start;
      burst.list[burst.length++] = row;
    }
    stats[PortStat.RECEIVED] = stats[PortStat.RECEIVED]! + got;
    for (let k = n - 1; k >= got; k--) this.#pool.give(this.#list[k]!);
    return got;
  }

  open(burst: Burst): number {
    return this.#crypto.open(burst);
  }

  /** Sends are complete when they return; here keys of gone handles are forgotten and lost frames counted. */
  reap(): number {
    this.#crypto.sweep();
    if (this.#queue.receives && ++this.#reaps % LOST_EVERY === 0) this.#countLost();
    return 0;
  }

  room(): number {
    return BATCH;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#queue.receives) this.#countLost();
    this.#crypto.close();
    this.#queue.close();
  }

  #countLost(): void {
    const lost = this.#queue.lost();
    if (lost > 0) this.#stats[PortStat.OVERRUN] = this.#stats[PortStat.OVERRUN]! + lost;
  }
}
