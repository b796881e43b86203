/** The SAs of a running gateway: what each has in shared memory, on the workers and on the bond, made and unmade as one. */
import { createHmac, randomBytes } from 'node:crypto';
import type { BondDevice } from '@espalier/bond';
import { type PathMtu, SaStat } from '@espalier/esp';
import { Arena, Lifetime, LifetimeEvent, ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { ALGORITHMS, type LowerHandle, Sad, SaKey, XfrmError } from '@espalier/xfrm';
import { attempt } from './attempt.ts';
import { type Before, beginLifetime, NEWBORN } from './lifetimes.ts';
import type { Marks } from './marks.ts';
import { saColumn } from './messages.ts';
import { MAX_SAS, type SaPlan } from './plan.ts';
import type { Workers } from './workers.ts';

const ARENA_BYTES = 64 << 20;

/** An SA that is installed. */
export interface SaState {
  readonly plan: SaPlan;
  readonly slot: number;
  /** Milliseconds on the gateway's clock when its key came into use: in this process, or before as the state has it. */
  readonly since: number;
  /** What it had lived through then. */
  readonly before: Before;
  /** Inbound. */
  readonly window: ReplayWindow | null;
  /** Outbound. */
  readonly allocator: SequenceAllocator | null;
  readonly lifetime: Lifetime | null;
  /** The bond's, or 0 when it is not offloaded. */
  readonly handle: LowerHandle;
}

interface Entry extends SaState {
  readonly key: SaKey;
  readonly places: readonly Place[];
  /** Whichever soft limit comes first is told. */
  softTold: boolean;
}

interface Place {
  readonly offset: number;
  readonly bytes: number;
}

export interface SasOptions {
  readonly bond: BondDevice;
  readonly workers: Workers;
  readonly pathMtu: PathMtu;
  /** What outlives the process; null = nothing does. */
  readonly marks: () => Marks | null;
  readonly now: () => number;
  /** Ethernet header of what is sent, or null. */
  readonly link: () => Uint8Array | null;
  /** Bytes of the largest outer packet. */
  readonly mtu: () => number;
}

/** Undoes what was done, last first. */
type Undo = (() => void | Promise<void>)[];

export class Sas {
  readonly #o: SasOptions;
  readonly #sad: Sad = new Sad(MAX_SAS);
  readonly #arena: Arena = Arena.create(ARENA_BYTES);
  readonly #entries: Map<string, Entry> = new Map();
  /** Prints of every key that has been in use: one key has one SA, ever, or its numbers would be used twice. */
  readonly #keyPrints: Set<string> = new Set();
  readonly #printSalt: Uint8Array = randomBytes(16);

  constructor(options: SasOptions) {
    this.#o = options;
  }

  /** In the order of their installation. */
  all(): SaState[] {
    return [...this.#entries.values()];
  }

  /** Throws XfrmError NOT_FOUND. */
  get(name: string): SaState {
    return this.#entry(name);
  }

  /** Name of the SA in a slot; null when there is none. */
  nameOf(slot: number): string | null {
    for (const [name, entry] of this.#entries) if (entry.slot === slot) return name;
    return null;
  }

  /** Packets that went through it, all workers together. */
  packets(name: string): number {
    return this.#o.workers.total(saColumn(this.#entry(name).slot) + SaStat.PACKETS);
  }

  /**
   * Installs an SA everywhere; the bond's slaves last. Rejects and leaves nothing behind: XfrmError EXISTS (name, SPI, or a
   * key that is or was another SA's), NO_SPACE, or what a slave said.
   */
  async add(plan: SaPlan): Promise<SaState> {
    if (this.#entries.has(plan.name)) throw new XfrmError({ code: 'EXISTS', what: `there is an SA "${plan.name}"` });
    const undo: Undo = [];
    try {
      const entry = await this.#install(plan, undo);
      this.#entries.set(plan.name, entry);
      return entry;
    } catch (error) {
      // Each step whatever has become of the others, and the first error is the one that tells.
      for (const step of undo.reverse()) await attempt(step);
      throw error;
    }
  }

  /**
   * Takes an SA away: off the slaves, then off the workers, then its memory; its key is wiped. Throws XfrmError NOT_FOUND, or
   * what a slave or a worker said: the SA is gone all the same.
   */
  async remove(name: string): Promise<void> {
    const entry = this.#entry(name);
    this.#entries.delete(name);
    try {
      await this.#offBond(entry.handle);
    } finally {
      await this.#o.workers.tellAll({ type: 'remove', slot: entry.slot }).finally(() => this.#forget(entry));
    }
  }

  #forget({ plan, slot, key, places, window, allocator }: Entry): void {
    key.wipe();
    this.#o.workers.clear(saColumn(slot), SaStat.COLUMNS);
    this.#o.pathMtu.forget(slot);
    this.#o.marks()?.leave(slot);
    this.#sad.remove(slot);
    // A key that has carried nothing is as good as new.
    if ((allocator?.next() ?? 1) === 1 && (window?.top() ?? 0) === 0) this.#keyPrints.delete(this.#keyPrint(plan.key));
    for (const { offset, bytes } of places) this.#arena.release(offset, bytes);
  }

  /** Ends what time has ended; calls `tell` for each limit that was met, once. */
  tick(tell: (sa: string, limit: 'soft' | 'hard') => void): void {
    const now = this.#o.now();
    for (const [name, entry] of this.#entries) {
      const { plan, since, lifetime, allocator } = entry;
      const { softSeconds = Infinity, hardSeconds = Infinity } = plan.lifetime ?? {};
      if (now - since >= softSeconds * 1000) lifetime?.expire(LifetimeEvent.SOFT);
      if (now - since >= hardSeconds * 1000) lifetime?.expire(LifetimeEvent.HARD);
      const events = lifetime?.events() ?? 0;
      const numbers = allocator !== null && allocator.next() > allocator.soft;
      if (!entry.softTold && (numbers || (events & LifetimeEvent.SOFT) !== 0)) {
        entry.softTold = true;
        tell(name, 'soft');
      }
      if ((events & LifetimeEvent.HARD) !== 0) tell(name, 'hard');
    }
  }

  /** Off the bond, when the workers are gone; then every key is wiped. */
  async stop(): Promise<void> {
    const failures: unknown[] = [];
    for (const { handle } of this.#entries.values()) await attempt(() => this.#offBond(handle), failures);
    for (const { key } of this.#entries.values()) key.wipe();
    if (failures.length > 0) throw failures[0];
  }

  async #install(plan: SaPlan, undo: Undo): Promise<Entry> {
    const { bond, workers } = this.#o;
    const { direction, mode = 'tunnel', spi, source, destination, algorithm, esn, offload, encap = null } = plan;
    const keyPrint = this.#keyPrint(plan.key);
    if (this.#keyPrints.has(keyPrint))
      throw new XfrmError({ code: 'EXISTS', what: `the key of SA "${plan.name}" is or was that of another SA` });
    this.#keyPrints.add(keyPrint);
    // A key that an inbound SA has taken a packet under is used, even if the SA came to nothing.
    let used = false;
    undo.push(() => void (used || this.#keyPrints.delete(keyPrint)));
    const key = SaKey.import(algorithm, plan.key);
    undo.push(() => key.wipe());
    const { icvLength } = ALGORITHMS[algorithm];
    const identity = { spi, source, destination, mode, algorithm, icvLength, esn, encap };
    const sa = this.#sad.add({
      ...identity,
      direction,
      key,
      offload: offload === 'none' ? null : { type: 'crypto', device: bond },
    });
    const { slot } = sa;
    undo.push(() => void this.#sad.remove(slot));
    const places: Place[] = [];
    undo.push(() => {
      for (const { offset, bytes } of places) this.#arena.release(offset, bytes);
    });
    const { memory } = this.#arena;
    const place = (bytes: number): number => {
      const offset = this.#arena.allocate(bytes);
      if (offset < 0) throw new XfrmError({ code: 'NO_SPACE', what: 'no room for another SA in the arena' });
      places.push({ offset, bytes });
      return offset;
    };
    const marks = this.#o.marks();
    const before = marks?.before(direction, plan.key) ?? NEWBORN;
    const since = this.#o.now() - before.age;
    const lifetime =
      plan.lifetime === undefined
        ? null
        : beginLifetime(plan.lifetime, before, { memory, offset: place(Lifetime.byteLength()) });
    const living = lifetime === null ? null : { lifetime, before, since };
    const common = {
      ...identity,
      slot,
      key: key.share(),
      ...(lifetime === null ? {} : { lifetime: { memory, offset: lifetime.offset } }),
    };
    let window: ReplayWindow | null = null;
    let allocator: SequenceAllocator | null = null;
    undo.push(() => marks?.leave(slot));
    let admitted = Infinity;
    undo.push(async () => {
      await attempt(() => workers.tellAll({ type: 'remove', slot }));
      used = (window?.top() ?? 0) > admitted;
      // What the slot has counted is no evidence for the next SA in it.
      workers.clear(saColumn(slot), SaStat.COLUMNS);
      this.#o.pathMtu.forget(slot);
    });
    if (direction === 'in') {
      const options = { size: plan.window, esn, workers: workers.count };
      window = ReplayWindow.create({ ...options, memory, offset: place(ReplayWindow.byteLength(options)) });
      await marks?.admitInbound(slot, plan.key, window, living);
      admitted = window.top();
      const { selectors, mss, original, checkPadding } = plan;
      await workers.tellAll({
        type: 'add-in',
        ticket: {
          ...common,
          window: { memory, offset: window.offset },
          ...(selectors === undefined ? {} : { selectors }),
          ...(original === undefined ? {} : { original }),
          ...(checkPadding === undefined ? {} : { checkPadding }),
          ...(typeof mss === 'number' ? { mss } : {}),
        },
      });
    } else {
      const marked = marks !== null;
      allocator = SequenceAllocator.create({ esn, marked, memory, offset: place(SequenceAllocator.byteLength()) });
      await marks?.admitOutbound(slot, plan.key, allocator, living);
      const { noHandle, spread, mss, tfc, outer, portEntropy } = plan;
      await workers.tellAll({
        type: 'add-out',
        ticket: {
          ...common,
          allocator: { memory, offset: allocator.offset },
          offload: offload === 'crypto',
          noHandle,
          ...outer,
          ...(portEntropy === undefined ? {} : { portEntropy }),
          ...(spread === undefined ? {} : { spread }),
          ...(mss === undefined ? {} : { mss }),
          ...(tfc === undefined ? {} : { tfc }),
          link: this.#o.link(),
          mtu: this.#o.mtu(),
        },
      });
    }
    // Lowers with ESN state of their own are told where the window is.
    const offloaded = window === null ? sa : { ...sa, bottom: () => window.bottom() };
    const handle = offload === 'crypto' ? await bond.stateAdd(offloaded) : 0;
    return { plan, slot, since, before, window, allocator, lifetime, handle, key, places, softTold: false };
  }

  async #offBond(handle: LowerHandle): Promise<void> {
    if (handle === 0) return;
    this.#o.bond.stateDelete(handle);
    await this.#o.bond.stateFree(handle);
  }

  #keyPrint(key: Uint8Array): string {
    return createHmac('sha256', this.#printSalt).update(key).digest('base64');
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw new XfrmError({ code: 'NOT_FOUND', what: `no SA "${name}"` });
    return entry;
  }
}
