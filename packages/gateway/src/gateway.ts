/**
 * A running gateway: one control actor on this thread, N datapath workers on their own. What crosses between them is plain
 * data and shared memory; see messages.ts.
 */
import { BondDevice } from '@espalier/bond';
import { PathMtu, SaStat } from '@espalier/esp';
import { Feature, type LowerDevice, OffloadTable, type PolicyTicket, XfrmError } from '@espalier/xfrm';
import { attempt } from './attempt.ts';
import { Audit } from './audit.ts';
import type { InsideDevice } from './devices.ts';
import { type RekeyEvent, tell } from './events.ts';
import { GATE_OPEN } from './gate.ts';
import { learnPath } from './learn-path.ts';
import { Marks } from './marks.ts';
import { saColumn, TICK_MS, type WorkerStart } from './messages.ts';
import { type GatewayPlan, MAX_LOWERS, MAX_SAS, type PolicyPlan, type SaPlan, type StatePlan } from './plan.ts';
import { Rekey, type RekeyOptions, rekeyTimes, type Succession } from './rekey.ts';
import { Sas } from './sas.ts';
import { Schedule } from './schedule.ts';
import { handsOver } from './schedule-hands.ts';
import { StateFile } from './state-file.ts';
import { type GatewayStats, gatewayStats } from './stats.ts';
import { workerFileBeside } from './worker-file.ts';
import { Workers } from './workers.ts';

const FRAMES = 2048;
const BOND_INDEX = MAX_LOWERS;
/** Too-big answers a second, unless the plan says. */
const ANSWERS = { perSecond: 100, from: [] };

export interface GatewayOptions {
  readonly plan: GatewayPlan;
  /** Slaves in order; the gateway closes them. */
  readonly lowers: readonly LowerDevice[];
  /** The gateway closes it. */
  readonly inside: InsideDevice;
  /** A file that calls `runWorker`; the package's own when absent. */
  readonly workerFile?: URL | string;
  /** Called once when a worker ends that nobody asked to: what it carried stands still from then on. */
  readonly onFailure?: (error: Error) => void;
  /** Milliseconds of a monotone clock; `performance.now` when absent. Looked at every 50 ms. */
  readonly clock?: () => number;
}

export class Gateway {
  readonly bond: BondDevice;
  readonly #options: GatewayOptions;
  readonly #clock: () => number;
  readonly #offloads: OffloadTable = OffloadTable.create(MAX_SAS);
  readonly #workers: Workers;
  readonly #sas: Sas;
  readonly #rekeys: Set<Rekey> = new Set();
  readonly #pathMtu: PathMtu = PathMtu.create(MAX_SAS);
  readonly #audit: Audit | null;
  readonly #schedule: Schedule;
  #marks: Marks | null = null;
  readonly #gates: SharedArrayBuffer | null;
  /** Time for the workers, and what it is counted from. */
  readonly #ticks: Int32Array = new Int32Array(new SharedArrayBuffer(4));
  readonly #epoch: number;
  readonly #ticker: NodeJS.Timeout;
  #policies: readonly PolicyPlan[] = [];
  /** Changes of SAs and policies, one after another. */
  #queue: Promise<unknown> = Promise.resolve();
  #started = false;
  #stopping: Promise<void> | null = null;

