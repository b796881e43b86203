/**
 * Which slaves carry traffic now, published to workers, and how the control actor knows that nobody still uses what was.
 *
 *   EPOCH        number of the newest snapshot; snapshot e lies in half e & 1
 *   PIN[worker]  0 = between bursts; else the epoch whose snapshot the worker is using
 *
 * A worker pins for a burst: do { e = EPOCH; PIN = e } while (EPOCH != e). The control actor publishes e + 1 and waits until
 * every live PIN is 0 or at least e + 1; only then does it touch the half of e, or free what snapshot e could reach.
 */
const EPOCH = 0;
const HEADER = 16;
/** One pin per cache line: workers write them once a burst. */
const PIN_STRIDE = 16;

export interface SnapshotTicket {
  readonly memory: SharedArrayBuffer;
  readonly workers: number;
  readonly maxLowers: number;
}

function words(ticket: SnapshotTicket): Int32Array {
  return new Int32Array(ticket.memory);
}

function half(ticket: SnapshotTicket, epoch: number): number {
  return HEADER + ticket.workers * PIN_STRIDE + (epoch & 1) * (ticket.maxLowers + 1);
}

/** Control half: publishes, and waits for grace. */
export class SnapshotPublisher {
  readonly ticket: SnapshotTicket;
  readonly #words: Int32Array;
  readonly #gone: Set<number> = new Set();
  readonly #idle: () => Promise<void>;

  constructor(workers: number, maxLowers: number, idle: () => Promise<void>) {
    const size = (HEADER + workers * PIN_STRIDE + 2 * (maxLowers + 1)) * 4;
    this.ticket = { memory: new SharedArrayBuffer(size), workers, maxLowers };
    this.#words = words(this.ticket);
    this.#words[EPOCH] = 1;
    this.#idle = idle;
  }

  /** Lower indices in slave order; resolves when no worker uses an older snapshot. Calls must not overlap. */
  async publish(usable: readonly number[]): Promise<void> {
    const epoch = this.#words[EPOCH]! + 1;
    const at = half(this.ticket, epoch);
    Atomics.store(this.#words, at, usable.length);
    usable.forEach((lower, i) => {
      Atomics.store(this.#words, at + 1 + i, lower);
    });
    Atomics.store(this.#words, EPOCH, epoch);
    await this.#grace(epoch);
  }

  /** Lets every burst that is under way now end: a snapshot like the last one. */
  async grace(): Promise<void> {
    await this.publish(this.usable());
  }

  usable(): number[] {
    const at = half(this.ticket, this.#words[EPOCH]!);
    return Array.from({ length: this.#words[at]! }, (_, i) => this.#words[at + 1 + i]!);
  }

  /** The worker's thread has exited (its exit event, nothing less): its pin no longer counts. */
  workerGone(worker: number): void {
    this.#gone.add(worker);
  }

  /** A new thread has taken the worker's place and has not pinned yet. */
  workerBack(worker: number): void {
    Atomics.store(this.#words, HEADER + worker * PIN_STRIDE, 0);
    this.#gone.delete(worker);
  }

  async #grace(epoch: number): Promise<void> {
    for (let worker = 0; worker < this.ticket.workers; worker++)
      for (;;) {
        if (this.#gone.has(worker)) break;
        const pin = Atomics.load(this.#words, HEADER + worker * PIN_STRIDE);
        if (pin === 0 || pin >= epoch) break;
        await this.#idle();
      }
  }
}

/** Datapath half: one per worker. */
export class SnapshotReader {
  readonly #words: Int32Array;
  readonly #ticket: SnapshotTicket;
  readonly #pin: number;
  #at = 0;

  constructor(ticket: SnapshotTicket, worker: number) {
    if (worker < 0 || worker >= ticket.workers) throw new RangeError(`worker ${worker} of ${ticket.workers}`);
    this.#words = words(ticket);
    this.#ticket = ticket;
    this.#pin = HEADER + worker * PIN_STRIDE;
  }

  /** Before a burst. What is read until `unpin` stays valid until then. */
  pin(): void {
    let epoch: number;
    do {
      epoch = Atomics.load(this.#words, EPOCH);
      Atomics.store(this.#words, this.#pin, epoch);
    } while (Atomics.load(this.#words, EPOCH) !== epoch);
    this.#at = half(this.#ticket, epoch);
  }

  /** After a burst, and before any wait. */
  unpin(): void {
    Atomics.store(this.#words, this.#pin, 0);
  }

  /** Number of usable slaves; under a pin. */
  count(): number {
    return this.#words[this.#at]!;
  }

  /** Lower index of usable slave i; under a pin. */
  usable(i: number): number {
    return this.#words[this.#at + 1 + i]!;
  }
}
