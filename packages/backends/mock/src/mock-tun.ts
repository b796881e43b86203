import { type Burst, Row, RowState, resetRow } from '@espalier/wire';
import { DropReason, type Port, type PortContext, type PortTicket } from '@espalier/xfrm';
import { MockRing, ringBytes } from './ring.ts';

/** What a thread needs to open a queue of a MockTun; plain data. */
export interface MockTunTicket extends PortTicket {
  readonly kind: 'mock-tun';
  readonly memory: SharedArrayBuffer;
  readonly ringSlots: number;
}

const SLOT_BYTES = 2048;
/** Rings of a queue: towards the gateway, towards the host. */
const INTO = 0;
const OUT = 1;

function ringOf(ticket: MockTunTicket, direction: number): MockRing {
  const at = (ticket.port * 2 + direction) * ringBytes(ticket.ringSlots, SLOT_BYTES);
  return new MockRing(ticket.memory, at, ticket.ringSlots, SLOT_BYTES);
}

/** A TUN of several queues in shared memory, in place of the kernel's: a worker polls a queue, a host thread is at its other end. */
export class MockTun {
  readonly name: string;
  readonly #queues: number;
  readonly #ringSlots: number;
  readonly #memory: SharedArrayBuffer;

  /** `queues`: one per worker. `ringSlots`: packets that wait per queue and direction, a power of two; 512 when absent. */
  constructor(options: { readonly name: string; readonly queues: number; readonly ringSlots?: number }) {
    const { name, queues, ringSlots = 512 } = options;
    if (!Number.isInteger(queues) || queues < 1) throw new RangeError(`"queues" must be positive, got ${queues}`);
    if (!Number.isInteger(ringSlots) || ringSlots < 1 || (ringSlots & (ringSlots - 1)) !== 0)
      throw new RangeError(`"ringSlots" must be a power of two, got ${ringSlots}`);
    this.name = name;
    this.#queues = queues;
    this.#ringSlots = ringSlots;
    this.#memory = new SharedArrayBuffer(queues * 2 * ringBytes(ringSlots, SLOT_BYTES));
  }

  /** For the worker's `openMockTunPort` and the host's `MockTunQueue.attach`. */
  ticket(queue: number): MockTunTicket {
    if (!(queue >= 0 && queue < this.#queues)) throw new RangeError(`queue ${queue} of ${this.#queues}`);
    return { kind: 'mock-tun', index: -1, port: queue, memory: this.#memory, ringSlots: this.#ringSlots };
  }

  /** Memory only: there is nothing to give back. */
  close(): void {}
}

/** The host's end of one queue; belongs to one thread. */
export class MockTunQueue {
  readonly #into: MockRing;
  readonly #out: MockRing;

  private constructor(ticket: MockTunTicket) {
    this.#into = ringOf(ticket, INTO);
    this.#out = ringOf(ticket, OUT);
  }

  static attach(ticket: MockTunTicket): MockTunQueue {
    return new MockTunQueue(ticket);
  }

  /** Packets that `write` would take now. */
  room(): number {
    return this.#into.room();
  }

  /** Gives an IP packet to the gateway (copied); false when the queue is full. Throws RangeError when it fits no slot. */
  write(packet: Uint8Array): boolean {
    if (packet.length === 0 || packet.length > this.#into.limit)
      throw new RangeError(`a packet has from 1 to ${this.#into.limit} bytes, got ${packet.length}`);
    if (this.#into.room() === 0) return false;
    this.#into.putBytes(packet);
    this.#into.submit();
    return true;
  }

  /** Copies the next packet from the gateway into `buffer` and returns its length; 0 when there is none. */
  read(buffer: Uint8Array): number {
    const ring = this.#out;
    const i = ring.next(ring.begin(), 0);
    if (i === -1) return 0;
    const at = ring.at(i);
    const length = Math.min(ring.length(i), buffer.length);
    buffer.set(ring.bytes.subarray(at, at + length));
    ring.empty(i);
    ring.release();
    return length;
  }
}

/** Opens a queue on the worker that calls; throws TypeError on a ticket of another kind. */
export function openMockTunPort(ticket: MockTunTicket, context: PortContext): Port {
  if (ticket.kind !== 'mock-tun')
    throw new TypeError(`a mock TUN port needs a mock-tun ticket, got "${String(ticket.kind)}"`);
  return new MockTunPort(ticket, context);
}

class MockTunPort implements Port {
  readonly fd = -1;
  readonly #context: PortContext;
  readonly #words: Int32Array;
  readonly #into: MockRing;
  readonly #out: MockRing;

  constructor(ticket: MockTunTicket, context: PortContext) {
    this.#context = context;
    const { bytes } = context.slab;
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    this.#into = ringOf(ticket, INTO);
    this.#out = ringOf(ticket, OUT);
  }

  /** Copies inner packets `[START, END)` of OPENED rows out; the frames are free again at once. A full queue drops: NO_ROOM. */
  xmit(burst: Burst): number {
    const { rows, list } = burst;
    let room = this.#out.room();
    let taken = 0;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      if (rows[r + Row.STATE] !== RowState.OPENED) {
        rows[r + Row.FATE] = DropReason.UNSET;
        continue;
      }
      const start = rows[r + Row.START]!;
      const end = rows[r + Row.END]!;
      if (room === 0 || end - start > this.#out.limit) {
        rows[r + Row.FATE] = room === 0 ? DropReason.NO_ROOM : DropReason.TOO_BIG;
        continue;
      }
      this.#out.put(this.#words, start, end, 0);
      this.#out.submit();
      this.#context.pool.give(list[i]!);
      room--;
      taken++;
    }
    return taken;
  }

  /** Appends inner packets, state UNSET: they may not leave before somebody says how. */
  poll(burst: Burst): number {
    const { slab, pool } = this.#context;
    const ring = this.#into;
    // Rounded so that a packet keeps its alignment and at least the slab's headroom.
    const headroom = (slab.headroom + 3) & ~3;
    const limit = slab.frameSize - headroom - 3 - slab.tailroom;
    const first = burst.length;
    let taken = false;
    for (let i = ring.next(ring.begin(), 0); i !== -1; i = ring.next((i + 1) | 0, 0)) {
      const length = ring.length(i);
      if (length <= limit) {
        const row = burst.length === burst.list.length ? -1 : pool.take();
        if (row === -1) break;
        const start = row * slab.frameSize + headroom + (ring.at(i) & 3);
        ring.copy(i, this.#words, start);
        resetRow(slab.rows, row, start, start + length, RowState.UNSET);
        burst.list[burst.length++] = row;
      }
      ring.empty(i);
      taken = true;
    }
    if (taken) ring.release();
    return burst.length - first;
  }

  reap(): number {
    return 0;
  }

  room(): number {
    return this.#out.room();
  }

  close(): void {}
}
