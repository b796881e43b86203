import { LINE_BYTES } from './layout.ts';

/** One shared memory for many windows and allocators. Control thread only; workers attach by (memory, offset). */
export class Arena {
  readonly memory: SharedArrayBuffer;
  #next = 0;
  /** Freed regions by size: regions of one kind have one size, so they fit again exactly. */
  readonly #free: Map<number, number[]> = new Map();

  private constructor(memory: SharedArrayBuffer) {
    this.memory = memory;
  }

  static create(bytes: number): Arena {
    if (!Number.isInteger(bytes) || bytes < LINE_BYTES)
      throw new RangeError(`"bytes" must be at least 64, got ${bytes}`);
    return new Arena(new SharedArrayBuffer(bytes));
  }

  /** Byte offset of a zeroed region that begins on a cache line, or -1 when the arena is full. */
  allocate(bytes: number): number {
    const size = Math.ceil(bytes / LINE_BYTES) * LINE_BYTES;
    const again = this.#free.get(size)?.pop();
    if (again !== undefined) {
      new Uint8Array(this.memory, again, size).fill(0);
      return again;
    }
    if (this.#next + size > this.memory.byteLength) return -1;
    const offset = this.#next;
    this.#next += size;
    return offset;
  }

  /** Takes a region back; nobody may use it any more. */
  release(offset: number, bytes: number): void {
    const size = Math.ceil(bytes / LINE_BYTES) * LINE_BYTES;
    const list = this.#free.get(size);
    if (list) list.push(offset);
    else this.#free.set(size, [offset]);
  }

  /** Bytes not yet handed out, freed regions left aside. */
  get left(): number {
    return this.memory.byteLength - this.#next;
  }
}
