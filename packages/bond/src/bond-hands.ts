/** The bond's hands: what a step means for the lowers, the handle table, the offload words and the workers. */
import { ESP_TRAITS, type LowerDevice, type OffloadTable, XfrmError } from '@espalier/xfrm';
import { type Hands, messageOf } from './execute.ts';
import type { Patience } from './patience.ts';
import { unfitFor } from './plan.ts';
import { Replica, type SaEntry, Unwanted } from './replica.ts';
import type { ReplicaTable } from './replicas.ts';
import { EVERY_SA } from './slave.ts';
import type { SnapshotPublisher } from './snapshot.ts';

export interface BondHandsOptions {
  readonly name: string;
  readonly snapshot: SnapshotPublisher;
  readonly table: ReplicaTable;
  readonly offloads: OffloadTable;
  readonly patience: Patience;
  readonly maxLowers: number;
  /** Bounds, milliseconds. */
  readonly addMs: number;
  readonly drainMs: number;
  readonly idle: () => Promise<void>;
  /** Closes a lower's sockets in every worker. */
  readonly closeSockets: ((lower: LowerDevice) => Promise<void>) | null;
  readonly lowerOf: (index: number) => LowerDevice | undefined;
  /** Whether the lower is about to be no slave any more: the others need their sockets. */
  readonly leaving: (lower: number) => boolean;
  readonly entryOf: (slot: number) => SaEntry | undefined;
  /** Why an SA should not be added to a lower any more, or null. */
  readonly unwanted: (entry: SaEntry, lower: number) => string | null;
  readonly report: (trouble: XfrmError) => void;
  /** An add (or features, EVERY_SA) that nobody waited for has been answered, and a handle that came so has been undone. */
  readonly lateAnswer: (slot: number, lower: number) => void;
  /** A handle that lingered has been freed. */
  readonly roomAgain: (lower: number) => void;
}

export class BondHands implements Hands {
  readonly #o: BondHandsOptions;
  /** Adds that somebody waits for. */
  readonly #adding: Map<Replica, (why: XfrmError) => void> = new Map();
  /** Places of adds that nobody waits for any more and that have not been answered. */
  readonly #orphans: Set<number> = new Set();
  /** Those where another add has been turned away since. */
  readonly #turnedAway: Set<number> = new Set();
  /** DELETED and about to be freed, by place. */
  readonly #deleted: Map<number, Replica> = new Map();
  /** DELETED, not freed in time: asked again at every tick. */
  readonly #lingering: Map<Replica, (() => boolean) | null> = new Map();

  constructor(options: BondHandsOptions) {
    this.#o = options;
  }

