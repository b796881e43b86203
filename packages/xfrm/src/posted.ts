/**
 * Frames that ports have posted to their device and that it has completed: two words per port, a cache line each, written
 * by the port alone. For lowers that send asynchronously; `inFlight`, `fence` and `portGone` of a LowerDevice are these.
 */
const POSTED = 0;
const DONE = 1;
const WORDS = 16;

/** Control half: all ports of one lower. */
export class PostedTable {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #ports: number;

  constructor(ports: number) {
    this.memory = new SharedArrayBuffer(ports * WORDS * 4);
    this.#words = new Int32Array(this.memory);
    this.#ports = ports;
  }

  /** Frames posted and not completed; at rest exact, else never too little. */
  inFlight(): number {
    let sum = 0;
    for (let port = 0; port < this.#ports; port++) {
      // DONE first: a frame completed between the two loads is counted too much, never too little.
      const done = Atomics.load(this.#words, port * WORDS + DONE);
      sum += (Atomics.load(this.#words, port * WORDS + POSTED) - done) | 0;
    }
    return sum;
  }

  /** Asks later whether all that was posted before this call has been completed; comes true under traffic too. */
  fence(): () => boolean {
    const posted = Array.from({ length: this.#ports }, (_, port) => Atomics.load(this.#words, port * WORDS + POSTED));
    return () => posted.every((count, port) => ((Atomics.load(this.#words, port * WORDS + DONE) - count) | 0) >= 0);
  }

  /** What a port had posted counts as completed: its worker has exited and its sockets are closed. */
  portGone(port: number): void {
    Atomics.store(this.#words, port * WORDS + DONE, Atomics.load(this.#words, port * WORDS + POSTED));
  }
}

/** Datapath half: one port's words. */
export class PostedCount {
  readonly #words: Int32Array;

  constructor(memory: SharedArrayBuffer, port: number) {
    this.#words = new Int32Array(memory, port * WORDS * 4, WORDS);
  }

  post(frames: number): void {
    Atomics.add(this.#words, POSTED, frames);
  }

  complete(frames: number): void {
    Atomics.add(this.#words, DONE, frames);
  }
}