  private constructor(options: GatewayOptions) {
    this.#options = options;
    const { plan, clock = () => performance.now() } = options;
    this.#clock = clock;
    this.#epoch = clock();
    this.bond = new BondDevice({
      name: plan.bond.name,
      index: BOND_INDEX,
      mode: plan.bond.mode,
      xmitHashPolicy: plan.bond.policy,
      resilient: plan.bond.resilient ?? false,
      adSelect: plan.bond.adSelect ?? 'stable',
      upDelay: plan.bond.upDelay ?? 0,
      downDelay: plan.bond.downDelay ?? 0,
      joinRefused: plan.bond.joinRefused ?? 'keep-out',
      maxSas: MAX_SAS,
      maxLowers: MAX_LOWERS,
      workers: plan.workers,
      offloads: this.#offloads,
      idle: () => new Promise((resolve) => setImmediate(resolve)),
      closeSockets: (lower) => this.#workers.tellAll({ type: 'close-lower', index: lower.index }),
    });
    this.#workers = new Workers((worker, why) => {
      this.bond.workerGone(worker);
      if (this.#started && this.#stopping === null) options.onFailure?.(why);
    });
    this.#sas = new Sas({
      bond: this.bond,
      workers: this.#workers,
      pathMtu: this.#pathMtu,
      marks: () => this.#marks,
      now: clock,
      link: () => this.#link(),
      mtu: () => (this.bond.linkType === 'esp-udp' ? this.bond.mtu : plan.bond.mtu),
    });
    const { audit, state } = plan;
    this.#gates = state === undefined ? null : new SharedArrayBuffer(MAX_SAS * 4);
    this.#audit =
      audit === undefined ? null : new Audit(plan.bond.name, plan.workers, audit, (slot) => this.#sas.nameOf(slot));
    const hands = { lowers: options.lowers, workers: this.#workers, sas: this.#sas };
    this.#schedule = new Schedule(handsOver(hands), plan.bond.lowers);
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
    this.#ticker.unref();
  }

  /** Resolves when traffic flows. Rejects with XfrmError and leaves nothing half-made behind. */
  static async start(options: GatewayOptions): Promise<Gateway> {
    const gateway = new Gateway(options);
    try {
      await gateway.#start();
    } catch (error) {
      await attempt(() => gateway.stop());
      throw error;
    }
    return gateway;
  }

  /**
   * Ends workers, replicas, keys, devices, in this order. Safe to call twice. Rejects with what went wrong first, once
   * everything has been done.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** Slot of an SA by its name. Throws XfrmError NOT_FOUND. */
  slotOf(name: string): number {
    return this.#sas.get(name).slot;
  }

  /** The SAs as they are installed now, and the policies as they choose among them. */
  get current(): { readonly sas: readonly SaPlan[]; readonly policies: readonly PolicyPlan[] } {
    return { sas: this.#sas.all().map(({ plan }) => plan), policies: this.#policies };
  }

  /** Totals since the start, all workers together. */
  stats(): GatewayStats {
    const { lowers } = this.#options;
    return gatewayStats({
      bond: this.bond,
      lowers,
      workers: this.#workers,
      sas: this.#sas.all(),
      holds: (slot, lower) =>
        this.bond.replicates ? this.bond.stateLowerHandle(slot, lower) !== 0 : this.#offloads.device(slot) === lower,
      suppressed: this.#audit?.suppressed ?? 0,
      pathMtu: this.#pathMtu,
      now: this.#clock(),
    });
  }

  /**
   * Installs an SA while traffic flows, on every worker and slave or nowhere. Throws XfrmError EXISTS (name, SPI, or a key
   * that is or was another's), NO_SPACE, ROLLED_BACK (a slave refused), CLOSED.
   */
  addSa(plan: SaPlan): Promise<void> {
    return this.#run(async () => {
      await this.#sas.add(plan);
    });
  }

  /** Removes an SA that no policy protects with and no rekey is about, and wipes its key. Throws XfrmError NOT_FOUND, BUSY, CLOSED. */
  removeSa(name: string): Promise<void> {
    return this.#run(() => this.#remove(name));
  }

  /** From now on, policies that protect with `from` protect with `to`, on every worker. Throws XfrmError NOT_FOUND, CLOSED. */
  switchOutbound(from: string, to: string): Promise<void> {
    return this.#run(() => this.#switch(from, to));
  }

  /**
   * Begins a rekey: each of the SAs names the one whose place it takes. Resolves when all of them are installed, inbound
   * ones first; what comes then is in rekey.ts, and told on `espalier:rekey`. All or nothing: XfrmError as `addSa`,
   * NOT_FOUND or BUSY for an SA that is not there or in a rekey already (two of `sas` cannot replace one); RangeError.
   */
  rekey(sas: readonly SaPlan[], options: RekeyOptions = {}): Promise<Rekey> {
    return this.#run(async () => {
      const times = rekeyTimes(options);
      const successions = sas.map((sa) => this.#succession(sa));
      for (const [i, { from }] of successions.entries())
        if (successions.findIndex((s) => s.from === from) < i)
          throw new XfrmError({ code: 'BUSY', what: `two SAs replace SA "${from}"` });
      const added: string[] = [];
      try {
        for (const direction of ['in', 'out'])
          for (const sa of sas.filter((s) => s.direction === direction)) {
            await this.#sas.add(sa);
            added.push(sa.name);
          }
      } catch (error) {
        for (const name of added.reverse()) await attempt(() => this.#sas.remove(name));
        throw error;
      }
      const rekey: Rekey = new Rekey(
        successions,
        {
          now: this.#clock,
          packets: (names) => names.reduce((sum, name) => sum + this.#sas.packets(name), 0),
          switchOutbound: (from, to) => this.switchOutbound(from, to),
          remove: (name) => this.#run(() => this.#remove(name, rekey)),
          tell: (phase, error) => {
            if (phase !== 'switched') this.#rekeys.delete(rekey);
            this.#tellRekey(phase, successions, error);
          },
        },
        times,
      );
      this.#rekeys.add(rekey);
      this.#tellRekey('installed', successions);
      return rekey;
    });
  }

  /**
   * Resynchronises an inbound SA whose sender has gone on unheard for more than 2^32 numbers (RFC 4303 A3); see
   * `EspPath.resync`. Throws XfrmError NOT_FOUND, UNSUPPORTED without ESN, CLOSED.
   */
  resync(name: string): Promise<void> {
    return this.#run(() => this.#workers.tellAll({ type: 'resync', slot: this.slotOf(name) }));
  }

  async #start(): Promise<void> {
    const { plan, lowers } = this.#options;
    for (const { name, mtu, linkType } of lowers)
      if (linkType === 'ethernet' && mtu < plan.bond.mtu)
        throw new XfrmError({
          code: 'CONFIG',
          path: 'bond.mtu',
          expected: `at most ${mtu}, the MTU of ${name}`,
          got: String(plan.bond.mtu),
        });
    if (plan.state !== undefined) this.#marks = this.#openState(plan.state);
    for (const lower of lowers) await this.bond.enslave(lower);
    await Promise.all(Array.from({ length: plan.workers }, (_, i) => this.#startWorker(i)));
    if (plan.sas.some((sa) => sa.offload === 'crypto')) await this.bond.setFeatures(Feature.HW_ESP);
    // Inbound first: nothing may arrive for an SA that is not there.
    for (const sa of plan.sas.filter((s) => s.direction === 'in')) await this.#sas.add(sa);
    for (const sa of plan.sas.filter((s) => s.direction === 'out')) await this.#sas.add(sa);
    this.#policies = plan.policies;
    await this.#tellPolicies();
    this.#started = true;
  }

  #openState(plan: StatePlan): Marks {
    const gates = new Int32Array(this.#gates!).fill(GATE_OPEN);
    return new Marks({
      file: StateFile.open(plan.file),
      plan,
      gates,
      workers: this.#options.plan.workers,
      packets: (slot) => this.#workers.total(saColumn(slot) + SaStat.PACKETS),
      now: this.#clock,
      wall: Date.now,
      trouble: ({ message }) =>
        tell({ type: 'state', gateway: this.bond.name, time: new Date().toISOString(), error: message }),
    });
  }

  #startWorker(worker: number): Promise<void> {
    const { plan, lowers, inside, workerFile = workerFileBeside(import.meta.url) } = this.#options;
    const start: Omit<WorkerStart, 'stats' | 'mail' | 'wake'> = {
      worker,
      workers: plan.workers,
      engine: plan.engine,
      maxSas: MAX_SAS,
      frames: FRAMES,
      bond: this.bond.ticket(),
      offloads: this.#offloads.memory,
      lowers: lowers.map((l) => l.ticket(worker)),
      linkType: this.bond.linkType ?? 'ethernet',
      link: this.#link(),
      inside: inside.ticket(worker),
      clock: this.#ticks.buffer as SharedArrayBuffer,
      pathMtu: this.#pathMtu.memory,
      audit: this.#audit === null ? null : { memory: this.#audit.memory(worker), plan: plan.audit! },
      tooBig: plan.inside.tooBig ?? ANSWERS,
      gates: this.#gates,
    };
    return this.#workers.start(workerFile, start);
  }

  #link(): Uint8Array | null {
    const { plan, lowers } = this.#options;
    const { mac = lowers[0]?.mac, peerMac } = plan.bond;
    const none = new Uint8Array(6);
    return this.bond.linkType === 'ethernet' ? Uint8Array.from([...(peerMac ?? none), ...(mac ?? none), 0, 0]) : null;
  }

  #tellPolicies(): Promise<void> {
    const policies = this.#policies.map((policy) => this.#ticketOf(policy));
    return this.#workers.tellAll({ type: 'policies', policies });
  }

  #ticketOf({ sa, ...policy }: PolicyPlan): PolicyTicket {
    return { ...policy, slot: sa === null ? -1 : this.slotOf(sa) };
  }

  #succession({ name, direction, replaces }: SaPlan): Succession {
    if (replaces === undefined)
      throw new XfrmError({ code: 'NOT_FOUND', what: `SA "${name}" does not say which one it replaces` });
    if (this.#sas.get(replaces).plan.direction !== direction)
      throw new XfrmError({ code: 'NOT_FOUND', what: `no SA "${replaces}" of SA "${name}"'s direction` });
    for (const { successions } of this.#rekeys)
      if (successions.some((s) => s.from === replaces || s.to === replaces))
        throw new XfrmError({ code: 'BUSY', what: `SA "${replaces}" is in a rekey already` });
    return { direction, from: replaces, to: name };
  }

  async #switch(from: string, to: string): Promise<void> {
    const [old, next] = [this.slotOf(from), this.slotOf(to)];
    try {
      await this.#workers.tellAll({ type: 'switch', from: old, to: next });
    } catch (error) {
      // Not the switch turned round: that would take along what protected with `to` before.
      await attempt(() => this.#tellPolicies());
      throw error;
    }
    this.#policies = this.#policies.map((policy) => (policy.sa === from ? { ...policy, sa: to } : policy));
  }

  /** `by` is the rekey that asks, if one does. */
  async #remove(name: string, by: Rekey | null = null): Promise<void> {
    if (this.#policies.some((policy) => policy.sa === name))
      throw new XfrmError({ code: 'BUSY', what: `a policy protects with SA "${name}"` });
    for (const rekey of this.#rekeys)
      if (rekey !== by && rekey.successions.some((s) => s.from === name || s.to === name))
        throw new XfrmError({ code: 'BUSY', what: `SA "${name}" is in a rekey` });
    await this.#sas.remove(name);
  }

  #tick(): void {
    const gateway = this.bond.name;
    const now = this.#clock();
    this.bond.tick(now);
    // What is young on the workers' clock is young on this one.
    const ticks = Math.floor((now - this.#epoch) / TICK_MS);
    Atomics.store(this.#ticks, 0, ticks);
    learnPath(this.bond, this.#options.lowers, this.#sas, this.#pathMtu, ticks * TICK_MS);
    this.#pathMtu.age(ticks * TICK_MS);
    this.#audit?.drain(ticks * TICK_MS);
    this.#marks?.tick();
    if (this.#started && this.#stopping === null) this.#schedule.tick(now, this.#protecting());
    this.#sas.tick((sa, limit) => tell({ type: 'lifetime', gateway, time: new Date().toISOString(), sa, limit }));
    for (const rekey of this.#rekeys) rekey.tick();
  }

  /** SAs that something may go out by. */
  #protecting(): SaPlan[] {
    return this.#sas.all().flatMap(({ plan }) => (this.#policies.some((p) => p.sa === plan.name) ? [plan] : []));
  }

  #tellRekey(phase: RekeyEvent['phase'], successions: readonly Succession[], error?: Error): void {
    tell({
      type: 'rekey',
      gateway: this.bond.name,
      time: new Date().toISOString(),
      phase,
      from: successions.map((s) => s.from),
      to: successions.map((s) => s.to),
      ...(error === undefined ? {} : { error: error.message }),
    });
  }

  /** One change after another. */
  #run<T>(change: () => Promise<T>): Promise<T> {
    const next = this.#queue.then(() => {
      if (this.#stopping !== null) throw new XfrmError({ code: 'CLOSED', what: `${this.bond.name} is closed` });
      return change();
    });
    this.#queue = next.catch(() => undefined);
    return next;
  }

  async #stop(): Promise<void> {
    await this.#queue;
    const failures: unknown[] = [];
    const closed = new XfrmError({ code: 'CLOSED', what: `${this.bond.name} is closed` });
    for (const rekey of this.#rekeys) rekey.abandon(closed);
    await attempt(() => this.#workers.stop(), failures);
    for (let i = 0; i < this.#workers.count; i++) this.bond.workerGone(i);
    await attempt(() => this.#marks?.stop(), failures);
    await attempt(() => this.#sas.stop(), failures);
    await attempt(() => this.bond.close(), failures);
    clearInterval(this.#ticker);
    for (const lower of this.#options.lowers) await attempt(() => lower.close(), failures);
    await attempt(() => this.#options.inside.close(), failures);
    if (failures.length > 0) throw failures[0];
  }
}
