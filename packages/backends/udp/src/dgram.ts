/**
 * UDP sockets where there is no addon: a thread of `node:dgram`, since that needs an event loop and a worker has none, and
 * rings of datagrams in shared memory between it and the ports. Every datagram is copied twice and crosses two threads:
 * slower than the addon's sockets by far.
 */
import { Worker } from 'node:worker_threads';
import type { RawQueue } from '@espalier/esp';
import { type FrameSlab, Row } from '@espalier/wire';
import { DropReason } from '@espalier/xfrm';
import type { UdpTicket } from './ticket.ts';

/** Words at the start: 0 = not bound yet, 1 = bound, below that -errno; changes whenever a port has sent. */
const STATE = 0;
const WAKE = 1;
const HEADER = 16;
/** A ring: datagrams put, taken, lost for want of a slot; slots of a length, a sender and the bytes. */
const PUT = 0;
const TAKEN = 1;
const LOST = 2;
const SLOTS = 256;
const SLOT_WORDS = 2 + 512;
const SLOT_BYTES = 2048;
const RING_WORDS = HEADER + SLOTS * SLOT_WORDS;
const BIND_MS = 5000;

/** One direction of one port: even rings leave, odd ones arrive. One thread puts, one takes. */
class DatagramRing {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;

  constructor(memory: SharedArrayBuffer, ring: number) {
    this.#words = new Int32Array(memory, (HEADER + ring * RING_WORDS) * 4, RING_WORDS);
    this.#bytes = new Uint8Array(memory, (HEADER + ring * RING_WORDS) * 4, RING_WORDS * 4);
  }

