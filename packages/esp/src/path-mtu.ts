/** Words: how many slots have learned, then per slot: the MTU (0 = none learned), and when, in seconds of the caller's clock. */
const LEARNED = 0;
const FIRST = 2;
const MTU = 0;
const WHEN = 1;
const WORDS = 2;

/** Least MTU believed: the size every IPv4 host takes (RFC 791), and the least link of IPv6 (RFC 8200 5). */
export const LEAST_MTU_4 = 576;
export const LEAST_MTU_6 = 1280;

/** RFC 1191 6.3: a learned MTU is forgotten after ten minutes, and the larger one tried again. */
export const MTU_AGE_MS = 600_000;

/**
 * Path MTUs learned per outbound SA (RFC 4301 8.2), shared by every worker: whoever receives the error teaches all. Only
 * ever lowers an SA's own MTU. Reads no clock: `nowMs` is the caller's, monotone.
 */
export class PathMtu {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;

  private constructor(memory: SharedArrayBuffer) {
    this.memory = memory;
    this.#words = new Int32Array(memory);
  }

  /** A table for SA slots below `slots`, nothing learned. */
  static create(slots: number): PathMtu {
    if (!Number.isInteger(slots) || slots < 1) throw new RangeError(`"slots" must be a positive integer, got ${slots}`);
    return new PathMtu(new SharedArrayBuffer((FIRST + slots * WORDS) * 4));
  }

  /** The same table on another thread. */
  static attach(memory: SharedArrayBuffer): PathMtu {
    return new PathMtu(memory);
  }

  /** The learned MTU of the SA in a slot, bytes of the outer packet; 0 = none. */
  of(slot: number): number {
    return this.#words[FIRST + slot * WORDS + MTU]!;
  }

  /** Takes `mtu` over if it is below what is known; returns whether it did. The caller has judged that it is to be believed. */
  learn(slot: number, mtu: number, nowMs: number): boolean {
    const w = FIRST + slot * WORDS;
    for (;;) {
      const known = Atomics.load(this.#words, w + MTU);
      if (known !== 0 && mtu >= known) return false;
      if (Atomics.compareExchange(this.#words, w + MTU, known, mtu) !== known) continue;
      Atomics.store(this.#words, w + WHEN, Math.floor(nowMs / 1000));
      if (known === 0) Atomics.add(this.#words, LEARNED, 1);
      return true;
    }
  }

  /** Forgets what is older than `ageMs`; for one thread, now and then. Returns how many were forgotten. */
  age(nowMs: number, ageMs: number = MTU_AGE_MS): number {
    if (Atomics.load(this.#words, LEARNED) === 0) return 0;
    const before = Math.floor((nowMs - ageMs) / 1000);
    let forgotten = 0;
    for (let w = FIRST; w < this.#words.length; w += WORDS)
      if (this.#words[w + MTU] !== 0 && Atomics.load(this.#words, w + WHEN) <= before && this.#clear(w)) forgotten++;
    return forgotten;
  }

  /** Forgets one slot: its SA is gone. */
  forget(slot: number): void {
    this.#clear(FIRST + slot * WORDS);
  }

  #clear(w: number): boolean {
    if (Atomics.exchange(this.#words, w + MTU, 0) === 0) return false;
    Atomics.sub(this.#words, LEARNED, 1);
    return true;
  }
}
