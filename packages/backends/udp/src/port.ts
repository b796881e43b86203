import { type RawQueue, SoftPort } from '@espalier/esp';
import { errnoName, load, slabId } from '@espalier/native';
import { type FrameSlab, Row } from '@espalier/wire';
import { DropReason, type Port, type PortContext, XfrmError } from '@espalier/xfrm';
import { cannotBind } from './device.ts';
import { DgramQueue } from './dgram.ts';
import type { UdpTicket } from './ticket.ts';

/** Opens this worker's sockets. Throws XfrmError. */
export function openUdpPort(ticket: UdpTicket, context: PortContext): Port {
  return new SoftPort(ticket, context, (list) => openQueue(ticket, context.slab, list));
}

function openQueue(ticket: UdpTicket, slab: FrameSlab, list: Int32Array): RawQueue {
  return ticket.dgram === null ? new UdpQueue(ticket, slab, list) : new DgramQueue(ticket.dgram, ticket, slab, list);
}

/** One socket on the local port for what arrives, and to send from; or others to send from, one per source port. */
class UdpQueue implements RawQueue {
  readonly fd: number;
  readonly receives = true;
  readonly #binding: NonNullable<ReturnType<typeof load>['binding']>;
  readonly #rows: Int32Array;
  readonly #slab: number;
  readonly #list: Int32Array;
  readonly #listId: number;
  readonly #receiver: number;
  readonly #senders: number[] = [];
  /** For putting rows in order of their sender. */
  readonly #sorted: Int32Array;
  readonly #ends: Int32Array;

  constructor(ticket: UdpTicket, slab: FrameSlab, list: Int32Array) {
    const { binding } = load();
    if (binding === null)
      throw new XfrmError({ code: 'UNSUPPORTED', device: 'udp', what: 'UDP without the native addon' });
    const { local, peer, sourcePorts } = ticket;
    this.#binding = binding;
    this.#rows = slab.rows;
    this.#slab = slabId(binding, slab);
    this.#list = list;
    this.#listId = binding.registerList(list);
    this.#sorted = new Int32Array(list.length);
    this.#ends = new Int32Array(Math.max(1, sourcePorts));
    const opened: number[] = [];
    try {
      for (let i = 0; i <= sourcePorts; i++) {
        const id = binding.udpOpen(local.address, i === 0 ? local.port : 0, peer.address, peer.port);
        if (id < 0) throw cannotBind(`lower ${ticket.index}`, id);
        opened.push(id);
      }
    } catch (error) {
      for (const id of opened) binding.udpClose(id);
      binding.unregisterList(this.#listId);
      throw error;
    }
    this.#receiver = opened[0]!;
    this.#senders = sourcePorts === 0 ? [this.#receiver] : opened.slice(1);
    this.fd = binding.udpFd(this.#receiver);
  }

  send(from: number, count: number): number {
    if (this.#senders.length === 1) return this.#sendRun(0, from, count);
    this.#sort(from, count);
    let done = 0;
    for (let s = 0; s < this.#senders.length; s++) {
      const end = this.#ends[s]!;
      if (end === done) continue;
      const sent = this.#sendRun(s, from + done, end - done);
      if (sent < 0) return done === 0 ? sent : done;
      done += sent;
      if (done < end) return done;
    }
    return done;
  }

  receive(count: number): number {
    return this.#binding.udpReceive(this.#receiver, this.#slab, this.#listId, 0, count);
  }

  fate(result: number): DropReason {
    const name = result < 0 ? errnoName(result) : 'EAGAIN';
    if (name === 'EAGAIN' || name === 'ENOBUFS') return DropReason.NO_ROOM;
    return name === 'EMSGSIZE' ? DropReason.TOO_BIG : DropReason.LINK_DOWN;
  }

  /** What the socket's buffer had no room for only the kernel's counters say. */
  lost(): number {
    return 0;
  }

  close(): void {
    this.#binding.udpClose(this.#receiver);
    for (const id of this.#senders) if (id !== this.#receiver) this.#binding.udpClose(id);
    this.#binding.unregisterList(this.#listId);
  }

  #sendRun(sender: number, from: number, count: number): number {
    return this.#binding.udpSend(this.#senders[sender]!, this.#slab, this.#listId, from, count);
  }

  /** Rows of one inner flow share a sender and keep their order; afterwards sender s has `list[from + ends[s-1], from + ends[s])`. */
  #sort(from: number, count: number): void {
    const list = this.#list;
    const rows = this.#rows;
    const senders = this.#senders.length;
    const ends = this.#ends.fill(0);
    for (let i = from; i < from + count; i++) {
      const s = (rows[list[i]! * Row.WORDS + Row.FLOW]! >>> 0) % senders;
      ends[s] = ends[s]! + 1;
    }
    for (let s = 0, at = 0; s < senders; s++) {
      const n = ends[s]!;
      ends[s] = at;
      at += n;
    }
    for (let i = from; i < from + count; i++) {
      const row = list[i]!;
      const s = (rows[row * Row.WORDS + Row.FLOW]! >>> 0) % senders;
      this.#sorted[ends[s]!] = row;
      ends[s] = ends[s]! + 1;
    }
    for (let i = 0; i < count; i++) list[from + i] = this.#sorted[i]!;
  }
}
