import { FaultWord, type MockFaultCounts, type MockFaults, storeFaults } from './faults.ts';
import { MockRing, RingWord, ringBytes } from './ring.ts';

/** One end of every link. */
export type MockSide = 0 | 1;

/** What another thread needs to attach the wire; plain data. */
export interface MockWireTicket {
  readonly memory: SharedArrayBuffer;
  readonly links: number;
  readonly workers: number;
  readonly ringSlots: number;
  readonly slotBytes: number;
  readonly seed: number;
}

export interface MockWireOptions {
  readonly links: number;
  /** Sending workers per side at most. */
  readonly workers: number;
  /** Frames that wait on one ring, a power of two; default 256. */
  readonly ringSlots?: number;
  /** Bytes of a slot, a multiple of 64; a frame may have 3 less. Default 2048. */
  readonly slotBytes?: number;
  readonly seed?: number;
}

/** Words of one end of a link, a cache line. */
const EndWord = {
  /** Administratively up. */
  RUNNING: 0,
  CARRIER: 1,
  /** Polls so far: the virtual time of frames on their way to this end. */
  TICK: 2,
  WORDS: 16,
} as const;

/**
 * Links in shared memory, each with two ends and, per direction, one ring for every sending worker and one for whoever
 * injects frames from outside. A ring has one sender and one receiver thread; the port that receives for an end reads all
 * of its rings. Everything that can be switched while traffic flows (up or down, faults) is a shared word.
 */
export class MockWire {
  readonly #ticket: MockWireTicket;
  readonly #ends: Int32Array;
  readonly #faults: Int32Array;
  readonly #rings: MockRing[] = [];

  private constructor(ticket: MockWireTicket) {
    this.#ticket = ticket;
    const { memory, links, workers, ringSlots, slotBytes } = ticket;
    const ends = links * 2;
    this.#ends = new Int32Array(memory, 0, ends * EndWord.WORDS);
    this.#faults = new Int32Array(memory, ends * EndWord.WORDS * 4, ends * FaultWord.WORDS);
    const size = ringBytes(ringSlots, slotBytes);
    const first = ends * (EndWord.WORDS + FaultWord.WORDS) * 4;
    for (let i = 0; i < ends * (workers + 1); i++)
      this.#rings.push(new MockRing(memory, first + i * size, ringSlots, slotBytes));
  }

  /** Throws RangeError when the sizes make no sense. All ends are up. */
  static create(options: MockWireOptions): MockWire {
    const { links, workers, ringSlots = 256, slotBytes = 2048, seed = 1 } = options;
    for (const [name, value] of Object.entries({ links, workers, ringSlots, slotBytes }))
      if (!Number.isInteger(value) || value < 1)
        throw new RangeError(`"${name}" must be a positive integer, got ${value}`);
    if ((ringSlots & (ringSlots - 1)) !== 0)
      throw new RangeError(`"ringSlots" must be a power of two, got ${ringSlots}`);
    if (slotBytes % 64 !== 0) throw new RangeError(`"slotBytes" must be a multiple of 64, got ${slotBytes}`);
    const ends = links * 2;
    const size = ends * (EndWord.WORDS + FaultWord.WORDS) * 4 + ends * (workers + 1) * ringBytes(ringSlots, slotBytes);
    const memory = new SharedArrayBuffer(size);
    const wire = new MockWire({ memory, links, workers, ringSlots, slotBytes, seed });
    for (let link = 0; link < links; link++)
      for (const side of [0, 1] as const) {
        wire.setRunning(link, side, true);
        wire.setCarrier(link, side, true);
      }
    return wire;
  }

  /** The same wire on another thread. */
  static attach(ticket: MockWireTicket): MockWire {
    return new MockWire(ticket);
  }

  get links(): number {
    return this.#ticket.links;
  }

  get workers(): number {
    return this.#ticket.workers;
  }

  get seed(): number {
    return this.#ticket.seed;
  }

  ticket(): MockWireTicket {
    return this.#ticket;
  }

