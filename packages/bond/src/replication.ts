/** What the actor does with the SAs: brings lowers, table, words and snapshot to what plan.ts says. */
import { type LowerDevice, XfrmError } from '@espalier/xfrm';
import { aggregatorId } from './aggregator.ts';
import { BondHands } from './bond-hands.ts';
import { carryOut, execute, messageOf, Refusal } from './execute.ts';
import { planFeatures } from './features.ts';
import type { LinkState } from './link.ts';
import { Membership, type MembershipOptions } from './membership.ts';
import { Patience } from './patience.ts';
import { keptOut, type Place, planAdd, planFree, planLeave, wantedReplicas, wantsReplicas } from './plan.ts';
import { Published, type PublishedOptions } from './published.ts';
import { type SaEntry, Unwanted } from './replica.ts';
import { EVERY_SA, type Slave } from './slave.ts';

export interface ReplicationOptions extends MembershipOptions, PublishedOptions {
  readonly name: string;
  readonly addMs: number;
  readonly drainMs: number;
  readonly closeSockets: ((lower: LowerDevice) => Promise<void>) | null;
  /** A late answer has changed what can be done. */
  readonly changed: () => void;
}

/** A slave as others may see it. */
export interface SlaveState {
  readonly name: string;
  readonly index: number;
  readonly usable: boolean;
  readonly link: LinkState;
  /** In the active aggregator; true in other modes. */
  readonly aggregated: boolean;
  readonly replicas: number;
  /** Why it is kept out of usable, or null. */
  readonly keptOut: string | null;
  /** SAs that are sealed in software because this slave could not take them. */
  readonly software: number;
}

export class Replication {
  readonly membership: Membership;
  readonly entries: Map<number, SaEntry> = new Map();
  readonly published: Published;
  readonly hands: BondHands;
  /** Nothing new is wanted. */
  closing = false;
  readonly #patience: Patience = new Patience();
  readonly #o: ReplicationOptions;
  /** The SA being added, and why not to go on with it. */
  #incoming: { readonly entry: SaEntry; readonly signal: AbortSignal | undefined } | null = null;
  /** Slots whose add was given up and answered all the same, while a join was still taking the others back. */
  readonly #answered: Set<number> = new Set();

  constructor(options: ReplicationOptions) {
    const { name, maxLowers, offloads, idle } = options;
    this.#o = options;
    this.membership = new Membership(options, {
      clear: () => this.published.clear(),
      now: () => this.#patience.now,
    });
    this.published = new Published(this.membership, this.entries, options);
    this.hands = new BondHands({
      name,
      snapshot: this.published.snapshot,
      table: this.published.table,
      offloads,
      patience: this.#patience,
      maxLowers,
      addMs: options.addMs,
      drainMs: options.drainMs,
      idle,
      closeSockets: options.closeSockets,
      lowerOf: (index) => this.membership.slave(index)?.lower,
      leaving: (index) => this.closing || this.membership.slave(index)?.leaving !== false,
      entryOf: (slot) => (this.#incoming?.entry.sa.slot === slot ? this.#incoming.entry : this.entries.get(slot)),
      unwanted: (entry, lower) => this.#unwanted(entry, lower),
      report: options.report,
      lateAnswer: (slot, lower) => {
        if (this.membership.slave(lower)?.refusals.delete(slot)) options.changed();
        else this.#answered.add(slot);
      },
      roomAgain: (lower) => {
        const refusals = this.membership.slave(lower)?.refusals;
        if (refusals === undefined || refusals.size === 0 || refusals.has(EVERY_SA)) return;
        refusals.clear();
        options.changed();
      },
    });
  }

  liveSlots(): number[] {
    return [...this.entries.values()].filter((entry) => !entry.dead).map((entry) => entry.sa.slot);
  }

  describe(): SlaveState[] {
    const facts = this.membership.facts();
    const now = this.published.snapshot.usable();
    const live = [...this.entries.values()];
    return this.membership.slaves.map((slave, i) => {
      const out = keptOut(facts, facts.slaves[i]!);
      const software = slave.refusals.has(EVERY_SA) ? this.entries.size : slave.refusals.size;
      return {
        name: slave.lower.name,
        index: slave.index,
        usable: now.includes(slave.index),
        link: slave.link.state,
        aggregated: this.membership.mode !== '802.3ad' || aggregatorId(facts.slaves[i]!) === this.membership.aggregator,
        replicas: live.filter((entry) => entry.replicas.has(slave.index)).length,
        keptOut: out ? slave.refusals.values().next().value! : null,
        software: this.membership.joinRefused === 'software' ? software : 0,
      };
    });
  }

  /** At once: what changed outside and takes something away. The rest is for `reconcile`. */
  event(): void {
    this.membership.revision++;
    this.membership.look();
    this.hands.giveUp();
    this.published.post(false);
  }

  /** HW_ESP goes off at once; `reconcile` flushes, then turns the slaves' bits off. */
  disable(): void {
    this.membership.turnOff();
    this.hands.giveUp();
  }

  /** HW_ESP is on from here: every candidate has every SA (see BondDevice.setFeatures). */
  async enable(wanted: number): Promise<void> {
    this.membership.turnOn(wanted);
    for (const entry of this.entries.values()) this.published.show(entry);
    // A slave that came up meanwhile has none: out of usable before anything can be hashed to it.
    if (this.published.post(true)) await this.published.snapshot.grace();
    this.published.writeWords();
  }

  /** Installs a new SA wherever it should be, all or nothing. Throws Refusal. */
  async install(entry: SaEntry, signal: AbortSignal | undefined): Promise<void> {
    const { slot } = entry.sa;
    const abort = (): void => this.hands.giveUp();
    this.#incoming = { entry, signal };
    signal?.addEventListener('abort', abort);
    try {
      for (;;) {
        const wanted = wantedReplicas(this.membership.facts());
        const extra = [...entry.replicas.keys()].filter((lower) => !wanted.includes(lower));
        await this.#takeBack(slot, extra);
        const missing = wanted.filter((lower) => !entry.replicas.has(lower));
        if (missing.length === 0 && extra.length === 0) break;
        await this.#addTo(entry, missing, signal);
      }
      // Nothing waits from here on: what was wanted a line ago is what there is.
      this.entries.set(slot, entry);
      this.published.show(entry);
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#incoming = null;
    }
    this.published.writeWords();
  }

  /** A transaction on these lowers; a lower that went away meanwhile does not count as refusing. */
  async #addTo(entry: SaEntry, lowers: readonly number[], signal: AbortSignal | undefined): Promise<void> {
    const had = [...entry.replicas.keys()];
    try {
      await execute(planAdd([entry.sa.slot], lowers), this.hands);
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal;
      if (refusal.cause instanceof Unwanted && !signal?.aborted && !this.closing) return;
      const failures = await this.#takeBack(entry.sa.slot, had.reverse());
      throw new Refusal(refusal.step, [...refusal.failures, ...failures], refusal.cause);
    }
  }

