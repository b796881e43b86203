import { type Burst, Row, RowState, resetRow } from '@espalier/wire';
import { attachPortStats, DropReason, type Port, type PortContext, PortStat, PostedCount } from '@espalier/xfrm';
import type { MockTicket } from './device.ts';
import { MockOffload } from './offload.ts';
import { MockSaTable } from './sa-table.ts';
import { MockSender, type MockTap } from './sender.ts';
import { type MockSide, MockWire } from './wire.ts';

/** Opens a port of a mock device on the worker that calls; throws TypeError on a ticket of another kind. */
export function openMockPort(ticket: MockTicket, context: PortContext, tap: MockTap | null = null): Port {
  if (ticket.kind !== 'mock') throw new TypeError(`a mock port needs a mock ticket, got "${String(ticket.kind)}"`);
  return new MockPort(ticket, context, tap);
}

/** One queue of a mock NIC. Seals inside `xmit` and opens inside `poll`, as hardware does. */
class MockPort implements Port {
  readonly fd = -1;
  readonly #wire: MockWire;
  readonly #link: number;
  readonly #side: MockSide;
  readonly #peer: MockSide;
  readonly #index: number;
  readonly #port: number;
  readonly #receive: boolean;
  readonly #context: PortContext;
  /** The slab by words. */
  readonly #words: Int32Array;
  readonly #sender: MockSender;
  readonly #offload: MockOffload | null;
  readonly #table: MockSaTable | null;
  readonly #stats: Float64Array;
  readonly #posted: PostedCount;
  /** Bytes of the largest frame. */
  readonly #frameLimit: number;
  /** Frames sent and not yet given back, and the entry each was sealed under; null when they come back at once. */
  readonly #late: Int32Array | null;
  readonly #lateEntries: Int32Array;
  #lateCount = 0;
  #closed = false;

  constructor(ticket: MockTicket, context: PortContext, tap: MockTap | null) {
    const { link, side, port, linkType } = ticket;
    this.#wire = MockWire.attach(ticket.wire);
    this.#link = link;
    this.#side = side;
    this.#peer = side === 0 ? 1 : 0;
    this.#index = ticket.index;
    this.#port = port;
    this.#receive = ticket.receive;
    this.#context = context;
    const { bytes } = context.slab;
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    this.#sender = new MockSender(this.#wire, link, side, port, bytes, this.#words, tap);
    this.#stats = attachPortStats(ticket.stats).port(port);
    this.#posted = new PostedCount(ticket.posted, port);
    this.#frameLimit = Math.min(ticket.mtu + (linkType === 'ethernet' ? 18 : 0), this.#sender.limit);
    const { slab, engine } = context;
    this.#table = ticket.nic === null ? null : MockSaTable.attach(ticket.nic);
    this.#offload =
      this.#table === null ? null : new MockOffload(this.#table, engine, port, linkType, slab, slab.frames);
    this.#late = ticket.lateCompletion ? new Int32Array(slab.frames) : null;
    this.#lateEntries = new Int32Array(slab.frames);
  }

  xmit(burst: Burst): number {
    this.#demandOpen();
    const { rows, list, length } = burst;
    const offload = this.#offload;
    let room = this.#wire.up(this.#link, this.#side) ? this.#sender.room() : -1;
    for (let i = 0; i < length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      const fate = this.#judge(rows, r, list[i]!, room);
      if (fate === 0) room--;
      else this.#refuse(rows, r, fate);
    }
    if (offload !== null) this.#seal(offload, rows);
    let taken = 0;
    for (let i = 0; i < length; i++) {
      if (rows[list[i]! * Row.WORDS + Row.FATE] !== 0) continue;
      this.#launch(rows, list[i]!);
      taken++;
    }
    offload?.done();
    return taken;
  }

  /** The fate of a row before anything of it is touched; a row that waits for its seal is staged. */
  #judge(rows: Int32Array, r: number, row: number, room: number): number {
    if (room < 0) return DropReason.LINK_DOWN;
    const state = rows[r + Row.STATE]!;
    if (state !== RowState.TO_SEAL && state !== RowState.SEALED && state !== RowState.CLEAR) return DropReason.UNSET;
    if (rows[r + Row.END]! - rows[r + Row.START]! > this.#frameLimit) return DropReason.TOO_BIG;
    if (state !== RowState.TO_SEAL) {
      if (room === 0) return DropReason.NO_ROOM;
      const column = state === RowState.CLEAR ? PortStat.CLEAR : PortStat.SENT_SEALED;
      this.#stats[column] = this.#stats[column]! + 1;
      return 0;
    }
    const handle = this.#context.handles.resolve(rows[r + Row.SA]!, this.#index);
    const entry = this.#offload === null ? 0 : this.#offload.resolve(handle);
    if (entry === 0) return DropReason.NO_LOWER_HANDLE;
    if (room === 0) return DropReason.NO_ROOM;
    this.#offload!.stage(row, entry);
    return 0;
  }

