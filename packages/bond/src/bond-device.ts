/**
 * The bond, control half. One actor: operations run one after another in one queue, each brings the world to what plan.ts
 * says it should be, in an order that leaves no moment in which a packet could leave through a lower without a handle:
 *
 *   joining   stateAdd on the lower -> handle into the table -> then into usable
 *   leaving   out of usable -> grace -> handle out of the table -> grace -> stateDelete -> last frame out -> stateFree
 */
import {
  Feature,
  type FeatureSet,
  featureNames,
  fixFeatures,
  type LinkType,
  type LowerDevice,
  type LowerHandle,
  type OffloadTable,
  type Sa,
  type SaStats,
  XfrmError,
  type XfrmUpper,
} from '@espalier/xfrm';
import type { BondTicket } from './bond-port.ts';
import { activeSlave, advertised, type BondMode, replicates, type SlaveFacts, usable, wantedReplicas } from './plan.ts';
import { ReplicaTable } from './replicas.ts';
import { SnapshotPublisher } from './snapshot.ts';
import { XMIT_HASH_POLICIES, type XmitHashPolicy } from './xmit-hash.ts';

export interface BondOptions {
  readonly name: string;
  readonly index: number;
  readonly mode: BondMode;
  readonly xmitHashPolicy?: XmitHashPolicy;
  /** SA slots are below this. */
  readonly maxSas: number;
  /** Lower indices are below this. */
  readonly maxLowers: number;
  readonly workers: number;
  readonly offloads: OffloadTable;
  /** How to let workers move while the actor waits for grace or for frames in flight; the bond has no timer of its own. */
  readonly idle?: () => Promise<void>;
}

interface Slave {
  readonly lower: LowerDevice;
  readonly unwatch: () => void;
  keptOut: boolean;
  /** Why it is kept out. */
  reason: string;
}

/** An SA the bond answers for, with its replicas: lower index -> handle. */
interface Entry {
  readonly sa: Sa;
  readonly replicas: Map<number, LowerHandle>;
  /** Lowers whose replica was withdrawn by hand. */
  readonly withheld: Set<number>;
  dead: boolean;
}

/** A slave as others may see it. */
export interface SlaveState {
  readonly name: string;
  readonly index: number;
  readonly usable: boolean;
  readonly replicas: number;
  readonly keptOut: string | null;
}