  /** Replicas that were never resolvable. */
  #takeBack(slot: number, lowers: readonly number[]): Promise<string[]> {
    return carryOut(
      lowers.flatMap((lower) => [{ op: 'delete', slot, lower } as const, { op: 'free', slot, lower } as const]),
      this.hands,
    );
  }

  /** The SA is dead at once: nothing resolves, adds under way are given up. */
  kill(entry: SaEntry): void {
    this.membership.revision++;
    entry.dead = true;
    this.#o.offloads.clear(entry.sa.slot);
    for (const lower of entry.replicas.keys()) this.published.table.write(entry.sa.slot, lower, 0);
    this.hands.giveUp();
  }

  /** Takes the replicas of a dead SA away and forgets it. */
  async bury(entry: SaEntry): Promise<void> {
    const { slot } = entry.sa;
    const places = [...entry.replicas.keys()].map((lower) => ({ slot, lower }));
    await this.#forward(planLeave(places));
    await this.#forward(planFree(places));
    this.entries.delete(slot);
    // Whoever could not take this SA may be able to take the others.
    let again = false;
    for (const slave of this.membership.slaves) again = slave.refusals.delete(slot) || again;
    if (again) await this.reconcile();
  }

  /** A slave goes: first its traffic, then its replicas, then what was pushed to it. */
  async dismiss(slave: Slave): Promise<void> {
    slave.unwatch();
    slave.leaving = true;
    this.event();
    await this.published.snapshot.grace();
    await this.reconcile();
    await this.#turnOff([slave]);
    this.membership.slaves.splice(this.membership.slaves.indexOf(slave), 1);
    slave.letGo();
    for (const entry of this.entries.values()) entry.withheld.delete(slave.index);
    this.membership.look();
  }

  /** Brings everything to what the facts call for, until they stand still. */
  async reconcile(): Promise<void> {
    let deleted: Place[] = [];
    for (let seen = -1; seen !== this.membership.revision; ) {
      seen = this.membership.revision;
      this.membership.look();
      await this.published.postWhenRoom();
      deleted.push(...(await this.#leave()));
      for (const lower of wantedReplicas(this.membership.facts())) {
        // A lower that comes back at once needs the room that its old handles still take; the others do not wait for it.
        await this.#forward(planFree(deleted.filter((place) => place.lower === lower)));
        deleted = deleted.filter((place) => place.lower !== lower);
        await this.#join(lower);
      }
      this.published.writeWords();
      await this.published.postWhenRoom();
    }
    await this.#forward(planFree(deleted));
    if (!this.membership.enabled) await this.#turnOff([...this.membership.slaves].reverse());
  }

  /** Replicas that should not be: from READY to DELETED. */
  async #leave(): Promise<Place[]> {
    const wanted = new Set(wantedReplicas(this.membership.facts()));
    const places: Place[] = [];
    for (const entry of this.entries.values())
      for (const lower of entry.replicas.keys())
        if (!wanted.has(lower) || entry.withheld.has(lower)) places.push({ slot: entry.sa.slot, lower });
    await this.#forward(planLeave(places));
    for (const slot of new Set(places.map((place) => place.slot))) this.published.veto(this.entries.get(slot));
    return places;
  }

  /** Gives a slave the features and every SA: all of them or, by default, none. */
  async #join(lower: number): Promise<void> {
    const slave = this.membership.slave(lower)!;
    this.#answered.clear();
    const lacking = [...this.entries.values()].filter(
      (e) => !e.dead && !e.withheld.has(lower) && !e.replicas.has(lower) && !slave.refusals.has(e.sa.slot),
    );
    const { features } = slave.lower;
    const steps = planFeatures(
      [{ lower, hw: features.hw, wanted: features.wanted, active: features.active }],
      this.membership.features.active,
    );
    const slots = lacking.map((entry) => entry.sa.slot);
    const whole = this.membership.joinsWhole();
    const batches = whole
      ? [[...steps, ...planAdd(slots, [lower])]]
      : [steps, ...slots.map((slot) => planAdd([slot], [lower]))];
    for (const batch of batches) {
      try {
        await execute(batch, this.hands);
      } catch (refusal) {
        if (!(refusal instanceof Refusal)) throw refusal;
        this.#joinRefused(slave, refusal);
        if (whole || !this.#stillJoins(slave)) return;
      }
    }
    this.membership.accept(slave);
    // Also what an earlier join had added when the slave went away for a moment.
    for (const entry of this.entries.values())
      if (entry.replicas.get(lower)?.shown === false) this.published.show(entry);
  }

  #joinRefused(slave: Slave, { step, failures, message, cause }: Refusal): void {
    // What has been left of it is looked at again.
    this.membership.revision++;
    const slot = step.op === 'add' ? step.slot : EVERY_SA;
    if (!(cause instanceof Unwanted) && this.#stillJoins(slave) && !this.#answered.has(slot))
      this.membership.refuse(slave, slot, message);
    for (const failure of failures) this.#report(failure);
  }

  #stillJoins(slave: Slave): boolean {
    return wantedReplicas(this.membership.facts()).includes(slave.index);
  }

  async #turnOff(slaves: readonly Slave[]): Promise<void> {
    const facts = slaves
      .filter((slave) => slave.lower.running)
      .map(({ index, lower }) => ({
        lower: index,
        hw: lower.features.hw,
        wanted: lower.features.wanted,
        active: lower.features.active,
      }));
    await this.#forward(planFeatures(facts, 0));
  }

  /** What must go on whatever becomes of it; what went wrong is reported. */
  async #forward(steps: Parameters<typeof carryOut>[0]): Promise<void> {
    if (steps.length === 0) return;
    for (const failure of await carryOut(steps, this.hands)) this.#report(failure);
  }

  #report(what: string): void {
    this.#o.report(new XfrmError({ code: 'REFUSED', device: this.#o.name, what }));
  }

  /** Tells every replica the window's left edge, where it has crossed a multiple of 2^31. */
  tell(entry: SaEntry): void {
    for (const replica of entry.replicas.values()) {
      if (replica.state !== 'READY') continue;
      try {
        replica.tell();
      } catch (error) {
        this.#report(`advanceEsn on ${replica.lower.name}: ${messageOf(error)}`);
      }
    }
  }

  /** Whether a link's delay is over. */
  tick(ms: number): boolean {
    this.#patience.tick(ms);
    for (const { lower } of this.membership.slaves) lower.recheck?.();
    for (const entry of this.entries.values()) if (entry.sa.esn && entry.sa.bottom) this.tell(entry);
    this.hands.retry();
    return this.membership.slaves.some(
      ({ link }) => (link.state === 'fail' || link.state === 'back') && link.due <= this.#patience.now,
    );
  }

  workerGone(worker: number): void {
    this.published.snapshot.workerGone(worker);
    for (const { lower } of this.membership.slaves) if (worker < lower.ports) lower.portGone?.(worker);
    this.hands.portGone(worker);
  }

  #unwanted(entry: SaEntry, lower: number): string | null {
    if (entry.dead) return 'the SA is gone';
    if (this.closing) return `${this.#o.name} is closing`;
    if (this.#incoming?.entry === entry && this.#incoming.signal?.aborted) return 'it was aborted';
    const slave = this.membership.slave(lower);
    if (slave !== undefined && wantsReplicas(this.membership, slave.facts())) return null;
    return `${slave?.lower.name ?? lower} is gone`;
  }
}
