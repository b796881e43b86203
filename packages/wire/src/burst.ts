/**
 * The burst: packets as rows of integers over one slab of shared memory.
 *
 * A frame is one equal-sized buffer of the slab; row `f` describes frame `f`, always. So a packet is one number, and
 * handing a packet to another worker is handing over that number.
 */

/** Equal-sized packet buffers and their rows, in shared memory. `bytes` and `view` are made once, never per packet. */
export interface FrameSlab {
  /** All frames, one after another. Frame `f` is `[f * frameSize, (f + 1) * frameSize)`. */
  readonly bytes: Uint8Array;
  /** The same bytes, for 16- and 32-bit fields. */
  readonly view: DataView;
  /** The same bytes once more, in words of this machine's byte order: half the time of `view`, for what is aligned. */
  readonly words: Int32Array;
  /** `Row.WORDS` words per frame. */
  readonly rows: Int32Array;
  /** Number of frames. */
  readonly frames: number;
  /** Bytes per frame, a multiple of 64. */
  readonly frameSize: number;
  /** Bytes a receiver leaves free before the packet, for headers that are pushed later. */
  readonly headroom: number;
  /** Bytes a receiver leaves free after the packet, for padding, trailer and ICV. */
  readonly tailroom: number;
}

/** What another thread needs to attach a slab; survives `postMessage`. */
export interface SlabTicket {
  readonly memory: SharedArrayBuffer;
  readonly frames: number;
  readonly frameSize: number;
  readonly headroom: number;
  readonly tailroom: number;
}

/** Columns of a row. Offsets are absolute byte offsets in `slab.bytes`. */
export const Row = {
  /** Words per row: one cache line. */
  WORDS: 16,
  /** First byte of the packet. */
  START: 0,
  /** One past the last byte of the packet. */
  END: 1,
  /** Offset of the IP header: the outer one on the outside, the inner one once decapsulated; -1 when unknown. */
  L3: 2,
  /** Offset of the ESP header; -1 when there is none. */
  ESP: 3,
  /** Slot of the SA; -1 when none. */
  SA: 4,
  /** Key number of the engine that is about to seal or open the row; 0 = none. */
  KEY: 5,
  /** Low 32 bits of the sequence number (read with `>>> 0`). */
  SEQ_LO: 6,
  /** High half of the sequence number; -1 = not inferred yet. Inferred once, by whoever looks first, and never again. */
  SEQ_HI: 7,
  /** A `RowState`. */
  STATE: 8,
  /** 0, or the DropReason that ended this packet. */
  FATE: 9,
  /** Hash of the inner flow. */
  FLOW: 10,
  /** VLAN tag control information that travels as metadata: 0x10000 | TCI; 0 = none. */
  TCI: 11,
  /** Index of the lower that received the row or is about to carry it. */
  LOWER: 12,
  /** Worker whose pool owns the frame. */
  POOL: 13,
  /** ECN bits of the outer header on the way in. */
  ECN: 14,
  /** Transmit hash that the SA has for the packet, 31 bits; -1 = none, hash its bytes. */
  HASH: 15,
} as const;

/**
 * What a row is. UNSET is dropped by every lower. CLEAR exists only by BYPASS policy or a control protocol (LACP, ARP),
 * is counted and listed.
 */
export const RowState = {
  UNSET: 0,
  /** Outbound: header, padding and number in place, waiting for its seal. */
  TO_SEAL: 1,
  /** Outbound: sealed; never sealed again, since sealing twice with one nonce gives plaintext away. */
  SEALED: 2,
  /** Outbound: may leave as it is. */
  CLEAR: 3,
  /** Inbound: as it came from the wire. */
  RECEIVED: 4,
  /** Inbound: ICV held, payload decrypted in place. */
  OPENED: 5,
  /** Inbound: ICV did not hold, payload zeroed. */
  ICV_BAD: 6,
} as const;
export type RowState = (typeof RowState)[keyof typeof RowState];

/** Some rows of one slab, in order. Belongs to one worker. */
export interface Burst {
  readonly slab: FrameSlab;
  /** `slab.rows`, kept here because every loop wants it. */
  readonly rows: Int32Array;
  /** Row numbers `list[0 .. length)`; its own length is the capacity. */
  readonly list: Int32Array;
  length: number;
}

/** Frames that one worker may hand out. Belongs to one worker. */
export interface FramePool {
  /** A free frame, or -1. */
  take(): number;
  /** Takes a frame back. Giving one frame twice is a caller's bug. */
  give(frame: number): void;
  /** Frames free now. */
  readonly free: number;
}

export interface SlabOptions {
  readonly frames: number;
  readonly frameSize?: number;
  readonly headroom?: number;
  readonly tailroom?: number;
  /** Memory to use instead of a new SharedArrayBuffer: a shared WebAssembly.Memory's buffer, for instance. */
  readonly memory?: SharedArrayBuffer;
}

