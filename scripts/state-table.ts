/** Tuples of small numbers with one value each: open addressing, no removal. */
export class StateTable {
  size = 0;
  paths: Float64Array = new Float64Array(1 << 10);
  #keys: Int32Array;
  readonly #width: number;
  readonly #probe: Int32Array;

  constructor(width: number) {
    this.#width = width;
    this.#keys = new Int32Array(width << 10).fill(-1);
    this.#probe = new Int32Array(width);
  }

  /** Slot of a state, or -1. */
  find(memory: number, nodes: readonly { id: number }[]): number {
    this.#load(memory, nodes);
    const slot = this.#seek();
    return this.#keys[slot * this.#width]! < 0 ? -1 : slot;
  }

  add(memory: number, nodes: readonly { id: number }[], paths: number): void {
    if (this.size * 2 >= this.paths.length) this.#grow();
    this.#load(memory, nodes);
    const slot = this.#seek();
    this.#keys.set(this.#probe, slot * this.#width);
    this.paths[slot] = paths;
    this.size++;
  }

  #load(memory: number, nodes: readonly { id: number }[]): void {
    this.#probe[0] = memory;
    for (let i = 0; i < nodes.length; i++) this.#probe[i + 1] = nodes[i]!.id;
  }

  #seek(): number {
    const width = this.#width;
    const mask = this.paths.length - 1;
    let hash = 0;
    for (let i = 0; i < width; i++) {
      hash = Math.imul(hash ^ this.#probe[i]!, 0x9e37_79b1);
      hash ^= hash >>> 15;
    }
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const at = slot * width;
      if (this.#keys[at]! < 0) return slot;
      let i = 0;
      while (i < width && this.#keys[at + i] === this.#probe[i]) i++;
      if (i === width) return slot;
    }
  }

  #grow(): void {
    const keys = this.#keys;
    const { paths } = this;
    this.#keys = new Int32Array(keys.length * 2).fill(-1);
    this.paths = new Float64Array(paths.length * 2);
    for (let slot = 0; slot < paths.length; slot++) {
      const at = slot * this.#width;
      if (keys[at]! < 0) continue;
      this.#probe.set(keys.subarray(at, at + this.#width));
      const to = this.#seek();
      this.#keys.set(this.#probe, to * this.#width);
      this.paths[to] = paths[slot]!;
    }
  }
}