  /** False when it is full. */
  put(from: Uint8Array, start: number, end: number, sender: number): boolean {
    const put = this.#words[PUT]!;
    if (((put - Atomics.load(this.#words, TAKEN)) | 0) >= SLOTS) return false;
    const slot = HEADER + (put & (SLOTS - 1)) * SLOT_WORDS;
    this.#words[slot] = end - start;
    this.#words[slot + 1] = sender;
    for (let i = 0, at = (slot + 2) * 4; i < end - start; i++) this.#bytes[at + i] = from[start + i]!;
    Atomics.store(this.#words, PUT, (put + 1) | 0);
    return true;
  }

  /** Copies the next datagram; its length, 0 when there is none, -1 when it does not fit `room` and is gone. */
  take(into: Uint8Array, start: number, room: number): number {
    const taken = this.#words[TAKEN]!;
    if (Atomics.load(this.#words, PUT) === taken) return 0;
    const slot = HEADER + (taken & (SLOTS - 1)) * SLOT_WORDS;
    const length = this.#words[slot]!;
    if (length <= room) for (let i = 0, at = (slot + 2) * 4; i < length; i++) into[start + i] = this.#bytes[at + i]!;
    Atomics.store(this.#words, TAKEN, (taken + 1) | 0);
    return length <= room ? length : -1;
  }

  get lost(): number {
    return Atomics.load(this.#words, LOST);
  }
}

/** Control half: the thread and its memory. */
export class DgramThread {
  readonly memory: SharedArrayBuffer;
  readonly #thread: Worker;

  /** `result`: 0, or -errno of the bind; then the thread has ended. */
  static open(ticket: Pick<UdpTicket, 'local' | 'peer' | 'sourcePorts'>, ports: number): DgramThread | number {
    const one = new DgramThread(ticket, ports);
    const words = new Int32Array(one.memory);
    Atomics.wait(words, STATE, 0, BIND_MS);
    const state = Atomics.load(words, STATE);
    if (state === 1) return one;
    void one.close();
    // 110: ETIMEDOUT
    return state === 0 ? -110 : state;
  }

  private constructor({ local, peer, sourcePorts }: Pick<UdpTicket, 'local' | 'peer' | 'sourcePorts'>, ports: number) {
    this.memory = new SharedArrayBuffer((HEADER + 2 * ports * RING_WORDS) * 4);
    const layout = { STATE, WAKE, HEADER, PUT, TAKEN, LOST, SLOTS, SLOT_WORDS, SLOT_BYTES, RING_WORDS };
    const workerData = {
      ...{ memory: this.memory, ports, sourcePorts, layout, v6: local.address.length === 16 },
      local: { address: text(local.address), port: local.port },
      peer: { address: text(peer.address), port: peer.port },
    };
    // Its source is its text: as source, in a package and in a bundle there is no one file that it could be.
    this.#thread = new Worker(`(${run.toString()})()`, { eval: true, workerData });
    this.#thread.unref();
  }

  async close(): Promise<void> {
    await this.#thread.terminate();
  }
}

/** The thread. Stands alone: nothing outside it is in its reach. */
function run(): void {
  const { workerData } = require('node:worker_threads');
  const { createSocket } = require('node:dgram');
  const { constants } = require('node:os');
  const { memory, ports, sourcePorts, layout, v6, local, peer } = workerData;
  const { STATE, WAKE, HEADER, PUT, TAKEN, LOST, SLOTS, SLOT_WORDS, SLOT_BYTES, RING_WORDS } = layout;
  const words = new Int32Array(memory);
  const bytes = new Uint8Array(memory);
  const sockets: import('node:dgram').Socket[] = [];
  /** Datagrams handed to the sockets and not yet sent. */
  let pending = 0;
  const fail = (error: NodeJS.ErrnoException): void => {
    if (Atomics.compareExchange(words, STATE, 0, -(constants.errno[error.code ?? 'EIO'] ?? 5)) === 0)
      Atomics.notify(words, STATE);
  };
  const arrived = (message: Uint8Array, from: { port: number }): void => {
    const ring = HEADER + (2 * (from.port % ports) + 1) * RING_WORDS;
    const put = words[ring + PUT]!;
    if (message.length > SLOT_BYTES || ((put - Atomics.load(words, ring + TAKEN)) | 0) >= SLOTS) {
      Atomics.add(words, ring + LOST, 1);
      return;
    }
    const slot = ring + HEADER + (put & (SLOTS - 1)) * SLOT_WORDS;
    words[slot] = message.length;
    bytes.set(message, (slot + 2) * 4);
    Atomics.store(words, ring + PUT, (put + 1) | 0);
  };
  const sent = (): void => {
    pending--;
  };
  const drain = (): void => {
    for (let port = 0; port < ports; port++) {
      const ring = HEADER + 2 * port * RING_WORDS;
      for (;;) {
        const taken = words[ring + TAKEN]!;
        if (pending >= SLOTS || Atomics.load(words, ring + PUT) === taken) break;
        const slot = ring + HEADER + (taken & (SLOTS - 1)) * SLOT_WORDS;
        const at = (slot + 2) * 4;
        const sender = sourcePorts === 0 ? 0 : 1 + words[slot + 1]!;
        pending++;
        sockets[sender]!.send(Uint8Array.from(bytes.subarray(at, at + words[slot]!)), peer.port, peer.address, sent);
        Atomics.store(words, ring + TAKEN, (taken + 1) | 0);
      }
    }
  };
  const waitAsync = (
    Atomics as unknown as {
      waitAsync(words: Int32Array, at: number, seen: number, ms: number): { async: boolean; value: Promise<unknown> };
    }
  ).waitAsync;
  const loop = async (): Promise<void> => {
    for (;;) {
      const seen = Atomics.load(words, WAKE);
      drain();
      // What the sockets have no room for is tried again in a moment.
      const { async, value } = waitAsync(words, WAKE, seen, pending >= SLOTS ? 1 : 1000);
      if (async) await value;
      else await new Promise((resolve) => setImmediate(resolve));
    }
  };
  let bound = 0;
  for (let i = 0; i <= sourcePorts; i++) {
    // Addresses are numbers already: nobody needs to be asked what they mean.
    const lookup = (host: string, _: unknown, done: (e: null, address: string, family: number) => void): void =>
      done(null, host, v6 ? 6 : 4);
    const socket = createSocket({ type: v6 ? 'udp6' : 'udp4', lookup });
    sockets.push(socket);
    socket.on('error', fail);
    socket.on('message', arrived);
    socket.bind(i === 0 ? local.port : 0, local.address, () => {
      if (++bound <= sourcePorts) return;
      Atomics.store(words, STATE, 1);
      Atomics.notify(words, STATE);
      void loop();
    });
  }
}

/** An address as `node:dgram` wants it. */
function text(address: Uint8Array): string {
  if (address.length === 4) return address.join('.');
  const view = new DataView(address.buffer, address.byteOffset, 16);
  return Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i).toString(16)).join(':');
}

/** Datapath half: one port's two rings. */
export class DgramQueue implements RawQueue {
  /** There is nothing to wait on: whoever waits looks again in a moment. */
  readonly fd = -1;
  readonly receives = true;
  readonly #slab: FrameSlab;
  readonly #list: Int32Array;
  readonly #words: Int32Array;
  readonly #out: DatagramRing;
  readonly #in: DatagramRing;
  readonly #senders: number;
  #lost = 0;

  constructor(memory: SharedArrayBuffer, ticket: UdpTicket, slab: FrameSlab, list: Int32Array) {
    this.#slab = slab;
    this.#list = list;
    this.#words = new Int32Array(memory, 0, HEADER);
    this.#out = new DatagramRing(memory, 2 * ticket.port);
    this.#in = new DatagramRing(memory, 2 * ticket.port + 1);
    this.#senders = Math.max(1, ticket.sourcePorts);
  }

  send(from: number, count: number): number {
    const { rows, bytes } = this.#slab;
    let done = 0;
    for (; done < count; done++) {
      const r = this.#list[from + done]! * Row.WORDS;
      const sender = (rows[r + Row.FLOW]! >>> 0) % this.#senders;
      if (!this.#out.put(bytes, rows[r + Row.START]!, rows[r + Row.END]!, sender)) break;
    }
    Atomics.add(this.#words, WAKE, 1);
    Atomics.notify(this.#words, WAKE);
    return done;
  }

  receive(count: number): number {
    const { rows, bytes, frameSize, headroom, tailroom } = this.#slab;
    let got = 0;
    while (got < count) {
      const row = this.#list[got]!;
      const start = row * frameSize + headroom;
      const length = this.#in.take(bytes, start, frameSize - headroom - tailroom);
      if (length === 0) break;
      if (length < 0) continue;
      rows[row * Row.WORDS + Row.START] = start;
      rows[row * Row.WORDS + Row.END] = start + length;
      rows[row * Row.WORDS + Row.TCI] = 0;
      got++;
    }
    return got;
  }

  fate(): DropReason {
    return DropReason.NO_ROOM;
  }

  lost(): number {
    const lost = this.#in.lost;
    const more = lost - this.#lost;
    this.#lost = lost;
    return more;
  }

  close(): void {}
}
