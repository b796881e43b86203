import { type Burst, Row, RowState, resetRow } from '@espalier/wire';
import { DropReason, type Port, type PortContext } from '@espalier/xfrm';

/** Called with a copy of every packet that comes out of the inside port. */
export type PacketListener = (packet: Uint8Array) => void;

/**
 * The inside port of a gateway in memory, in place of a TUN: packets that are pushed come out of `poll`, packets that are
 * sent go to the listener. Belongs to one worker; nothing is shared. Allocates per packet: for tests and demonstrations.
 */
export class MockInside implements Port {
  readonly fd = -1;
  readonly #context: Pick<PortContext, 'slab' | 'pool'>;
  readonly #limit: number;
  readonly #queue: Uint8Array[] = [];
  #onPacket: PacketListener;
  /** Packets that were given to the listener. */
  delivered = 0;

  /** `limit`: packets that wait at most. */
  constructor(context: Pick<PortContext, 'slab' | 'pool'>, onPacket: PacketListener = () => {}, limit = 1024) {
    this.#context = context;
    this.#onPacket = onPacket;
    this.#limit = limit;
  }

  /** Replaces the listener. */
  onPacket(listener: PacketListener): void {
    this.#onPacket = listener;
  }

  /** Queues an IP packet (copied); false when the queue is full. Throws RangeError when it fits no frame. */
  push(packet: Uint8Array): boolean {
    const { frameSize, headroom, tailroom } = this.#context.slab;
    const limit = frameSize - headroom - tailroom;
    if (packet.length === 0 || packet.length > limit)
      throw new RangeError(`a packet has from 1 to ${limit} bytes, got ${packet.length}`);
    if (this.#queue.length >= this.#limit) return false;
    this.#queue.push(packet.slice());
    return true;
  }

  /** Packets pushed and not yet polled. */
  get waiting(): number {
    return this.#queue.length;
  }

  poll(burst: Burst): number {
    const { slab, pool } = this.#context;
    const first = burst.length;
    while (this.#queue.length > 0 && burst.length < burst.list.length) {
      const row = pool.take();
      if (row === -1) break;
      const packet = this.#queue.shift()!;
      const start = row * slab.frameSize + slab.headroom;
      slab.bytes.set(packet, start);
      resetRow(slab.rows, row, start, start + packet.length, RowState.UNSET);
      slab.rows[row * Row.WORDS + Row.L3] = start;
      burst.list[burst.length++] = row;
    }
    return burst.length - first;
  }

  /** Hands every row without a FATE to the listener and gives its frame back. */
  xmit(burst: Burst): number {
    const { slab, pool } = this.#context;
    const { rows } = burst;
    let taken = 0;
    for (let i = 0; i < burst.length; i++) {
      const row = burst.list[i]!;
      const r = row * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      const start = rows[r + Row.START]!;
      const end = rows[r + Row.END]!;
      if (end <= start) {
        rows[r + Row.FATE] = DropReason.BAD_INNER;
        continue;
      }
      this.#onPacket(slab.bytes.slice(start, end));
      this.delivered++;
      pool.give(row);
      taken++;
    }
    return taken;
  }

  reap(): number {
    return 0;
  }

  room(): number {
    return Number.MAX_SAFE_INTEGER;
  }

  close(): void {
    this.#queue.length = 0;
  }
}