export class BondDevice implements XfrmUpper {
  readonly name: string;
  readonly index: number;
  readonly lowerHandle = false;
  readonly offloads: OffloadTable;
  readonly #slaves: Slave[] = [];
  readonly #entries: Map<number, Entry> = new Map();
  readonly #replicas: ReplicaTable;
  readonly #snapshot: SnapshotPublisher;
  readonly #policyWord: Int32Array = new Int32Array(new SharedArrayBuffer(4));
  readonly #maxLowers: number;
  readonly #idle: () => Promise<void>;
  #mode: BondMode;
  #policy: XmitHashPolicy;
  #active = -1;
  #features: FeatureSet = { hw: 0, wanted: 0, active: 0 };
  #queue: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(options: BondOptions) {
    const { name, index, mode, xmitHashPolicy = 'layer2', maxSas, maxLowers, workers, offloads, idle } = options;
    this.name = name;
    this.index = index;
    this.offloads = offloads;
    this.#mode = mode;
    this.#policy = xmitHashPolicy;
    this.#maxLowers = maxLowers;
    this.#idle = idle ?? (() => Promise.resolve());
    this.#replicas = ReplicaTable.create(maxSas, maxLowers);
    this.#snapshot = new SnapshotPublisher(workers, maxLowers, this.#idle);
    this.#policyWord[0] = XMIT_HASH_POLICIES.indexOf(xmitHashPolicy);
  }

  get mode(): BondMode {
    return this.#mode;
  }

  get xmitHashPolicy(): XmitHashPolicy {
    return this.#policy;
  }

  get features(): FeatureSet {
    return this.#features;
  }

  get linkType(): LinkType | null {
    return this.#slaves[0]?.lower.linkType ?? null;
  }

  /** The least over all slaves, bytes; 0 without slaves. */
  get mtu(): number {
    return this.#slaves.length === 0 ? 0 : Math.min(...this.#slaves.map((s) => s.lower.mtu));
  }

  /** For workers. */
  ticket(): BondTicket {
    return {
      snapshot: this.#snapshot.ticket,
      replicas: this.#replicas.ticket,
      policy: this.#policyWord.buffer as SharedArrayBuffer,
    };
  }

  /** Slaves in enslave order. */
  slaves(): SlaveState[] {
    const now = this.#snapshot.usable();
    return this.#slaves.map(({ lower, keptOut, reason }) => ({
      name: lower.name,
      index: lower.index,
      usable: now.includes(lower.index),
      replicas: [...this.#entries.values()].filter((e) => e.replicas.has(lower.index)).length,
      keptOut: keptOut ? reason : null,
    }));
  }

  /** Resolves when everything asked for so far, link events included, has been done. */
  async settled(): Promise<void> {
    await this.#queue;
  }

  /** Puts a lower last. Throws XfrmError: EXISTS, UNSUPPORTED (a bond, another link type), NO_SPACE, CLOSED. */
  enslave(lower: LowerDevice): Promise<void> {
    return this.#run(async () => {
      if (lower.xfrm !== null && 'stateLowerHandle' in lower.xfrm)
        throw new XfrmError({ code: 'UNSUPPORTED', device: this.name, what: 'a bond as a slave' });
      if (this.#slaves.some((s) => s.lower.index === lower.index || s.lower === lower))
        throw new XfrmError({ code: 'EXISTS', what: `${lower.name} is a slave of ${this.name} already` });
      if (lower.index < 0 || lower.index >= this.#maxLowers)
        throw new XfrmError({
          code: 'NO_SPACE',
          what: `${lower.name} has index ${lower.index}, ${this.name} takes up to ${this.#maxLowers - 1}`,
        });
      if (this.linkType !== null && this.linkType !== lower.linkType)
        throw new XfrmError({
          code: 'UNSUPPORTED',
          device: this.name,
          what: `${lower.linkType} beside ${this.linkType} slaves`,
        });
      const unwatch = lower.onChange(() => {
        this.#run(() => this.#reconcile()).catch(() => undefined);
      });
      this.#slaves.push({ lower, unwatch, keptOut: false, reason: '' });
      await this.#reconcile();
    });
  }

  /** Takes a lower out: its replicas go first. Throws XfrmError NOT_FOUND. */
  release(lower: LowerDevice): Promise<void> {
    return this.#run(async () => {
      const slave = this.#slaves.find((s) => s.lower === lower);
      if (!slave) throw new XfrmError({ code: 'NOT_FOUND', what: `${lower.name} is no slave of ${this.name}` });
      slave.unwatch();
      const index = lower.index;
      if (this.#active === index) this.#active = -1;
      await this.#snapshot.publish(this.#snapshot.usable().filter((l) => l !== index));
      await this.#dropReplicas([...this.#entries.values()], [slave]);
      this.#slaves.splice(this.#slaves.indexOf(slave), 1);
      for (const entry of this.#entries.values()) entry.withheld.delete(index);
      await this.#reconcile();
    });
  }

  /** Leaving a mode that replicates flushes the replicas; the SAs stay known. */
  setMode(mode: BondMode): Promise<void> {
    return this.#run(async () => {
      if (mode === this.#mode) return;
      // Handles of one kind of mode mean nothing in the other.
      await this.#flush();
      this.#mode = mode;
      this.#active = -1;
      await this.#reconcile();
    });
  }

  /** Leaving layer3+4 flushes the replicas; the SAs stay known. */
  setXmitHashPolicy(policy: XmitHashPolicy): Promise<void> {
    return this.#run(async () => {
      if (!XMIT_HASH_POLICIES.includes(policy)) throw new TypeError(`no transmit hash policy "${policy}"`);
      this.#policy = policy;
      if (this.#features.active !== 0 && this.#advertised() === 0) await this.#flush();
      Atomics.store(this.#policyWord, 0, XMIT_HASH_POLICIES.indexOf(policy));
      await this.#reconcile();
    });
  }

  /**
   * Asks for a set of Feature: pushed to the slaves in order, all or nothing. Throws XfrmError UNSUPPORTED (not
   * advertised) or ROLLED_BACK (a slave refused; those before it are as they were).
   */
  setFeatures(wanted: number): Promise<number> {
    return this.#run(async () => {
      const want = fixFeatures(wanted);
      const missing = want & ~this.#features.hw;
      if (missing !== 0)
        throw new XfrmError({
          code: 'UNSUPPORTED',
          device: this.name,
          what: `${featureNames(missing).join(', ')} now`,
        });
      if ((want & Feature.HW_ESP) === 0) await this.#flush();
      else await this.#pushFeatures(want);
      this.#features = { hw: this.#features.hw, wanted: want, active: want };
      await this.#reconcile();
      return this.#features.active;
    });
  }

  /** Installs an SA on every slave that should have it, all or nothing. Resolves to the bond's own handle. */
  stateAdd(sa: Sa, signal?: AbortSignal): Promise<LowerHandle> {
    return this.#run(async () => {
      if (sa.offload?.type === 'packet')
        throw new XfrmError({
          code: 'UNSUPPORTED',
          device: this.name,
          what: 'offload type packet: number and window would live in one slave',
        });
      if ((this.#features.active & Feature.HW_ESP) === 0)
        throw new XfrmError({ code: 'UNSUPPORTED', device: this.name, what: 'ESP offload while HW_ESP is off' });
      if (this.#entries.has(sa.slot))
        throw new XfrmError({ code: 'EXISTS', what: `slot ${sa.slot} is on ${this.name} already` });
      const entry: Entry = { sa, replicas: new Map(), withheld: new Set(), dead: false };
      const wanted = wantedReplicas(this.#mode, this.#facts(), this.#active, true);
      const done: Slave[] = [];
      for (const lower of wanted) {
        const slave = this.#slave(lower);
        try {
          entry.replicas.set(lower, await slave.lower.xfrm!.stateAdd(sa, signal));
          done.push(slave);
          if (signal?.aborted) throw new XfrmError({ code: 'ABORTED', what: `adding an SA to ${this.name}` });
        } catch (error) {
          const failures = await this.#undo(entry, done);
          throw new XfrmError(
            { code: 'ROLLED_BACK', slave: slave.lower.name, what: (error as Error).message, failures },
            { cause: error },
          );
        }
      }
      this.#entries.set(sa.slot, entry);
      this.#show(entry);
      return sa.slot + 1;
    });
  }

  stateDelete(handle: LowerHandle): void {
    const entry = this.#entry(handle);
    if (entry.dead) throw new XfrmError({ code: 'CLOSED', what: `SA in slot ${entry.sa.slot} is deleted already` });
    entry.dead = true;
    this.offloads.clear(entry.sa.slot);
    for (const lower of entry.replicas.keys()) this.#replicas.write(entry.sa.slot, lower, 0);
  }

  stateFree(handle: LowerHandle): Promise<void> {
    return this.#run(async () => {
      const entry = this.#entry(handle);
      if (!entry.dead) throw new XfrmError({ code: 'BUSY', what: `SA in slot ${entry.sa.slot} is not deleted` });
      await this.#dropReplicas([entry], this.#slaves);
      this.#entries.delete(entry.sa.slot);
    });
  }

  /** Reaches every replica. */
  advanceEsn(handle: LowerHandle, bottom: number): void {
    const entry = this.#entry(handle);
    for (const [lower, replica] of entry.replicas) this.#slave(lower).lower.xfrm!.advanceEsn(replica, bottom);
  }

  /** The sum over the replicas there are now. */
  updateStats(handle: LowerHandle, into: SaStats): void {
    const entry = this.#entry(handle);
    const one: SaStats = { packets: 0, bytes: 0, icvFailures: 0 };
    into.packets = 0;
    into.bytes = 0;
    into.icvFailures = 0;
    for (const [lower, replica] of entry.replicas) {
      this.#slave(lower).lower.xfrm!.updateStats(replica, one);
      into.packets += one.packets;
      into.bytes += one.bytes;
      into.icvFailures += one.icvFailures;
    }
  }

  offloadOk(sa: Sa, length: number, l3Flags: number): boolean {
    const entry = this.#entries.get(sa.slot);
    if (!entry || entry.dead || entry.replicas.size === 0) return false;
    return [...entry.replicas.keys()].every((lower) => this.#slave(lower).lower.xfrm!.offloadOk(sa, length, l3Flags));
  }

  stateLowerHandle(saSlot: number, lowerIndex: number): LowerHandle {
    return this.#replicas.stateLowerHandle(saSlot, lowerIndex);
  }

  /** How often the control thread was asked to resolve. */
  get asked(): number {
    return this.#replicas.asked;
  }

  /**
   * Takes one replica away while its slave stays usable: what is hashed there is dropped with NO_LOWER_HANDLE until
   * `restore`. For tests and for seeing that no handle means no packet. Throws XfrmError NOT_FOUND.
   */
  withdraw(saSlot: number, lowerIndex: number): Promise<void> {
    return this.#run(async () => {
      const entry = this.#entries.get(saSlot);
      if (!entry?.replicas.has(lowerIndex))
        throw new XfrmError({ code: 'NOT_FOUND', what: `slot ${saSlot} has no replica on lower ${lowerIndex}` });
      entry.withheld.add(lowerIndex);
      await this.#dropReplicas([entry], [this.#slave(lowerIndex)]);
    });
  }

  /** Undoes `withdraw`. */
  restore(saSlot: number, lowerIndex: number): Promise<void> {
    return this.#run(async () => {
      if (!this.#entries.get(saSlot)?.withheld.delete(lowerIndex))
        throw new XfrmError({ code: 'NOT_FOUND', what: `slot ${saSlot} has nothing withdrawn on lower ${lowerIndex}` });
      await this.#reconcile();
    });
  }

  /** A worker's thread has exited; nothing waits for it any more. */
  workerGone(worker: number): void {
    this.#snapshot.workerGone(worker);
  }

  /** Releases every slave. */
  async close(): Promise<void> {
    if (this.#closed) return this.settled();
    const done = this.#run(async () => {
      await this.#flush();
      await this.#snapshot.publish([]);
      for (const slave of this.#slaves) slave.unwatch();
      this.#slaves.length = 0;
    });
    this.#closed = true;
    await done;
  }

  /** The one queue. */
  #run<T>(step: () => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new XfrmError({ code: 'CLOSED', what: `${this.name} is closed` }));
    const next = this.#queue.then(step);
    this.#queue = next.catch(() => undefined);
    return next;
  }

  #facts(): SlaveFacts[] {
    return this.#slaves.map(({ lower, keptOut }) => ({
      lower: lower.index,
      running: lower.running,
      carrier: lower.carrier,
      capable: lower.xfrm !== null,
      optedIn: lower.xfrm?.lowerHandle ?? false,
      hw: lower.features.hw,
      keptOut,
    }));
  }

  #advertised(): number {
    return advertised(this.#mode, this.#policy, this.#facts());
  }

  /** Brings replicas, snapshot and features to what the facts call for. */
  async #reconcile(): Promise<void> {
    const hw = this.#advertised();
    if (this.#features.active !== 0 && hw === 0 && this.#slaves.some((s) => s.lower.running)) await this.#flush();
    const active = this.#features.active & (hw === 0 ? this.#features.active : hw);
    this.#features = { hw, wanted: this.#features.wanted, active };
    const enabled = (active & Feature.HW_ESP) !== 0;
    if (this.#mode === 'active-backup') await this.#follow(enabled);
    else await this.#replicate(enabled);
  }

  /** Active-backup: one handle in all, on the active slave; failover migrates it without a moment of plaintext. */
  async #follow(enabled: boolean): Promise<void> {
    const facts = this.#facts();
    const next = activeSlave(facts, this.#active);
    if (next !== this.#active) {
      for (const entry of this.#entries.values()) this.offloads.clear(entry.sa.slot);
      this.#active = next;
      // First the packets move (and are dropped for want of a handle), then the handle.
      await this.#snapshot.publish(usable(this.#mode, facts, next));
    }
    const others = this.#slaves.filter((s) => s.lower.index !== next);
    await this.#dropReplicas([...this.#entries.values()], enabled ? others : this.#slaves);
    if (!enabled || next < 0) return;
    const slave = this.#slave(next);
    // A refusal means that the SA's packets are dropped, never that the old handle is used.
    const ready = await this.#enableOn(slave).then(
      () => true,
      () => false,
    );
    if (!ready) return;
    for (const entry of this.#entries.values()) {
      await this.#addReplica(entry, slave).catch(() => undefined);
      this.#show(entry);
    }
  }

  async #replicate(enabled: boolean): Promise<void> {
    const leaving = this.#slaves.filter((s) => !s.lower.running);
    const facts = this.#facts();
    const ready = (lower: number): boolean =>
      !enabled || [...this.#entries.values()].every((e) => e.dead || e.withheld.has(lower) || e.replicas.has(lower));
    await this.#snapshot.publish(usable(this.#mode, facts, -1).filter(ready));
    await this.#dropReplicas([...this.#entries.values()], enabled ? leaving : this.#slaves);
    if (enabled) for (const slave of this.#slaves) if (slave.lower.running) await this.#join(slave);
    await this.#snapshot.publish(usable(this.#mode, this.#facts(), -1).filter(ready));
    if (enabled) for (const entry of this.#entries.values()) this.#show(entry);
  }

  /** Gives a slave every SA, or keeps it out of usable with the ones it took taken back. */
  async #join(slave: Slave): Promise<void> {
    if (slave.keptOut) return;
    const added: Entry[] = [];
    try {
      await this.#enableOn(slave);
      for (const entry of this.#entries.values()) if (await this.#addReplica(entry, slave)) added.push(entry);
    } catch (error) {
      slave.keptOut = true;
      slave.reason = (error as Error).message;
      await this.#snapshot.publish(this.#snapshot.usable().filter((l) => l !== slave.lower.index));
      await this.#dropReplicas([...this.#entries.values()], [slave]);
    }
  }

  /** Pushes the bond's features to a slave that came after they were enabled. */
  async #enableOn(slave: Slave): Promise<void> {
    const { features } = slave.lower;
    if ((features.active & this.#features.active) === this.#features.active) return;
    await slave.lower.setFeatures(features.wanted | this.#features.active);
  }

  /** Whether there is a new replica. An SA that died while the lower was busy is taken back at once. */
  async #addReplica(entry: Entry, slave: Slave): Promise<boolean> {
    const lower = slave.lower.index;
    if (entry.dead || entry.withheld.has(lower) || entry.replicas.has(lower)) return false;
    const handle = await slave.lower.xfrm!.stateAdd(entry.sa);
    if (entry.dead) {
      slave.lower.xfrm!.stateDelete(handle);
      await slave.lower.xfrm!.stateFree(handle);
      return false;
    }
    entry.replicas.set(lower, handle);
    if (this.#mode !== 'active-backup') this.#replicas.write(entry.sa.slot, lower, handle);
    return true;
  }

  /** Makes an entry's READY replicas resolvable. */
  #show(entry: Entry): void {
    if (entry.dead) return;
    const { slot } = entry.sa;
    if (this.#mode === 'active-backup') {
      const handle = entry.replicas.get(this.#active);
      if (handle !== undefined) this.offloads.setDirect(slot, this.#active, handle);
      return;
    }
    for (const [lower, handle] of entry.replicas) this.#replicas.write(slot, lower, handle);
    this.offloads.setUpper(slot);
  }

  /** Cells 0, grace, delete, last frame out, free: for every replica of these entries on these slaves. */
  async #dropReplicas(entries: readonly Entry[], slaves: readonly Slave[]): Promise<void> {
    const doomed = entries.flatMap((entry) =>
      slaves.filter((s) => entry.replicas.has(s.lower.index)).map((slave) => ({ entry, slave })),
    );
    if (doomed.length === 0) return;
    for (const { entry, slave } of doomed) {
      this.#replicas.write(entry.sa.slot, slave.lower.index, 0);
      if (this.offloads.device(entry.sa.slot) === slave.lower.index) this.offloads.clear(entry.sa.slot);
    }
    await this.#snapshot.grace();
    const handles = doomed.map(({ entry, slave }) => {
      const handle = entry.replicas.get(slave.lower.index)!;
      entry.replicas.delete(slave.lower.index);
      slave.lower.xfrm!.stateDelete(handle);
      return { slave, handle };
    });
    for (const slave of new Set(doomed.map((d) => d.slave))) while (slave.lower.inFlight() > 0) await this.#idle();
    for (const { slave, handle } of handles) await slave.lower.xfrm!.stateFree(handle);
  }

  /** After a failed add: nothing was resolvable yet, so no grace is due. Returns what failed while undoing. */
  async #undo(entry: Entry, done: readonly Slave[]): Promise<string[]> {
    const failures: string[] = [];
    for (const slave of [...done].reverse()) {
      const handle = entry.replicas.get(slave.lower.index)!;
      try {
        slave.lower.xfrm!.stateDelete(handle);
        await slave.lower.xfrm!.stateFree(handle);
      } catch (error) {
        failures.push(`${slave.lower.name}: ${(error as Error).message}`);
      }
    }
    return failures;
  }

  /** Stop, drain, flush, then bits: the SAs stay known, their traffic resolves to nothing. */
  async #flush(): Promise<void> {
    if (this.#features.active === 0) return;
    for (const entry of this.#entries.values()) this.offloads.clear(entry.sa.slot);
    await this.#dropReplicas([...this.#entries.values()], this.#slaves);
    this.#features = { ...this.#features, wanted: 0, active: 0 };
    for (const slave of [...this.#slaves].reverse()) {
      slave.keptOut = false;
      await slave.lower.setFeatures(slave.lower.features.wanted & ~Feature.HW_ESP).catch(() => undefined);
    }
  }

  async #pushFeatures(want: number): Promise<void> {
    const changed: { slave: Slave; before: number }[] = [];
    for (const slave of this.#slaves) {
      const before = slave.lower.features.wanted;
      try {
        await slave.lower.setFeatures(before | want);
        changed.push({ slave, before });
      } catch (error) {
        const failures: string[] = [];
        for (const { slave: s, before: b } of changed.reverse())
          await s.lower.setFeatures(b).catch((e: Error) => failures.push(`${s.lower.name}: ${e.message}`));
        throw new XfrmError(
          { code: 'ROLLED_BACK', slave: slave.lower.name, what: (error as Error).message, failures },
          { cause: error },
        );
      }
    }
  }

  #slave(lowerIndex: number): Slave {
    return this.#slaves.find((s) => s.lower.index === lowerIndex)!;
  }

  #entry(handle: LowerHandle): Entry {
    const entry = this.#entries.get(handle - 1);
    if (!entry) throw new XfrmError({ code: 'NOT_FOUND', what: `${this.name} has no state 0x${handle.toString(16)}` });
    return entry;
  }

  /** Whether mode and policy are those for replicated SAs. */
  get replicates(): boolean {
    return replicates(this.#mode, this.#policy);
  }
}
