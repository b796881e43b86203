/**
 * A running gateway: one control actor on this thread, N datapath workers on their own. What crosses between them is plain
 * data and shared memory; see messages.ts.
 */
import { Worker } from 'node:worker_threads';
import { BondDevice, type SlaveState } from '@espalier/bond';
import { SaStat } from '@espalier/esp';
import { load } from '@espalier/native';
import { Arena, Lifetime, LifetimeEvent, ReplayWindow, SequenceAllocator } from '@espalier/replay';
import {
  ALGORITHMS,
  DROP_CODES,
  DROP_TABLE,
  Feature,
  type LowerDevice,
  OffloadTable,
  PortStat,
  type Sa,
  Sad,
  SaKey,
  XfrmError,
} from '@espalier/xfrm';
import type { InsideDevice } from './devices.ts';
import { type Answer, errorOf, type Order, type WorkerStart } from './messages.ts';
import { type GatewayPlan, type LifetimePlan, MAX_LOWERS, MAX_SAS, type SaPlan } from './plan.ts';
import { workerFileBeside } from './worker-file.ts';

const FRAMES = 2048;
const BOND_INDEX = MAX_LOWERS;
/** The bond's time: link delays, bounds on lowers, ESN. */
const TICK_MS = 50;

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
}

/** Counters of one slave, all workers together. */
export interface SlaveStats extends SlaveState {
  readonly sent: number;
  readonly sealed: number;
  readonly clear: number;
  readonly received: number;
  readonly opened: number;
  /** Refused for want of a handle. */
  readonly noHandle: number;
  /** Refused for any other reason, nothing sealed. */
  readonly refused: number;
  /** Sealed, and then not taken by the device: sealed = sent + unsent where nothing else is sent. */
  readonly unsent: number;
  /** Lost by the device before they were read. */
  readonly overrun: number;
}

export interface GatewayStats {
  readonly slaves: readonly SlaveStats[];
  /** By name of DropReason, those above 0. */
  readonly drops: Readonly<Record<string, number>>;
  readonly sas: readonly {
    readonly name: string;
    readonly packets: number;
    readonly bytes: number;
    readonly software: number;
  }[];
}

interface WorkerHandle {
  readonly thread: Worker;
  readonly mail: Int32Array;
  readonly stats: Float64Array;
  readonly wake: number;
  readonly waiting: Map<number, { resolve(): void; reject(error: Error): void }>;
  next: number;
  /** Why nothing is answered any more. */
  gone: Error | null;
}

export class Gateway {
  readonly bond: BondDevice;
  readonly #options: GatewayOptions;
  readonly #offloads: OffloadTable = OffloadTable.create(MAX_SAS);
  readonly #sad: Sad = new Sad(MAX_SAS);
  readonly #arena: Arena = Arena.create(64 << 20);
  readonly #workers: WorkerHandle[] = [];
  readonly #slots: Map<string, number> = new Map();
  readonly #handles: number[] = [];
  readonly #keys: SaKey[] = [];
  /** By name of the SA. */
  readonly #lifetimes: Map<string, Lifetime> = new Map();
  readonly #ticker: NodeJS.Timeout;
  #started = false;
  #stopping: Promise<void> | null = null;

  private constructor(options: GatewayOptions) {
    this.#options = options;
    const { plan } = options;
    this.bond = new BondDevice({
      name: plan.bond.name,
      index: BOND_INDEX,
      mode: plan.bond.mode,
      xmitHashPolicy: plan.bond.policy,
      resilient: plan.bond.resilient ?? false,
      maxSas: MAX_SAS,
      maxLowers: MAX_LOWERS,
      workers: plan.workers,
      offloads: this.#offloads,
      idle: () => new Promise((resolve) => setImmediate(resolve)),
    });
    this.#ticker = setInterval(() => this.bond.tick(performance.now()), TICK_MS);
    this.#ticker.unref();
  }

  /** Resolves when traffic flows. Rejects with XfrmError and leaves nothing half-made behind. */
  static async start(options: GatewayOptions): Promise<Gateway> {
    const gateway = new Gateway(options);
    try {
      await gateway.#start();
    } catch (error) {
      await gateway.stop();
      throw error;
    }
    return gateway;
  }

  /** Ends workers, replicas, devices, keys, in this order. Safe to call twice. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** Slot of an SA by its name in the plan. Throws XfrmError NOT_FOUND. */
  slotOf(name: string): number {
    const slot = this.#slots.get(name);
    if (slot === undefined) throw new XfrmError({ code: 'NOT_FOUND', what: `no SA "${name}"` });
    return slot;
  }