  running(link: number, side: MockSide): boolean {
    return Atomics.load(this.#ends, this.#end(link, side) + EndWord.RUNNING) === 1;
  }

  carrier(link: number, side: MockSide): boolean {
    return Atomics.load(this.#ends, this.#end(link, side) + EndWord.CARRIER) === 1;
  }

  /** Whether this end can send and receive now: running and with carrier. */
  up(link: number, side: MockSide): boolean {
    const at = this.#end(link, side);
    return Atomics.load(this.#ends, at + EndWord.RUNNING) === 1 && Atomics.load(this.#ends, at + EndWord.CARRIER) === 1;
  }

  setRunning(link: number, side: MockSide, running: boolean): void {
    Atomics.store(this.#ends, this.#end(link, side) + EndWord.RUNNING, running ? 1 : 0);
  }

  setCarrier(link: number, side: MockSide, carrier: boolean): void {
    Atomics.store(this.#ends, this.#end(link, side) + EndWord.CARRIER, carrier ? 1 : 0);
  }

  /** The virtual time of an end: how often its receiver has polled. */
  tick(link: number, side: MockSide): number {
    return Atomics.load(this.#ends, this.#end(link, side) + EndWord.TICK);
  }

  /** The receiver of this end polls once more. */
  advance(link: number, side: MockSide): number {
    return (Atomics.add(this.#ends, this.#end(link, side) + EndWord.TICK, 1) + 1) | 0;
  }

  /** From the next burst on, frames sent by `from` on this link meet these faults; absent ones end. */
  setFaults(link: number, from: MockSide, faults: MockFaults): void {
    storeFaults(this.#faults, this.faultsAt(link, from), faults, this.links);
  }

  /** Where the faults of a direction begin in `faultWords`. */
  faultsAt(link: number, from: MockSide): number {
    return (this.#end(link, from) / EndWord.WORDS) * FaultWord.WORDS;
  }

  get faultWords(): Int32Array {
    return this.#faults;
  }

  /** The ring of one sending worker; `worker` may be `workers`: the ring of `inject`. */
  ring(link: number, from: MockSide, worker: number): MockRing {
    if (worker < 0 || worker > this.workers)
      throw new RangeError(`worker ${worker} has no ring on a wire for ${this.workers}`);
    return this.#rings[(this.#end(link, from) / EndWord.WORDS) * (this.workers + 1) + worker]!;
  }

  /**
   * Puts a frame on a link as an attacker or a test would, no faults applied; false when its ring is full or the frame
   * too long. One thread only.
   */
  inject(link: number, from: MockSide, frame: Uint8Array): boolean {
    const ring = this.ring(link, from, this.workers);
    if (frame.length === 0 || frame.length > ring.limit || ring.room() === 0) return false;
    ring.putBytes(frame);
    ring.submit();
    return true;
  }

  /** What the faults of a direction have done so far. */
  counts(link: number, from: MockSide): MockFaultCounts {
    const sum: MockFaultCounts = { lost: 0, reordered: 0, duplicated: 0, corrupted: 0, replayed: 0 };
    for (let worker = 0; worker < this.workers; worker++) {
      const ring = this.ring(link, from, worker);
      sum.lost += ring.counted(RingWord.LOST);
      sum.reordered += ring.counted(RingWord.REORDERED);
      sum.duplicated += ring.counted(RingWord.DUPLICATED);
      sum.corrupted += ring.counted(RingWord.CORRUPTED);
      sum.replayed += ring.counted(RingWord.REPLAYED);
    }
    return sum;
  }

  /** Frames on their way on a link in one direction. */
  waiting(link: number, from: MockSide): number {
    let sum = 0;
    for (let worker = 0; worker <= this.workers; worker++) sum += this.ring(link, from, worker).waiting();
    return sum;
  }

  #end(link: number, side: MockSide): number {
    if (!(link >= 0 && link < this.links)) throw new RangeError(`there is no link ${link} on a wire of ${this.links}`);
    return (link * 2 + side) * EndWord.WORDS;
  }
}
