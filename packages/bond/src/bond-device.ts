/**
 * The bond, control half. One actor: operations run one after another in one queue, each brings the world to what plan.ts
 * says it should be, in an order that leaves no moment in which a packet could leave through a lower without a handle:
 *
 *   joining   stateAdd on the lower -> READY -> handle into the table -> then into usable
 *   leaving   out of usable -> grace -> out of the table -> grace -> stateDelete -> last frame out -> stateFree
 *
 * What a link event takes away takes effect at once, before the queue: usable is posted without that slave.
 */
import {
  type FeatureSet,
  featureNames,
  type LinkType,
  type LowerDevice,
  type LowerHandle,
  type OffloadTable,
  type Sa,
  type SaStats,
  XfrmError,
  type XfrmUpper,
} from '@espalier/xfrm';
import { Actor } from './actor.ts';
import { AD_SELECTS, type AdSelect, type Partner } from './aggregator.ts';
import { type BondOptions, completeOptions, demandOneOf } from './bond-options.ts';
import type { BondTicket } from './bond-port.ts';
import { demandEnslavable } from './enslavable.ts';
import { execute, Refusal } from './execute.ts';
import { featureNonsense, planFeatures } from './features.ts';
import type { Membership } from './membership.ts';
import { BOND_MODES, type BondMode, planAdd, replicates } from './plan.ts';
import { type ReplicaStats, SaEntry, Unwanted } from './replica.ts';
import { Replication, type SlaveState } from './replication.ts';
import { featureFacts, Slave } from './slave.ts';
import { XMIT_HASH_POLICIES, type XmitHashPolicy } from './xmit-hash.ts';

export class BondDevice implements XfrmUpper {
  readonly name: string;
  readonly index: number;
  readonly lowerHandle = false;
  readonly offloads: OffloadTable;
  readonly #replication: Replication;
  readonly #membership: Membership;
  readonly #policyWord: Int32Array = new Int32Array(new SharedArrayBuffer(4));
  readonly #resilient: boolean;
  readonly #maxLowers: number;
  readonly #maxSas: number;
  readonly #actor: Actor = new Actor();
  #closed = false;