  /** Lifetimes that were met since the last call, each told once: `soft` asks for a rekey, `hard` has ended the SA. */
  lifetimeEvents(): { readonly sa: string; readonly limit: 'soft' | 'hard' }[] {
    const met: { sa: string; limit: 'soft' | 'hard' }[] = [];
    for (const [sa, lifetime] of this.#lifetimes) {
      const events = lifetime.events();
      if ((events & LifetimeEvent.SOFT) !== 0) met.push({ sa, limit: 'soft' });
      if ((events & LifetimeEvent.HARD) !== 0) met.push({ sa, limit: 'hard' });
    }
    return met;
  }

  /** Totals since the start, all workers together. */
  stats(): GatewayStats {
    const { lowers, plan } = this.#options;
    const drops: Record<string, number> = {};
    for (const { code, name } of DROP_TABLE) {
      const n = this.#workers.reduce((sum, w) => sum + w.stats[code]!, 0);
      if (n > 0) drops[name] = n;
    }
    const slaves = this.bond.slaves().map((slave) => {
      const lower = lowers.find((l) => l.index === slave.index)!;
      const total = (column: number): number => {
        let sum = 0;
        for (let p = 0; p < lower.ports; p++) sum += lower.stats.port(p)[column]!;
        return sum;
      };
      return {
        ...slave,
        sent: total(PortStat.SENT),
        sealed: total(PortStat.SEALED),
        clear: total(PortStat.CLEAR),
        received: total(PortStat.RECEIVED),
        opened: total(PortStat.OPENED),
        noHandle: total(PortStat.NO_HANDLE),
        refused: total(PortStat.REFUSED),
        unsent: total(PortStat.UNSENT),
        overrun: total(PortStat.OVERRUN),
      };
    });
    const sas = plan.sas.map(({ name }) => {
      const at = DROP_CODES + (this.#slots.get(name) ?? 0) * SaStat.COLUMNS;
      const total = (column: number): number => this.#workers.reduce((sum, w) => sum + w.stats[at + column]!, 0);
      return { name, packets: total(SaStat.PACKETS), bytes: total(SaStat.BYTES), software: total(SaStat.SOFTWARE) };
    });
    return { slaves, drops, sas };
  }

  async #start(): Promise<void> {
    const { plan, lowers } = this.#options;
    for (const lower of lowers) await this.bond.enslave(lower);
    await Promise.all(Array.from({ length: plan.workers }, (_, i) => this.#startWorker(i)));
    if (plan.sas.some((sa) => sa.offload === 'crypto')) await this.bond.setFeatures(Feature.HW_ESP);
    // Inbound first: nothing may arrive for an SA that is not there.
    for (const sa of plan.sas.filter((s) => s.direction === 'in')) await this.#addSa(sa);
    for (const sa of plan.sas.filter((s) => s.direction === 'out')) await this.#addSa(sa);
    await this.#tellAll({
      type: 'policies',
      policies: plan.policies.map(({ sa, ...policy }) => ({ ...policy, slot: sa === null ? -1 : this.slotOf(sa) })),
    });
    this.#started = true;
  }