  #refuse(rows: Int32Array, r: number, fate: number): void {
    rows[r + Row.FATE] = fate;
    const column = fate === DropReason.NO_LOWER_HANDLE ? PortStat.NO_HANDLE : PortStat.REFUSED;
    this.#stats[column] = this.#stats[column]! + 1;
  }

  #seal(offload: MockOffload, rows: Int32Array): void {
    offload.seal();
    for (let i = 0; i < offload.staged; i++) {
      const r = offload.staging(i) * Row.WORDS;
      rows[r + Row.KEY] = 0;
      // Deleted in the middle: nothing of it leaves, although it is sealed.
      if (!offload.heldThroughout(i)) this.#refuse(rows, r, DropReason.NO_LOWER_HANDLE);
      else if (rows[r + Row.STATE] !== RowState.SEALED) this.#refuse(rows, r, DropReason.UNSET);
      else {
        offload.countSealed(i);
        this.#stats[PortStat.SEALED] = this.#stats[PortStat.SEALED]! + 1;
        if (this.#late !== null) {
          this.#table!.addPending(this.#port, offload.entry(i), 1);
          this.#lateEntries[offload.staging(i)] = offload.entry(i);
        }
      }
    }
  }

  #launch(rows: Int32Array, row: number): void {
    const r = row * Row.WORDS;
    const start = rows[r + Row.START]!;
    const end = rows[r + Row.END]!;
    const stats = this.#stats;
    stats[PortStat.SENT] = stats[PortStat.SENT]! + 1;
    stats[PortStat.SENT_BYTES] = stats[PortStat.SENT_BYTES]! + end - start;
    this.#sender.send(start, end);
    if (this.#late === null) {
      this.#context.pool.give(row);
      return;
    }
    this.#posted.post(1);
    this.#late[this.#lateCount++] = row;
  }

  poll(burst: Burst): number {
    this.#demandOpen();
    if (!this.#receive) return 0;
    const tick = this.#wire.advance(this.#link, this.#side);
    const up = this.#wire.up(this.#link, this.#side);
    const first = burst.length;
    for (let worker = 0; worker <= this.#wire.workers; worker++) this.#drain(burst, worker, tick, up);
    this.#open(burst, first);
    return burst.length - first;
  }

  #drain(burst: Burst, worker: number, tick: number, up: boolean): void {
    const ring = this.#wire.ring(this.#link, this.#peer, worker);
    const { slab, pool } = this.#context;
    // Rounded so that a frame keeps its alignment and at least the slab's headroom.
    const headroom = (slab.headroom + 3) & ~3;
    const limit = slab.frameSize - headroom - 3;
    let taken = false;
    for (let i = ring.next(ring.begin(), tick); i !== -1; i = ring.next((i + 1) | 0, tick)) {
      const length = ring.length(i);
      // A link that is down loses what was on it; a frame that fits no buffer is lost, as in a NIC.
      if (!up || length > limit) this.#stats[PortStat.OVERRUN] = this.#stats[PortStat.OVERRUN]! + 1;
      else {
        const row = burst.length === burst.list.length ? -1 : pool.take();
        if (row === -1) break;
        const start = row * slab.frameSize + headroom + (ring.at(i) & 3);
        ring.copy(i, this.#words, start);
        resetRow(slab.rows, row, start, start + length, RowState.RECEIVED);
        slab.rows[row * Row.WORDS + Row.LOWER] = this.#index;
        burst.list[burst.length++] = row;
        this.#stats[PortStat.RECEIVED] = this.#stats[PortStat.RECEIVED]! + 1;
        this.#stats[PortStat.RECEIVED_BYTES] = this.#stats[PortStat.RECEIVED_BYTES]! + length;
      }
      ring.empty(i);
      taken = true;
    }
    if (taken) ring.release();
  }

  #open(burst: Burst, first: number): void {
    const offload = this.#offload;
    if (offload === null || burst.length === first) return;
    for (let i = first; i < burst.length; i++) offload.recognize(burst.list[i]!);
    const staged = offload.staged;
    const opened = offload.open();
    offload.done();
    this.#stats[PortStat.OPENED] = this.#stats[PortStat.OPENED]! + opened;
    this.#stats[PortStat.ICV_BAD] = this.#stats[PortStat.ICV_BAD]! + staged - opened;
  }

  reap(): number {
    this.#offload?.refresh();
    return this.#complete();
  }

  #complete(): number {
    const late = this.#late;
    if (late === null || this.#lateCount === 0) return 0;
    const count = this.#lateCount;
    for (let i = 0; i < count; i++) {
      const row = late[i]!;
      if (this.#lateEntries[row] !== 0) this.#table!.addPending(this.#port, this.#lateEntries[row]!, -1);
      this.#lateEntries[row] = 0;
      this.#context.pool.give(row);
    }
    this.#lateCount = 0;
    this.#posted.complete(count);
    return count;
  }

  room(): number {
    return this.#wire.up(this.#link, this.#side) ? this.#sender.room() : 0;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#complete();
    this.#offload?.close();
  }

  #demandOpen(): void {
    if (this.#closed) throw new TypeError('the port is closed');
  }
}