  /** Throws TypeError or RangeError on options that make no sense. */
  constructor(options: BondOptions) {
    const full = completeOptions(options);
    this.name = full.name;
    this.index = full.index;
    this.offloads = full.offloads;
    this.#maxLowers = full.maxLowers;
    this.#resilient = full.resilient;
    this.#maxSas = full.maxSas;
    this.#replication = new Replication({
      ...full,
      policy: full.xmitHashPolicy,
      delays: { up: full.upDelay, down: full.downDelay },
      addMs: full.addTimeout,
      drainMs: full.drainTimeout,
      changed: () => this.#event(),
    });
    this.#membership = this.#replication.membership;
    this.#policyWord[0] = XMIT_HASH_POLICIES.indexOf(full.xmitHashPolicy);
  }

  get mode(): BondMode {
    return this.#membership.mode;
  }

  get xmitHashPolicy(): XmitHashPolicy {
    return this.#membership.policy;
  }

  get features(): FeatureSet {
    return this.#membership.features;
  }

  /** 802.3ad: the aggregator that carries the traffic; null = none, or another mode. */
  get activeAggregator(): string | null {
    return this.#membership.mode === '802.3ad' ? this.#membership.aggregator : null;
  }

  get linkType(): LinkType | null {
    return this.#membership.slaves[0]?.lower.linkType ?? null;
  }

  /** The least over all slaves, bytes; 0 without slaves. */
  get mtu(): number {
    const { slaves } = this.#membership;
    return slaves.length === 0 ? 0 : Math.min(...slaves.map((s) => s.lower.mtu));
  }

  /** Whether mode and policy are those for replicated SAs. */
  get replicates(): boolean {
    return replicates(this.#membership.mode, this.#membership.policy);
  }

  /** Handles that are deleted and not freed yet, because frames under them or the lower itself are stuck; tried at every tick. */
  get lingering(): number {
    return this.#replication.hands.lingering;
  }

  /** How often the control thread was asked to resolve. */
  get asked(): number {
    return this.#replication.published.table.asked;
  }

  /** For workers. */
  ticket(): BondTicket {
    return {
      snapshot: this.#replication.published.snapshot.ticket,
      replicas: this.#replication.published.table.ticket,
      policy: this.#policyWord.buffer as SharedArrayBuffer,
      resilient: this.#resilient,
    };
  }

  /** Slaves in enslave order. */
  slaves(): SlaveState[] {
    return this.#replication.describe();
  }

  /** Resolves when everything asked for so far, link events included, has been done. */
  settled(): Promise<void> {
    return this.#actor.settled();
  }

  /** Puts a lower last. Throws XfrmError: EXISTS (a slave already, of any bond), UNSUPPORTED (a bond, another link type), NO_SPACE, ROLLED_BACK (joinRefused), CLOSED. */
  enslave(lower: LowerDevice): Promise<void> {
    return this.#run(async () => {
      demandEnslavable(lower, this.name, this.#membership.slaves, this.#maxLowers);
      const slave = new Slave(lower);
      slave.hold(() => this.#event());
      this.#membership.slaves.push(slave);
      await this.#replication.reconcile();
      const [why] = slave.refusals.values();
      if (why === undefined || this.#membership.joinRefused !== 'refuse' || this.#membership.mode === 'active-backup')
        return;
      await this.#replication.dismiss(slave);
      throw new XfrmError({ code: 'ROLLED_BACK', slave: lower.name, what: why });
    });
  }

  /** Takes a lower out: its replicas go first. Throws XfrmError NOT_FOUND. */
  release(lower: LowerDevice): Promise<void> {
    return this.#run(async () => this.#replication.dismiss(this.#slaveOf(lower)));
  }

  /** Between active-backup and the others the replicas are flushed and HW_ESP goes off; the SAs stay known. */
  setMode(mode: BondMode): Promise<void> {
    return this.#run(async () => {
      demandOneOf('mode', BOND_MODES, mode);
      if (mode === this.#membership.mode) return;
      if (mode === 'active-backup' || this.#membership.mode === 'active-backup') {
        // Handles of one kind of mode mean nothing in the other.
        this.#replication.disable();
        await this.#replication.reconcile();
      }
      this.#membership.mode = mode;
      await this.#replication.reconcile();
    });
  }

  /** Leaving layer3+4 flushes the replicas, and HW_ESP goes off; the SAs stay known. */
  setXmitHashPolicy(policy: XmitHashPolicy): Promise<void> {
    return this.#run(async () => {
      demandOneOf('policy', XMIT_HASH_POLICIES, policy);
      this.#membership.policy = policy;
      await this.#replication.reconcile();
      Atomics.store(this.#policyWord, 0, XMIT_HASH_POLICIES.indexOf(policy));
    });
  }

  /** 802.3ad: how aggregators are chosen from now on. */
  setAdSelect(select: AdSelect): void {
    demandOneOf('select', AD_SELECTS, select);
    this.#membership.adSelect = select;
    this.#event();
  }

  /** What LACP has found behind a slave; undefined = LACP is not spoken there. Throws XfrmError NOT_FOUND. */
  setPartner(lower: LowerDevice, partner: Partner | null | undefined): void {
    this.#slaveOf(lower).partner = partner;
    this.#event();
  }

  /**
   * Asks for a set of Feature: pushed to the slaves in order, then every known SA installed, all or nothing. 0 flushes
   * first. Throws XfrmError UNSUPPORTED (nonsense, or not advertised) or ROLLED_BACK (a slave refused; all is as it was).
   */
  setFeatures(wanted: number): Promise<number> {
    return this.#run(async () => {
      const nonsense = featureNonsense(wanted);
      if (nonsense !== null) throw new XfrmError({ code: 'UNSUPPORTED', device: this.name, what: nonsense });
      if (wanted === 0) {
        this.#replication.disable();
        await this.#replication.reconcile();
        return 0;
      }
      this.#membership.look();
      const missing = wanted & ~this.#membership.features.hw;
      if (missing !== 0) {
        const why = this.#membership.whyNot();
        const what = `${featureNames(missing).join(', ')} now${why === '' ? '' : `: ${why}`}`;
        throw new XfrmError({ code: 'UNSUPPORTED', device: this.name, what });
      }
      if (this.#membership.enabled) await this.#change(wanted);
      else await this.#enable(wanted);
      await this.#replication.reconcile();
      return this.#membership.features.active;
    });
  }

  /** Optional bits while HW_ESP stays on. */
  async #change(wanted: number): Promise<void> {
    await this.#transact(() => planFeatures(this.#membership.members().map(featureFacts), wanted));
    this.#membership.features = { hw: this.#membership.features.hw, wanted, active: wanted };
  }

  async #enable(wanted: number): Promise<void> {
    await this.#transact(() => [
      ...planFeatures(this.#membership.candidates().map(featureFacts), wanted),
      ...planAdd(this.#replication.liveSlots(), this.#membership.wantedIfEnabled()),
    ]);
    await this.#replication.enable(wanted);
  }

  /** A transaction, planned anew when the world changed under it. Throws XfrmError ROLLED_BACK. */
  async #transact(plan: () => ReturnType<typeof planAdd>): Promise<void> {
    for (;;) {
      try {
        return await execute(plan(), this.#replication.hands);
      } catch (refusal) {
        if (!(refusal instanceof Refusal) || !('lower' in refusal.step)) throw refusal;
        if (refusal.cause instanceof Unwanted && !this.#closed) continue;
        throw this.#rolledBack(refusal.step.lower, refusal, refusal.failures);
      }
    }
  }

  /**
   * Installs an SA on every slave that should have it, all or nothing. Resolves to the bond's own handle. Throws XfrmError
   * UNSUPPORTED (off, or type packet), EXISTS, ABORTED (`signal`), ROLLED_BACK (which slave, why, what failed while undoing).
   */
  stateAdd(sa: Sa, signal?: AbortSignal): Promise<LowerHandle> {
    return this.#run(async () => {
      if (!Number.isInteger(sa.slot) || sa.slot < 0 || sa.slot >= this.#maxSas)
        throw new RangeError(`slot ${sa.slot} is not below ${this.#maxSas}`);
      const unsupported = (what: string): XfrmError => new XfrmError({ code: 'UNSUPPORTED', device: this.name, what });
      if (sa.offload?.type === 'packet')
        throw unsupported('offload type packet: number and window would live in one slave');
      if (!this.#membership.enabled) throw unsupported('ESP offload while HW_ESP is off');
      if (this.#replication.entries.has(sa.slot))
        throw new XfrmError({ code: 'EXISTS', what: `slot ${sa.slot} is on ${this.name} already` });
      const entry = new SaEntry(sa);
      try {
        await this.#replication.install(entry, signal);
      } catch (error) {
        if (!(error instanceof Refusal) || !('lower' in error.step)) throw error;
        if (signal?.aborted) throw new XfrmError({ code: 'ABORTED', what: `the add to ${this.name} was aborted` });
        throw this.#rolledBack(error.step.lower, error, error.failures);
      }
      return sa.slot + 1;
    });
  }

  /** At once: nothing resolves, adds under way end. Throws XfrmError CLOSED when it was deleted already. */
  stateDelete(handle: LowerHandle): void {
    const entry = this.#entry(handle);
    if (entry.dead) throw new XfrmError({ code: 'CLOSED', what: `SA in slot ${entry.sa.slot} is deleted already` });
    this.#replication.kill(entry);
  }

  /** Resolves when its replicas are gone; what a lower could not free yet is lingering. Throws XfrmError BUSY before stateDelete. */
  stateFree(handle: LowerHandle): Promise<void> {
    return this.#run(async () => {
      const entry = this.#entry(handle);
      if (!entry.dead) throw new XfrmError({ code: 'BUSY', what: `SA in slot ${entry.sa.slot} is not deleted` });
      await this.#replication.bury(entry);
    });
  }

  /** Reaches every replica that has not been told, and later ones before they are READY. Absolute, monotone, idempotent. */
  advanceEsn(handle: LowerHandle, bottom: number): void {
    const entry = this.#entry(handle);
    entry.raise(bottom);
    this.#replication.tell(entry);
  }

  /** Over all lowers and workers, since the add; never goes back. */
  updateStats(handle: LowerHandle, into: SaStats): void {
    this.#entry(handle).readStats(into);
  }

  /** The same taken apart. */
  replicaStats(handle: LowerHandle): ReplicaStats[] {
    return this.#entry(handle).replicaStats();
  }

  /** Every lower that holds the SA must take it. For workers: `OffloadTable.fits`. */
  offloadOk(sa: Sa, length: number, l3Flags: number): boolean {
    const entry = this.#replication.entries.get(sa.slot);
    if (!entry || entry.dead || entry.replicas.size === 0) return false;
    return [...entry.replicas.values()].every(({ lower }) => lower.xfrm!.offloadOk(sa, length, l3Flags));
  }

  stateLowerHandle(saSlot: number, lowerIndex: number): LowerHandle {
    return this.#replication.published.table.stateLowerHandle(saSlot, lowerIndex);
  }

  /**
   * Takes one replica away while its slave stays usable: what is hashed there is dropped with NO_LOWER_HANDLE until
   * `restore`. For tests and for seeing that no handle means no packet. Throws XfrmError NOT_FOUND.
   */
  withdraw(saSlot: number, lowerIndex: number): Promise<void> {
    return this.#run(async () => {
      const entry = this.#replication.entries.get(saSlot);
      if (!entry?.replicas.has(lowerIndex))
        throw new XfrmError({ code: 'NOT_FOUND', what: `slot ${saSlot} has no replica on lower ${lowerIndex}` });
      entry.withheld.add(lowerIndex);
      await this.#replication.reconcile();
    });
  }

  /** Undoes `withdraw`. */
  restore(saSlot: number, lowerIndex: number): Promise<void> {
    return this.#run(async () => {
      if (!this.#replication.entries.get(saSlot)?.withheld.delete(lowerIndex))
        throw new XfrmError({ code: 'NOT_FOUND', what: `slot ${saSlot} has nothing withdrawn on lower ${lowerIndex}` });
      await this.#replication.reconcile();
    });
  }

  /** Time passes: drives up and down delays, bounds on lowers, ESN, and what lingers. Milliseconds, never going back. */
  tick(nowMs: number): void {
    if (this.#replication.tick(nowMs)) this.#event();
  }

  /** A worker's thread has exited (its exit event) and its sockets are closed; nothing waits for it any more. */
  workerGone(worker: number): void {
    this.#replication.workerGone(worker);
  }

  /** A new thread is about to take a gone worker's place. */
  workerBack(worker: number): void {
    this.#replication.published.snapshot.workerBack(worker);
  }

  /** Releases every slave. Keep ticking until it resolves: a lower that is stuck is waited for no longer than its bounds. */
  async close(): Promise<void> {
    if (this.#closed) return this.settled();
    const done = this.#run(async () => {
      for (const slave of [...this.#membership.slaves]) await this.#replication.dismiss(slave);
      await this.#replication.published.snapshot.publish([]);
      this.#replication.entries.clear();
    });
    this.#closed = true;
    this.#replication.closing = true;
    this.#replication.disable();
    await done;
  }

  /** Something changed outside: what it takes away goes at once, the rest through the queue. */
  #event(): void {
    if (this.#closed) return;
    this.#replication.event();
    this.#actor.soon(() => this.#replication.reconcile());
  }

  #run<T>(step: () => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new XfrmError({ code: 'CLOSED', what: `${this.name} is closed` }));
    return this.#actor.run(step);
  }

  #rolledBack(lower: number, cause: Error, failures: readonly string[]): XfrmError {
    const slave = this.#membership.slaves.find((s) => s.index === lower)?.lower.name ?? `lower ${lower}`;
    return new XfrmError({ code: 'ROLLED_BACK', slave, what: cause.message, failures }, { cause: cause.cause });
  }

  #slaveOf(lower: LowerDevice): Slave {
    const slave = this.#membership.slaves.find((s) => s.lower === lower);
    if (!slave) throw new XfrmError({ code: 'NOT_FOUND', what: `${lower.name} is no slave of ${this.name}` });
    return slave;
  }

  #entry(handle: LowerHandle): SaEntry {
    const entry = this.#replication.entries.get(handle - 1);
    if (!entry) throw new XfrmError({ code: 'NOT_FOUND', what: `${this.name} has no state 0x${handle.toString(16)}` });
    return entry;
  }
}
