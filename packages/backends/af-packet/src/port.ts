import { SoftOffloadPort } from '@espalier/esp';
import { type Binding, errnoName, load, slabId } from '@espalier/native';
import { type Burst, type FramePool, type FrameSlab, Row, RowState, resetRow } from '@espalier/wire';
import { attachPortStats, DropReason, type Port, type PortContext, PortStat, XfrmError } from '@espalier/xfrm';
import type { AfPacketTicket } from './device.ts';

const BATCH = 64;
/** How often the ring's own drop counter is read, in reaps. */
const DROPS_EVERY = 1024;

/** Opens this worker's socket on the interface. Throws XfrmError SYSTEM. */
export function openAfPacketPort(ticket: AfPacketTicket, context: PortContext): Port {
  const { binding } = load();
  if (binding === null)
    throw new XfrmError({ code: 'UNSUPPORTED', device: 'af-packet', what: 'AF_PACKET without the native addon' });
  const socket = binding.packetOpen(ticket.ifindex, ticket.ringSlots);
  if (socket < 0)
    throw new XfrmError({
      code: 'SYSTEM',
      call: 'socket(AF_PACKET)',
      errno: errnoName(socket),
      what: `cannot open port ${ticket.port} of interface ${ticket.ifindex}`,
    });
  return new AfPacketPort(socket, binding, ticket, context);
}

class AfPacketPort implements Port {
  readonly fd: number;
  readonly #binding: Binding;
  readonly #socket: number;
  readonly #slab: FrameSlab;
  readonly #slabId: number;
  readonly #pool: FramePool;
  readonly #list: Int32Array = new Int32Array(BATCH);
  readonly #listId: number;
  readonly #index: number;
  readonly #receives: boolean;
  readonly #crypto: SoftOffloadPort;
  readonly #stats: Float64Array;
  /** Word 0: administratively up, as the device saw it last. */
  readonly #link: Int32Array;
  #reaps = 0;

  constructor(socket: number, binding: Binding, ticket: AfPacketTicket, context: PortContext) {
    this.#socket = socket;
    this.#binding = binding;
    this.#slab = context.slab;
    this.#slabId = slabId(binding, context.slab);
    this.#pool = context.pool;
    this.#listId = binding.registerList(this.#list);
    this.#index = ticket.index;
    this.#receives = ticket.ringSlots > 0;
    this.#stats = attachPortStats(ticket.stats).port(ticket.port);
    this.#link = new Int32Array(ticket.link);
    this.#crypto = new SoftOffloadPort({
      memory: ticket.keys,
      engine: context.engine,
      handles: context.handles,
      lowerIndex: ticket.index,
      port: ticket.port,
      stats: this.#stats,
    });
    this.fd = this.#receives ? binding.packetFd(socket) : -1;
  }

  /** A link known to be down refuses before anything is sealed; one that goes down in between leaves rows UNSENT. */
  xmit(burst: Burst): number {
    if (Atomics.load(this.#link, 0) === 0) return this.#refuse(burst);
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

  #send(n: number): number {
    const rows = this.#slab.rows;
    const stats = this.#stats;
    const result = this.#binding.packetSend(this.#socket, this.#slabId, this.#listId, 0, n);
    const sent = Math.max(0, result);
    for (let k = 0; k < sent; k++) {
      const r = this.#list[k]! * Row.WORDS;
      stats[PortStat.SENT_BYTES] = stats[PortStat.SENT_BYTES]! + rows[r + Row.END]! - rows[r + Row.START]!;
      this.#pool.give(this.#list[k]!);
    }
    stats[PortStat.SENT] = stats[PortStat.SENT]! + sent;
    if (sent === n) return sent;
    const name = result < 0 ? errnoName(result) : 'EAGAIN';
    const fate =
      name === 'EAGAIN' || name === 'ENOBUFS'
        ? DropReason.NO_ROOM
        : name === 'EMSGSIZE'
          ? DropReason.TOO_BIG
          : DropReason.LINK_DOWN;
    for (let k = sent; k < n; k++) rows[this.#list[k]! * Row.WORDS + Row.FATE] = fate;
    stats[PortStat.UNSENT] = stats[PortStat.UNSENT]! + n - sent;
    return sent;
  }

  poll(burst: Burst): number {
    if (!this.#receives) return 0;
    const want = Math.min(BATCH, burst.list.length - burst.length);
    let n = 0;
    for (; n < want; n++) {
      const frame = this.#pool.take();
      if (frame < 0) break;
      this.#list[n] = frame;
    }
    const got = n === 0 ? 0 : Math.max(0, this.#binding.packetReceive(this.#socket, this.#slabId, this.#listId, 0, n));
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

  open(burst: Burst): void {
    this.#crypto.open(burst);
  }

  /** Sends are complete when they return; here keys of gone handles are forgotten and ring overruns counted. */
  reap(): number {
    this.#crypto.sweep();
    if (this.#receives && ++this.#reaps % DROPS_EVERY === 0) this.#countOverrun();
    return 0;
  }

  room(): number {
    return BATCH;
  }

  close(): void {
    if (this.#receives) this.#countOverrun();
    this.#crypto.close();
    this.#binding.packetClose(this.#socket);
    this.#binding.unregisterList(this.#listId);
  }

  #countOverrun(): void {
    const drops = this.#binding.packetDrops(this.#socket);
    if (drops > 0) this.#stats[PortStat.OVERRUN] = this.#stats[PortStat.OVERRUN]! + drops;
  }
}
