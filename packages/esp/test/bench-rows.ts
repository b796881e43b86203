import {
  type Burst,
  createBurst,
  createPool,
  createSlab,
  type FramePool,
  type FrameSlab,
  Row,
  RowState,
  resetRow,
} from '@espalier/wire';

export { random } from '../../../scripts/random.ts';

/** A slab, its pool and one burst: what a worker has, for tests. */
export class Bench {
  readonly slab: FrameSlab;
  readonly pool: FramePool;
  readonly burst: Burst;

  constructor(frames = 64, frameSize = 2048) {
    this.slab = createSlab({ frames, frameSize });
    this.pool = createPool(this.slab);
    this.burst = createBurst(this.slab, frames);
  }

  /** Appends a packet; returns the offset of its row's words. */
  put(packet: Uint8Array, state: RowState = RowState.UNSET): number {
    const frame = this.pool.take();
    if (frame < 0) throw new RangeError('no frame left');
    const start = frame * this.slab.frameSize + this.slab.headroom;
    this.slab.bytes.set(packet, start);
    resetRow(this.slab.rows, frame, start, start + packet.length, state);
    this.burst.list[this.burst.length++] = frame;
    return frame * Row.WORDS;
  }

  /** The bytes of row i of the burst. */
  bytes(i: number): Uint8Array {
    const r = this.burst.list[i]! * Row.WORDS;
    return this.slab.bytes.slice(this.slab.rows[r + Row.START]!, this.slab.rows[r + Row.END]!);
  }

  at(i: number, column: number): number {
    return this.slab.rows[this.burst.list[i]! * Row.WORDS + column]!;
  }

  fates(): number[] {
    return Array.from({ length: this.burst.length }, (_, i) => this.at(i, Row.FATE));
  }

  clear(): void {
    for (let i = 0; i < this.burst.length; i++) this.pool.give(this.burst.list[i]!);
    this.burst.length = 0;
  }
}

export const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));
export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** A minimal IPv4/UDP packet of `length` bytes. */
export function ipv4(length: number, last = 1, tos = 0): Uint8Array {
  const p = new Uint8Array(length);
  const v = new DataView(p.buffer);
  v.setUint8(0, 0x45);
  v.setUint8(1, tos);
  v.setUint16(2, length);
  v.setUint16(6, 0x4000);
  v.setUint8(8, 64);
  v.setUint8(9, 17);
  p.set([10, 1, 0, last, 10, 2, 0, last], 12);
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += v.getUint16(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  v.setUint16(10, ~sum & 0xffff);
  for (let i = 20; i < length; i++) p[i] = i * 7;
  return p;
}

/** A minimal IPv6/UDP packet of `length` bytes. */
export function ipv6(length: number): Uint8Array {
  const p = new Uint8Array(length);
  const v = new DataView(p.buffer);
  v.setUint32(0, 0x60000000);
  v.setUint16(4, length - 40);
  v.setUint8(6, 17);
  v.setUint8(7, 64);
  p.set([0xfd, 1], 8);
  p[23] = 1;
  p.set([0xfd, 2], 24);
  p[39] = 1;
  for (let i = 40; i < length; i++) p[i] = i * 5;
  return p;
}
