/**
 * Restart under the same keys: no number is used twice and no old packet is taken, whenever the process ends and however.
 *
 *     outbound   numbers go out up to a mark that is durable; the next process goes on behind it
 *     inbound    packets come out up to a mark that is durable; the next process counts everything up to it as seen
 *
 *     1 ....... used ....... mark ....... not yet           raised in good time, so that traffic does not meet it
 *
 * The price is paid by a restart after a crash alone: numbers up to the mark are burnt on the way out, and refused on the way in
 * (STALE) until the peer has passed it. A process that ends as it should saves exactly what was used.
 */
import type { ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { XfrmError } from '@espalier/xfrm';
import { GATE_BLOCK, GATE_OPEN } from './gate.ts';
import type { StatePlan } from './plan.ts';
import type { StateFile } from './state-file.ts';

/** Inbound, the mark is this many ticks' numbers ahead at the rate of late: half a second's. */
const TICKS_AHEAD = 10;
/** What is left of a rate after each tick of none. */
const FADING = 0.95;

interface Outbound {
  readonly name: string;
  readonly allocator: SequenceAllocator;
  mark: number;
}

interface Inbound {
  readonly name: string;
  readonly window: ReplayWindow;
  mark: number;
  top: number;
  /** Numbers per tick of late. */
  rate: number;
}

export class Marks {
  readonly #file: StateFile;
  readonly #plan: StatePlan;
  /** By slot: the first block of numbers that may not come out yet. */
  readonly #gates: Int32Array;
  readonly #trouble: (error: Error) => void;
  readonly #outbound: Map<number, Outbound> = new Map();
  readonly #inbound: Map<number, Inbound> = new Map();
  /** One after another. */
  #saving: Promise<unknown> = Promise.resolve();
  #busy = false;
  #failed = false;

  /** `trouble` is told why a save failed: traffic goes on up to the marks that are durable, and no further. */
  constructor(file: StateFile, plan: StatePlan, gates: Int32Array, trouble: (error: Error) => void) {
    this.#file = file;
    this.#plan = plan;
    this.#gates = gates;
    this.#trouble = trouble;
  }

  /** Moves an outbound SA that has sent nothing yet behind what its key has been used for, and lets it go on from there. */
  async admitOutbound(slot: number, key: Uint8Array, allocator: SequenceAllocator): Promise<void> {
    const name = this.#file.nameOf('out', key);
    const used = this.#file.markOf(name);
    if (used >= allocator.limit)
      throw new XfrmError({ code: 'NO_SPACE', what: 'the numbers of a key are used up, as the state file has it' });
    allocator.advanceTo(used + 1);
    const mark = allocator.mark(this.#plan.ahead);
    this.#file.set(name, mark);
    await this.#save();
    allocator.persisted(mark);
    this.#outbound.set(slot, { name, allocator, mark });
  }

  /** Makes an inbound SA that has taken nothing yet refuse whatever its key may have been sent before. */
  async admitInbound(slot: number, key: Uint8Array, window: ReplayWindow): Promise<void> {
    const name = this.#file.nameOf('in', key);
    const used = Math.min(this.#file.markOf(name), window.limit);
    if (used > 0) window.acceptUpTo(used);
    const one = { name, window, mark: used, top: used, rate: 0 };
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
    if (sent !== undefined) this.#file.set(sent.name, sent.allocator.next() - 1);
    if (got !== undefined) this.#file.set(got.name, got.window.top());
    this.#outbound.delete(slot);
    this.#inbound.delete(slot);
    this.#gates[slot] = GATE_OPEN;
  }

  /** Raises the marks that traffic comes near to; at most one save is under way. */
  tick(): void {
    const raised: (() => void)[] = [];
    for (const [slot, one] of this.#outbound) {
      const mark = one.allocator.mark(this.#plan.ahead);
      if (this.#busy || mark <= one.mark || one.allocator.left() * 2 > this.#plan.ahead) continue;
      this.#file.set(one.name, mark);
      raised.push(() => this.#raise(slot, one, mark));
    }
    for (const [slot, one] of this.#inbound) {
      const top = one.window.top();
      one.rate = Math.max(top - one.top, one.rate * FADING);
      one.top = top;
      const mark = this.#markOf(one);
      if (this.#busy || mark <= one.mark || (one.mark - top) * 2 > mark - top) continue;
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
          if (!this.#failed) this.#trouble(error);
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
    await this.#save().catch(this.#trouble);
    this.#file.close();
  }

  /** A mark ends with a block. */
  #markOf({ window, rate }: Inbound): number {
    const least = window.top() + Math.max(this.#plan.margin, TICKS_AHEAD * rate);
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
    Atomics.store(this.#gates, slot, Math.ceil((mark + 1) / GATE_BLOCK) | 0);
  }

  #save(): Promise<void> {
    const next = this.#saving.then(() => this.#file.save());
    this.#saving = next.catch(() => undefined);
    return next;
  }
}
