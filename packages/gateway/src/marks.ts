/**
 * Restart under the same keys: no number is used twice, no old packet is taken and no SA lives longer than its limits,
 * whenever the process ends and however.
 *
 *     outbound   numbers go out up to a mark that is durable; the next process goes on behind it
 *     inbound    packets come out up to a mark that is durable; the next process counts everything up to it as seen
 *
 *     1 ....... used ....... mark ....... not yet           raised in good time, so that traffic does not meet it
 *
 * The price is paid by a restart after a crash alone: numbers up to the mark are burnt on the way out, and refused on the way in
 * (STALE) until the peer has passed it. A process that ends as it should saves exactly what was used.
 *
 * Lifetimes are saved with the marks, as if every number up to them had been a packet as long as a frame: a packet needs a
 * number, so no more can go through before the next save. What a crash takes from a lifetime is therefore what lies between
 * use and mark, and for an SA with limits the mark is kept near. Time passes by the wall clock while nobody runs; a clock that
 * was set back counts as none.
 */
import type { ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { XfrmError } from '@espalier/xfrm';
import { BATCH } from './datapath.ts';
import { GATE_BLOCK, GATE_OPEN } from './gate.ts';
import { type Before, type Living, NEWBORN } from './lifetimes.ts';
import type { StatePlan } from './plan.ts';
import type { Life, StateFile } from './state-file.ts';

/** A mark that follows traffic is this many ticks' numbers ahead at the rate of late: half a second's. */
const TICKS_AHEAD = 10;
/** What is left of a rate after each tick of none. */
const FADING = 0.95;
/** Outbound with limits, the mark is at most this part of them ahead, or so many numbers: what a crash takes of a lifetime. */
const LIMIT_SHARE = 16;
const LEAST_AHEAD = 8192;
/** Bytes of a frame, and so of the longest packet. */
const FRAME_BYTES = 2048;

interface Marked {
  readonly name: string;
  /** Null = without limits. */
  readonly living: Living | null;
  mark: number;
  /** Last number used, when last looked at. */
  top: number;
  /** Packets that had used one by then. A peer's jump is one packet: no rate, or it would carry the mark away. */
  packets: number;
  /** Packets per tick of late. */
  rate: number;
}

interface Outbound extends Marked {
  readonly allocator: SequenceAllocator;
}

interface Inbound extends Marked {
  readonly window: ReplayWindow;
}

export interface MarksOptions {
  readonly file: StateFile;
  readonly plan: StatePlan;
  /** By slot: the first block of numbers that may not come out yet. */
  readonly gates: Int32Array;
  readonly workers: number;
  /** Packets that the SA in a slot has let in. */
  readonly packets: (slot: number) => number;
  /** Milliseconds, monotone: the gateway's clock. */
  readonly now: () => number;
  /** Milliseconds since 1970. */
  readonly wall: () => number;
  /** Told why a save failed: traffic goes on up to the marks that are durable, and no further. */
  readonly trouble: (error: Error) => void;
}

export class Marks {
  readonly #o: MarksOptions;
  readonly #file: StateFile;
  readonly #outbound: Map<number, Outbound> = new Map();
  readonly #inbound: Map<number, Inbound> = new Map();
  /** One after another. */
  #saving: Promise<unknown> = Promise.resolve();
  #busy = false;
  #failed = false;

  constructor(options: MarksOptions) {
    this.#o = options;
    this.#file = options.file;
  }

  /** What the SA of a key may have lived through before. */
  before(direction: 'in' | 'out', key: Uint8Array): Before {
    const life = this.#file.lifeOf(this.#file.nameOf(direction, key));
    if (life === null) return NEWBORN;
    return { ...life, age: life.age + Math.max(0, this.#o.wall() - life.time) };
  }

  /** Moves an outbound SA that has sent nothing yet behind what its key has been used for, and lets it go on from there. */
  async admitOutbound(
    slot: number,
    key: Uint8Array,
    allocator: SequenceAllocator,
    living: Living | null,
  ): Promise<void> {
    const name = this.#file.nameOf('out', key);
    const used = this.#file.markOf(name);
    if (used >= allocator.limit)
      throw new XfrmError({ code: 'NO_SPACE', what: 'the numbers of a key are used up, as the state file has it' });
    allocator.advanceTo(used + 1);
    const one = { name, allocator, living, mark: used, top: used, packets: used, rate: 0 };
    this.#outbound.set(slot, one);
    const mark = allocator.mark(this.#aheadOf(one));
    this.#file.set(name, mark);
    await this.#save();
    this.#raise(slot, one, mark);
  }

  /** Makes an inbound SA that has taken nothing yet refuse whatever its key may have been sent before. */
  async admitInbound(slot: number, key: Uint8Array, window: ReplayWindow, living: Living | null): Promise<void> {
    const name = this.#file.nameOf('in', key);
    const used = Math.min(this.#file.markOf(name), window.limit);
    if (used > 0) window.acceptUpTo(used);
    const one = { name, window, living, mark: used, top: used, packets: this.#o.packets(slot), rate: 0 };
    this.#inbound.set(slot, one);
    const mark = this.#markOf(one);
    this.#file.set(name, mark);
    await this.#save();
    this.#open(slot, one, mark);
  }

  /** The SA is gone from every worker: what it has used stands in the file from the next save on. */
  leave(slot: number): void {
    const sent = this.#outbound.get(slot);
    const got = this.#inbound.get(slot);
    if (sent !== undefined) this.#leave(sent, sent.allocator.next() - 1);
    if (got !== undefined) this.#leave(got, got.window.top());
    this.#outbound.delete(slot);
    this.#inbound.delete(slot);
    this.#o.gates[slot] = GATE_OPEN;
  }

  /** Raises the marks that traffic comes near to; at most one save is under way. */
  tick(): void {
    const raised: (() => void)[] = [];
    for (const [slot, one] of this.#outbound) {
      const used = one.allocator.next() - 1;
      follow(one, used, used);
      const ahead = this.#aheadOf(one);
      const mark = one.allocator.mark(ahead);
      if (this.#busy || mark <= one.mark || one.allocator.left() * 2 > ahead) continue;
      this.#file.set(one.name, mark);
      raised.push(() => this.#raise(slot, one, mark));
    }
    for (const [slot, one] of this.#inbound) {
      follow(one, one.window.top(), this.#o.packets(slot));
      const mark = this.#markOf(one);
      if (this.#busy || mark <= one.mark || (one.mark - one.top) * 2 > mark - one.top) continue;
      this.#file.set(one.name, mark);
      raised.push(() => this.#open(slot, one, mark));
    }
    if (raised.length === 0) return;
    this.#busy = true;
    this.#save()
      .then(
        () => {
          for (const step of raised) step();
          this.#failed = false;
        },
        (error: Error) => {
          // Tried again at every tick; told once.
          if (!this.#failed) this.#o.trouble(error);
          this.#failed = true;
        },
      )
      .finally(() => {
        this.#busy = false;
      });
  }

  /** The workers have ended: saves exactly what was used. */
  async stop(): Promise<void> {
    for (const slot of [...this.#outbound.keys(), ...this.#inbound.keys()]) this.leave(slot);
    await this.#save().catch(this.#o.trouble);
    this.#file.close();
  }

  /** How many numbers an outbound SA may be given at once. */
  #aheadOf({ living, rate }: Outbound): number {
    const { ahead } = this.#o.plan;
    if (living === null) return ahead;
    const { hardPackets, hardBytes } = living.lifetime;
    const share = Math.floor(Math.min(hardPackets, hardBytes / FRAME_BYTES) / LIMIT_SHARE);
    return Math.min(ahead, Math.max(share, LEAST_AHEAD, Math.ceil(TICKS_AHEAD * rate)));
  }

  /** A mark ends with a block. */
  #markOf({ window, rate }: Inbound): number {
    const least = window.top() + Math.max(this.#o.plan.margin, TICKS_AHEAD * rate);
    return Math.min(window.limit, Math.ceil((least + 1) / GATE_BLOCK) * GATE_BLOCK - 1);
  }

  /** Memory of an SA that is gone belongs to another by now. */
  #raise(slot: number, one: Outbound, mark: number): void {
    if (this.#outbound.get(slot) !== one) return;
    one.mark = mark;
    one.allocator.persisted(mark);
  }

  #open(slot: number, one: Inbound, mark: number): void {
    if (this.#inbound.get(slot) !== one) return;
    one.mark = mark;
    Atomics.store(this.#o.gates, slot, Math.ceil((mark + 1) / GATE_BLOCK) | 0);
  }

  #save(): Promise<void> {
    const next = this.#saving.then(() => {
      this.#setLives();
      return this.#file.save();
    });
    this.#saving = next.catch(() => undefined);
    return next;
  }

  /** For the marks that are about to be saved. */
  #setLives(): void {
    for (const one of this.#outbound.values()) {
      // First the number: every packet behind it has not been counted yet, or twice.
      const used = one.allocator.next() - 1;
      this.#setLife(one, Math.max(0, this.#file.markOf(one.name) - used));
    }
    for (const one of this.#inbound.values()) {
      const top = one.window.top();
      // Late ones may still come, and each worker may have a burst that is past its window and not counted.
      const late = one.window.size + this.#o.workers * BATCH;
      this.#setLife(one, Math.max(0, this.#file.markOf(one.name) - top) + late);
    }
  }

  /** `ahead`: packets that may go through before the next save. */
  #setLife({ name, living }: Marked, ahead: number): void {
    if (living === null) return;
    const { lifetime, before, since } = living;
    const life: Life = {
      packets: before.packets + lifetime.packets() + ahead,
      bytes: before.bytes + lifetime.bytes() + ahead * FRAME_BYTES,
      age: Math.max(0, Math.ceil(this.#o.now() - since)),
      time: Math.ceil(this.#o.wall()),
    };
    this.#file.setLife(name, life);
  }

  #leave(one: Marked, used: number): void {
    this.#file.set(one.name, used);
    this.#setLife(one, 0);
  }
}

function follow(one: Marked, top: number, packets: number): void {
  one.rate = Math.max(packets - one.packets, one.rate * FADING);
  one.packets = packets;
  one.top = top;
}