  #link(): Uint8Array | null {
    const { plan, lowers } = this.#options;
    const { mac = lowers[0]?.mac, peerMac } = plan.bond;
    const none = new Uint8Array(6);
    return this.bond.linkType === 'ethernet' ? Uint8Array.from([...(peerMac ?? none), ...(mac ?? none), 0, 0]) : null;
  }

  async #startWorker(worker: number): Promise<void> {
    const { plan, lowers, inside, workerFile = workerFileBeside(import.meta.url) } = this.#options;
    const { binding } = load();
    const stats = new SharedArrayBuffer((DROP_CODES + MAX_SAS * SaStat.COLUMNS) * 8);
    const mail = new SharedArrayBuffer(4);
    const wake = binding === null ? -1 : binding.eventOpen();
    const start: WorkerStart = {
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
      stats,
      mail,
      wake,
    };
    const thread = new Worker(workerFile, { workerData: start });
    const handle: WorkerHandle = {
      thread,
      mail: new Int32Array(mail),
      stats: new Float64Array(stats),
      wake,
      waiting: new Map(),
      next: 1,
      gone: null,
    };
    this.#workers.push(handle);
    await new Promise<void>((resolve, reject) => {
      handle.waiting.set(0, { resolve, reject });
      thread.on('message', ({ id, failure }: Answer) => {
        const waiter = handle.waiting.get(id);
        handle.waiting.delete(id);
        if (failure === null) waiter?.resolve();
        else waiter?.reject(errorOf(failure));
      });
      const end = (why: Error): void => {
        if (handle.gone !== null) return;
        handle.gone = why;
        this.bond.workerGone(worker);
        for (const waiter of handle.waiting.values()) waiter.reject(why);
        handle.waiting.clear();
        if (this.#started && this.#stopping === null) this.#options.onFailure?.(why);
      };
      thread.on('error', end);
      thread.on('exit', (code) => end(new XfrmError({ code: 'CLOSED', what: `worker ${worker} ended (${code})` })));
    });
  }

  async #addSa(plan: SaPlan): Promise<void> {
    const { direction, spi, source, destination, algorithm, esn, offload, noHandle, spread } = plan;
    const key = SaKey.import(algorithm, plan.key);
    this.#keys.push(key);
    const sa: Sa = this.#sad.add({
      direction,
      spi,
      source,
      destination,
      mode: 'tunnel',
      algorithm,
      icvLength: ALGORITHMS[algorithm].icvLength,
      esn,
      key,
      encap: null,
      offload: offload === 'none' ? null : { type: 'crypto', device: this.bond },
    });
    const { slot } = sa;
    this.#slots.set(plan.name, slot);
    let offloaded = sa;
    const { icvLength } = sa;
    const common = {
      slot,
      spi,
      source,
      destination,
      mode: 'tunnel' as const,
      algorithm,
      icvLength,
      esn,
      key: key.share(),
      encap: null,
      ...(plan.lifetime === undefined ? {} : { lifetime: this.#lifetime(plan.name, plan.lifetime) }),
    };
    if (direction === 'in') {
      const options = { size: plan.window, esn, workers: this.#options.plan.workers };
      const window = ReplayWindow.create({
        ...options,
        memory: this.#arena.memory,
        offset: this.#place(ReplayWindow.byteLength(options)),
      });
      // Lowers with ESN state of their own are told where the window is.
      offloaded = { ...sa, bottom: () => window.bottom() };
      await this.#tellAll({
        type: 'add-in',
        ticket: {
          ...common,
          window: { memory: window.memory, offset: window.offset },
          ...(plan.selectors === undefined ? {} : { selectors: plan.selectors }),
        },
      });
    } else {
      const allocator = SequenceAllocator.create({
        esn,
        memory: this.#arena.memory,
        offset: this.#place(SequenceAllocator.byteLength()),
      });
      await this.#tellAll({
        type: 'add-out',
        ticket: {
          ...common,
          allocator: { memory: allocator.memory, offset: allocator.offset },
          offload: offload === 'crypto',
          noHandle,
          ...(spread === undefined ? {} : { spread }),
          link: this.#link(),
          mtu: this.bond.linkType === 'esp-udp' ? this.bond.mtu : this.#options.plan.bond.mtu,
        },
      });
    }
    if (offload === 'crypto') this.#handles.push(await this.bond.stateAdd(offloaded));
  }

  /** Lifetimes of one SA in the arena; the timer tells of what happens to them. */
  #lifetime(name: string, limits: LifetimePlan): { memory: SharedArrayBuffer; offset: number } {
    const { memory } = this.#arena;
    const lifetime = Lifetime.create({ ...limits, memory, offset: this.#place(Lifetime.byteLength()) });
    this.#lifetimes.set(name, lifetime);
    return { memory, offset: lifetime.offset };
  }

  #place(bytes: number): number {
    const offset = this.#arena.allocate(bytes);
    if (offset < 0) throw new XfrmError({ code: 'NO_SPACE', what: 'no room for another SA in the arena' });
    return offset;
  }

  async #tellAll(order: Order): Promise<void> {
    await Promise.all(this.#workers.map((w) => this.#tell(w, order)));
  }

  #tell(worker: WorkerHandle, order: Order): Promise<void> {
    if (worker.gone !== null) return Promise.reject(worker.gone);
    const id = worker.next++;
    return new Promise((resolve, reject) => {
      worker.waiting.set(id, { resolve, reject });
      worker.thread.postMessage({ id, order });
      Atomics.add(worker.mail, 0, 1);
      Atomics.notify(worker.mail, 0);
      if (worker.wake >= 0) load().binding?.eventSignal(worker.wake);
    });
  }

  async #stop(): Promise<void> {
    await Promise.all(
      this.#workers.map(async (w, i) => {
        await this.#tell(w, { type: 'stop' }).catch(() => undefined);
        await w.thread.terminate();
        this.bond.workerGone(i);
        if (w.wake >= 0) load().binding?.close(w.wake);
      }),
    );
    for (const handle of this.#handles) {
      this.bond.stateDelete(handle);
      await this.bond.stateFree(handle);
    }
    await this.bond.close();
    clearInterval(this.#ticker);
    for (const lower of this.#options.lowers) await lower.close();
    this.#options.inside.close();
    for (const key of this.#keys) key.wipe();
  }
}
