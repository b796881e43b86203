import { createSlab, type FrameSlab, slabBytes } from '@espalier/wire';

const PAGE = 4096;
/** Frames are of 2048 bytes: the row of an address is a shift away. */
export const FRAME_SHIFT = 11;
const FRAME_BYTES = 1 << FRAME_SHIFT;
const WASM_PAGE = 65_536;
const RINGS = 4;
/** Longest ring: 2048 descriptors of 16 bytes and the kernel's header before them. */
export const RING_ENTRIES = 2048;
export const RING_BYTES: number = RING_ENTRIES * 16 + PAGE;
const SOCKET_BYTES = RINGS * RING_BYTES;

/** Node's types do not have it without the DOM's. */
const { WebAssembly: Wasm } = globalThis as unknown as {
  WebAssembly: {
    Memory: new (options: { initial: number; maximum: number; shared: true }) => { readonly buffer: SharedArrayBuffer };
  };
};

export interface UmemOptions {
  readonly frames: number;
  /** Sockets that may be open over this memory at one time. */
  readonly sockets: number;
}

/** Places for rings behind a slab, and which are taken. */
interface Places {
  readonly first: number;
  readonly taken: boolean[];
  /** Descriptor of the socket that registered the memory, or -1; others share with it. */
  owner: number;
}

const places: WeakMap<ArrayBufferLike, Places> = new WeakMap();

/**
 * A slab that is also an AF_XDP UMEM: frames of 2048 bytes at the start of a shared WebAssembly.Memory, which is page
 * aligned and never moves, then the rows, then pages over which the kernel's rings are mapped. Belongs to one worker.
 */
export function createUmem({ frames, sockets }: UmemOptions): FrameSlab {
  const first = Math.ceil(slabBytes(frames, FRAME_BYTES) / PAGE) * PAGE;
  const pages = Math.ceil((first + sockets * SOCKET_BYTES) / WASM_PAGE);
  const { buffer } = new Wasm.Memory({ initial: pages, maximum: pages, shared: true });
  const slab = createSlab({ frames, frameSize: FRAME_BYTES, memory: buffer });
  places.set(slab.bytes.buffer, { first, taken: new Array(sockets).fill(false), owner: -1 });
  return slab;
}

/** Where one socket's rings may lie. */
export class RingPlace {
  /** The whole memory. */
  readonly memory: Uint8Array;
  /** Byte offset of the rings' pages. */
  readonly pages: number;
  readonly bytes: number = SOCKET_BYTES;
  readonly #places: Places;
  readonly #at: number;
  readonly #frames: number;

  private constructor(slab: FrameSlab, all: Places, at: number) {
    this.memory = new Uint8Array(slab.bytes.buffer);
    this.#frames = slab.frames;
    this.#places = all;
    this.#at = at;
    this.pages = all.first + at * SOCKET_BYTES;
  }

  /** A free place, or null: the slab is no UMEM of `createUmem`, or holds its sockets already. */
  static take(slab: FrameSlab): RingPlace | null {
    const all = places.get(slab.bytes.buffer);
    const at = all?.taken.indexOf(false) ?? -1;
    if (all === undefined || at < 0) return null;
    all.taken[at] = true;
    return new RingPlace(slab, all, at);
  }

  /** Frames that one socket may hold to receive into: all of them together at most half. */
  get share(): number {
    return Math.floor(this.#frames / (2 * this.#places.taken.length));
  }

  /** Descriptor that owns the UMEM, or -1 when the next socket registers it. */
  get owner(): number {
    return this.#places.owner;
  }

  own(fd: number): void {
    if (this.#places.owner < 0) this.#places.owner = fd;
  }

  /** The socket is closed. The kernel keeps the UMEM while another socket shares it, but takes no new sharer by a closed descriptor. */
  release(fd: number): void {
    this.#places.taken[this.#at] = false;
    if (this.#places.owner === fd) this.#places.owner = -1;
  }
}
