/**
 * Which slaves carry traffic now, published to workers, and how the control actor knows that nobody still uses what was.
 *
 *   EPOCH        number of the newest snapshot; snapshot e lies in place e mod 8
 *   PIN[worker]  0 = between bursts; else the epoch whose snapshot the worker is using
 *
 * A worker pins for a burst: do { e = EPOCH; PIN = e } while (EPOCH != e). The control actor posts e + 1 and waits until
 * every live PIN is 0 or at least e + 1 (grace); only then does it free what snapshot e could reach. A place is written
 * again only when nobody pins what lies there, so that up to 7 snapshots can be posted at once, without a wait.
 */
const EPOCH = 0;
const HEADER = 16;
/** Snapshots that can be in use at once. */
const PLACES = 8;
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

function place(ticket: SnapshotTicket, epoch: number): number {
  return HEADER + ticket.workers * PIN_STRIDE + (epoch % PLACES) * (ticket.maxLowers + 1);
}

/** Control half: publishes, and waits for grace. */
export class SnapshotPublisher {
  readonly ticket: SnapshotTicket;
  readonly #words: Int32Array;
  readonly #gone: Set<number> = new Set();
  readonly #idle: () => Promise<void>;

  constructor(workers: number, maxLowers: number, idle: () => Promise<void>) {
    const size = (HEADER + workers * PIN_STRIDE + PLACES * (maxLowers + 1)) * 4;
    this.ticket = { memory: new SharedArrayBuffer(size), workers, maxLowers };
    this.#words = words(this.ticket);
    this.#words[EPOCH] = 1;
    this.#idle = idle;
  }

  /**
   * At once: workers use this from their next pin on. Lower indices in slave order. False, and nothing done, while the
   * oldest place is still pinned.
   */
  post(usable: readonly number[]): boolean {
    const epoch = this.#words[EPOCH]! + 1;
    if (!this.#passed(epoch - PLACES + 1)) return false;
    const at = place(this.ticket, epoch);
    Atomics.store(this.#words, at, usable.length);
    for (let i = 0; i < usable.length; i++) Atomics.store(this.#words, at + 1 + i, usable[i]!);
    Atomics.store(this.#words, EPOCH, epoch);
    return true;
  }

  /** `post`, as soon as there is a place, and resolves when no worker uses an older snapshot. */
  async publish(usable: readonly number[]): Promise<void> {
    while (!this.post(usable)) await this.#idle();
    const epoch = this.#words[EPOCH]!;
    while (!this.#passed(epoch)) await this.#idle();
  }

  /** Lets every burst that is under way now end: a snapshot like the last one. */
  grace(): Promise<void> {
    return this.publish(this.usable());
  }

  usable(): number[] {
    const at = place(this.ticket, this.#words[EPOCH]!);
    return Array.from({ length: this.#words[at]! }, (_, i) => this.#words[at + 1 + i]!);
  }

  /** The worker's thread has exited (its exit event, nothing less): its pin no longer counts. */
  workerGone(worker: number): void {
    this.#gone.add(worker);
  }

  /** A new thread is about to take the worker's place and has not pinned yet. */
  workerBack(worker: number): void {
    Atomics.store(this.#words, HEADER + worker * PIN_STRIDE, 0);
    this.#gone.delete(worker);
  }

  /** Whether every live worker pins nothing, or `epoch` or later. */
  #passed(epoch: number): boolean {
    for (let worker = 0; worker < this.ticket.workers; worker++) {
      if (this.#gone.has(worker)) continue;
      const pin = Atomics.load(this.#words, HEADER + worker * PIN_STRIDE);
      if (pin !== 0 && pin < epoch) return false;
    }
    return true;
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
    this.#at = place(this.#ticket, epoch);
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