  async features(lower: number, wanted: number): Promise<void> {
    const device = this.#lower(lower);
    const asked = device.setFeatures(wanted);
    await this.#o.patience.bound(asked, this.#o.addMs, () => {
      asked.then(
        () => this.#o.lateAnswer(EVERY_SA, lower),
        () => undefined,
      );
      return late(device, 'setFeatures');
    });
  }

  async add(slot: number, lower: number): Promise<void> {
    const { entryOf, unwanted, patience, addMs } = this.#o;
    const entry = entryOf(slot);
    const device = this.#lower(lower);
    const why = entry === undefined ? 'the SA is gone' : unwanted(entry, lower);
    if (entry === undefined || why !== null) throw new Unwanted(why!);
    const lacking = unfitFor(entry.sa, device.xfrm!.traits ?? ESP_TRAITS);
    if (lacking !== null) throw new XfrmError({ code: 'UNSUPPORTED', device: device.name, what: lacking });
    const place = this.#place(slot, lower);
    if (this.#orphans.has(place)) {
      this.#turnedAway.add(place);
      throw new XfrmError({ code: 'BUSY', what: `${device.name} still owes an answer for an earlier add` });
    }
    const replica = new Replica(entry, device);
    entry.replicas.set(lower, replica);
    const limit = new AbortController();
    const giveUp = (error: XfrmError): void => {
      if (!replica.giveUp(error)) return;
      this.#orphans.add(place);
      limit.abort(error);
    };
    const done = patience.after(addMs, () => giveUp(late(device, 'stateAdd')));
    this.#adding.set(replica, giveUp);
    try {
      await replica.add(limit.signal, (orphan, failure, again) => this.#orphanGone(orphan, failure, again));
    } catch (error) {
      if (entry.replicas.get(lower) === replica) entry.replicas.delete(lower);
      throw error;
    } finally {
      done();
      this.#adding.delete(replica);
    }
  }

  /** An add that nobody waited for has ended; if it was answered by a handle, that is undone. */
  #orphanGone(orphan: Replica, failure: unknown, again: boolean): void {
    const { slot } = orphan.entry.sa;
    const place = this.#place(slot, orphan.lower.index);
    this.#orphans.delete(place);
    if (orphan.state === 'DELETED' || orphan.state === 'DRAINING') this.#linger(orphan, null);
    if (failure !== null) this.#o.report(trouble(orphan.lower, failure));
    // A lower that gave up when it was told to would do so again; others may do better now.
    if (this.#turnedAway.delete(place) || again) this.#o.lateAnswer(slot, orphan.lower.index);
  }

  /** Ends adds under way that nobody wants any more; their answers, should they come, are undone. */
  giveUp(): void {
    for (const [replica, giveUp] of [...this.#adding]) {
      const why = this.#o.unwanted(replica.entry, replica.lower.index);
      if (why !== null) giveUp(new Unwanted(why));
    }
  }

  hide(slot: number, lower: number): void {
    const { table, offloads } = this.#o;
    table.write(slot, lower, 0);
    if (offloads.device(slot) === lower) offloads.clear(slot);
    this.#replica(slot, lower).hide();
  }

  grace(): Promise<void> {
    return this.#o.snapshot.grace();
  }

  delete(slot: number, lower: number): void {
    const replica = this.#replica(slot, lower);
    replica.entry.replicas.delete(lower);
    const place = this.#place(slot, lower);
    // Added and deleted again before the one before it was out.
    const before = this.#deleted.get(place);
    if (before !== undefined) this.#linger(before, fenceOf(before.lower));
    this.#deleted.set(place, replica);
    replica.delete();
  }

  /**
   * Frames posted until now are waited for, up to the bound. Then the sockets of a lower that leaves the bond are closed, which
   * completes them; of one that stays a slave the handles linger.
   */
  async drain(lower: number): Promise<void> {
    const device = this.#lower(lower);
    const waiting = [...this.#deleted.values()].filter((r) => r.lower.index === lower && !r.drained);
    if (waiting.length === 0) return;
    const { idle, patience, drainMs, closeSockets } = this.#o;
    const fallen = fenceOf(device);
    let over = false;
    const done = patience.after(drainMs, () => {
      over = true;
    });
    while (!fallen() && !over) await idle();
    done();
    if (!fallen() && closeSockets !== null && this.#o.leaving(lower))
      await patience.bound(closeSockets(device), drainMs, () => late(device, 'closing its sockets')).catch(() => {});
    if (!fallen()) {
      for (const replica of waiting) this.#linger(replica, fallen);
      throw new XfrmError({ code: 'BUSY', what: `${device.name} does not complete what was posted on it` });
    }
    for (const replica of waiting) replica.drained = true;
  }

  async free(slot: number, lower: number): Promise<void> {
    const place = this.#place(slot, lower);
    const replica = this.#deleted.get(place);
    // It did not drain and waits its turn.
    if (replica === undefined) return;
    this.#deleted.delete(place);
    if (!replica.drained) {
      this.#linger(replica, fenceOf(replica.lower));
      throw new XfrmError({ code: 'BUSY', what: 'frames may be in flight' });
    }
    try {
      await this.#o.patience.bound(replica.free(), this.#o.drainMs, () => late(replica.lower, 'stateFree'));
    } catch (error) {
      this.#linger(replica, null);
      throw error;
    }
  }

  /** Handles that are deleted and could not be freed yet. */
  get lingering(): number {
    return this.#lingering.size;
  }

  /** What a worker that has exited had posted is done. */
  portGone(port: number): void {
    for (const { lower } of [...this.#lingering.keys(), ...this.#deleted.values()])
      if (port < lower.ports) lower.portGone?.(port);
  }

  /** Asks again for what could not be freed. */
  retry(): void {
    for (const [replica, fallen] of this.#lingering) {
      if (replica.state === 'FREED') this.#settled(replica);
      else if (!replica.freeing && (fallen === null || fallen()))
        replica.free().then(
          () => this.#settled(replica),
          () => undefined,
        );
    }
  }

  #settled(replica: Replica): void {
    if (this.#lingering.delete(replica)) this.#o.roomAgain(replica.lower.index);
  }

  #linger(replica: Replica, fallen: (() => boolean) | null): void {
    this.#deleted.delete(this.#place(replica.entry.sa.slot, replica.lower.index));
    this.#lingering.set(replica, fallen);
  }

  #replica(slot: number, lower: number): Replica {
    return this.#o.entryOf(slot)!.replicas.get(lower)!;
  }

  #lower(index: number): LowerDevice {
    const lower = this.#o.lowerOf(index);
    if (lower === undefined) throw new XfrmError({ code: 'NOT_FOUND', what: `${this.#o.name} has no lower ${index}` });
    return lower;
  }

  #place(slot: number, lower: number): number {
    return slot * this.#o.maxLowers + lower;
  }
}

function fenceOf(device: LowerDevice): () => boolean {
  return device.fence?.() ?? (() => device.inFlight() === 0);
}

function late(device: LowerDevice, what: string): XfrmError {
  return new XfrmError({ code: 'REFUSED', device: device.name, what: `it did not answer ${what} in time` });
}

function trouble(device: LowerDevice, error: unknown): XfrmError {
  return error instanceof XfrmError
    ? error
    : new XfrmError({ code: 'REFUSED', device: device.name, what: messageOf(error) });
}
