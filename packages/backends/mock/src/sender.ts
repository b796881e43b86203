import { Dice, FaultWord } from './faults.ts';
import { type MockRing, RingWord } from './ring.ts';
import type { MockSide, MockWire } from './wire.ts';

/** Sees every frame that a port puts on a link, before the wire's faults: `bytes[start, end)`, to be read during the call only. */
export type MockTap = (bytes: Uint8Array, start: number, end: number, link: number, direction: MockSide) => void;

/** The sending end of one ring, with the faults that its frames meet. Belongs to one worker. */
export class MockSender {
  readonly #wire: MockWire;
  readonly #link: number;
  readonly #side: MockSide;
  readonly #worker: number;
  readonly #ring: MockRing;
  readonly #faultsAt: number;
  readonly #dice: Dice;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #tap: MockTap | null;
  #sent = 0;

  constructor(
    wire: MockWire,
    link: number,
    side: MockSide,
    worker: number,
    bytes: Uint8Array,
    words: Int32Array,
    tap: MockTap | null,
  ) {
    this.#bytes = bytes;
    this.#words = words;
    this.#wire = wire;
    this.#link = link;
    this.#side = side;
    this.#worker = worker;
    this.#ring = wire.ring(link, side, worker);
    this.#faultsAt = wire.faultsAt(link, side);
    this.#dice = new Dice(wire.seed ^ Math.imul(link * 2 + side + 1, 0x01000193) ^ (worker << 24));
    this.#tap = tap;
  }

  room(): number {
    return this.#ring.room();
  }

  /** Bytes of the largest frame. */
  get limit(): number {
    return this.#ring.limit;
  }

  /** Puts a frame of the slab on the wire; the caller has asked for room. */
  send(start: number, end: number): void {
    if (this.#tap !== null) this.#tap(this.#bytes, start, end, this.#link, this.#side);
    this.#sent++;
    const words = this.#wire.faultWords;
    if (Atomics.load(words, this.#faultsAt + FaultWord.ANY) === 0) {
      this.#ring.put(this.#words, start, end, 0);
      this.#ring.submit();
      return;
    }
    this.#sendWithFaults(words, start, end);
  }

  #sendWithFaults(words: Int32Array, start: number, end: number): void {
    const f = this.#faultsAt;
    const every = words[f + FaultWord.REPLAY_EVERY]!;
    if (every !== 0 && this.#sent % every === 0) this.#replay(words[f + FaultWord.REPLAY_ON]!, start, end);
    const dice = this.#dice;
    const ring = this.#ring;
    if (dice.hits(words[f + FaultWord.LOSS]!)) {
      ring.count(RingWord.LOST);
      return;
    }
    let polls = words[f + FaultWord.DELAY]!;
    const by = words[f + FaultWord.REORDER_BY]!;
    if (by > 0 && dice.hits(words[f + FaultWord.REORDER]!)) {
      // One poll more than frames that are not held back, so that at least the rest of its batch overtakes it.
      polls += 2 + dice.below(by);
      ring.count(RingWord.REORDERED);
    }
    const at = ring.put(this.#words, start, end, this.#due(polls));
    if (dice.hits(words[f + FaultWord.CORRUPT]!)) {
      const bit = dice.below((end - start) * 8);
      ring.bytes[at + (bit >> 3)] = ring.bytes[at + (bit >> 3)]! ^ (1 << (bit & 7));
      ring.count(RingWord.CORRUPTED);
    }
    ring.submit();
    if (!dice.hits(words[f + FaultWord.DUPLICATE]!) || ring.room() === 0) return;
    ring.put(this.#words, start, end, this.#due(words[f + FaultWord.DELAY]!));
    ring.submit();
    ring.count(RingWord.DUPLICATED);
  }

  /** The receiver's tick from which a frame may be taken; 0 means at once, so a tick of 0 becomes 1. */
  #due(polls: number): number {
    if (polls === 0) return 0;
    return (this.#wire.tick(this.#link, this.#side === 0 ? 1 : 0) + polls) | 0 || 1;
  }

  /** The same worker sends on all links, so their rings have one sender still. */
  #replay(link: number, start: number, end: number): void {
    const ring = this.#wire.ring(link, this.#side, this.#worker);
    if (ring.room() === 0 || !this.#wire.up(link, this.#side)) return;
    ring.put(this.#words, start, end, 0);
    ring.submit();
    this.#ring.count(RingWord.REPLAYED);
  }
}