/** Bytes of memory a slab takes: frames first, rows behind them. */
export function slabBytes(frames: number, frameSize: number): number {
  return frames * frameSize + frames * Row.WORDS * 4;
}

/** Makes a slab. Throws RangeError when the sizes make no sense. */
export function createSlab(options: SlabOptions): FrameSlab {
  const { frames, frameSize = 2048, headroom = 256, tailroom = 64 } = options;
  if (!Number.isInteger(frames) || frames < 1)
    throw new RangeError(`"frames" must be a positive integer, got ${frames}`);
  if (!Number.isInteger(frameSize) || frameSize < 256 || frameSize % 64 !== 0)
    throw new RangeError(`"frameSize" must be a multiple of 64 of at least 256, got ${frameSize}`);
  if (headroom < 0 || tailroom < 0 || headroom + tailroom >= frameSize)
    throw new RangeError(`"headroom" ${headroom} and "tailroom" ${tailroom} must leave room in ${frameSize} bytes`);
  const size = slabBytes(frames, frameSize);
  if (size > 0x7fffffff) throw new RangeError(`a slab must stay below 2 GiB, got ${size} bytes`);
  const memory = options.memory ?? new SharedArrayBuffer(size);
  if (memory.byteLength < size) throw new RangeError(`"memory" has ${memory.byteLength} bytes, ${size} are needed`);
  return attachSlab({ memory, frames, frameSize, headroom, tailroom });
}

/** What to post to another thread so that it can attach the slab. */
export function slabTicket(slab: FrameSlab): SlabTicket {
  const { frames, frameSize, headroom, tailroom } = slab;
  return { memory: slab.bytes.buffer as SharedArrayBuffer, frames, frameSize, headroom, tailroom };
}

/** The same slab on this thread. */
export function attachSlab(ticket: SlabTicket): FrameSlab {
  const { memory, frames, frameSize, headroom, tailroom } = ticket;
  const length = frames * frameSize;
  return {
    bytes: new Uint8Array(memory, 0, length),
    view: new DataView(memory, 0, length),
    words: new Int32Array(memory, 0, length >> 2),
    rows: new Int32Array(memory, length, frames * Row.WORDS),
    frames,
    frameSize,
    headroom,
    tailroom,
  };
}

/** An empty burst of at most `capacity` rows. */
export function createBurst(slab: FrameSlab, capacity: number): Burst {
  if (!Number.isInteger(capacity) || capacity < 1) throw new RangeError(`"capacity" must be positive, got ${capacity}`);
  return { slab, rows: slab.rows, list: new Int32Array(capacity), length: 0 };
}

/** Sets every column of a row for a packet at `[start, end)`: no SA, no key, no fate. */
export function resetRow(rows: Int32Array, row: number, start: number, end: number, state: RowState): void {
  const r = row * Row.WORDS;
  rows[r + Row.START] = start;
  rows[r + Row.END] = end;
  rows[r + Row.L3] = -1;
  rows[r + Row.ESP] = -1;
  rows[r + Row.SA] = -1;
  rows[r + Row.KEY] = 0;
  rows[r + Row.SEQ_LO] = 0;
  rows[r + Row.SEQ_HI] = -1;
  rows[r + Row.STATE] = state;
  rows[r + Row.FATE] = 0;
  rows[r + Row.FLOW] = 0;
  rows[r + Row.TCI] = 0;
  rows[r + Row.LOWER] = -1;
  rows[r + Row.ECN] = 0;
  rows[r + Row.HASH] = -1;
}

/** A pool over frames `[first, first + count)` of a slab: last in, first out, so that warm frames are used first. */
export function createPool(slab: FrameSlab, first = 0, count: number = slab.frames - first, owner = 0): FramePool {
  if (first < 0 || count < 0 || first + count > slab.frames)
    throw new RangeError(`frames [${first}, ${first + count}) are not all in a slab of ${slab.frames}`);
  return new StackPool(slab, first, count, owner);
}

class StackPool implements FramePool {
  readonly #stack: Int32Array;
  #top: number;

  constructor(slab: FrameSlab, first: number, count: number, owner: number) {
    this.#stack = new Int32Array(count);
    for (let i = 0; i < count; i++) {
      this.#stack[i] = first + count - 1 - i;
      slab.rows[(first + i) * Row.WORDS + Row.POOL] = owner;
    }
    this.#top = count;
  }

  get free(): number {
    return this.#top;
  }

  take(): number {
    return this.#top === 0 ? -1 : this.#stack[--this.#top]!;
  }

  give(frame: number): void {
    if (this.#top === this.#stack.length) throw new RangeError(`frame ${frame} given back to a full pool`);
    this.#stack[this.#top++] = frame;
  }
}
