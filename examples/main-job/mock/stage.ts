/** The main job on a wire in memory: both gateways in this process, the hosts and the observer on threads of their own. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { MockDevice, MockTun, MockWire } from '@espalier/mock';
import { Gateway, type GatewayStats, type Rekey } from 'espalier';
import { LINKS, PAIRS, WORKERS } from '../plans.ts';
import { KEEP_BYTES, OVERLAP_MS, type Seen, type Side, type Stage, type StageOptions, type Traffic } from '../stage.ts';
import { Control } from './controls.ts';
import type { HostEnd, HostStart } from './host.ts';
import type { ObserverEnd, ObserverStart } from './observer.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
/** What is under way on a wire at most, frames a ring. */
const RING_SLOTS = 1024;
const SA_SLOTS = 64;
const KEEPS = 4;

export class MockStage implements Stage {
  readonly traffic = 'mock wire, streams of UDP';
  readonly observer: Stage['observer'];
  readonly #options: StageOptions;
  readonly #control: Int32Array = new Int32Array(new SharedArrayBuffer(Control.WORDS * 4));
  /** The first joins A and the observer, the second the observer and B. */
  readonly #wires: readonly [MockWire, MockWire];
  readonly #devices: [MockDevice[], MockDevice[]] = [[], []];
  readonly #insides: readonly [MockTun, MockTun];
  readonly #gateways: Gateway[] = [];
  readonly #rekeys: Rekey[] = [];
  readonly #threads: Worker[] = [];
  readonly #recording: SharedArrayBuffer = new SharedArrayBuffer(KEEPS * KEEP_BYTES);
  #recorded = 0;
  #observed!: Promise<ObserverEnd>;
  #end: HostEnd | null = null;
  #error: string | null = null;
  #closing: Promise<void> | null = null;

  private constructor(options: StageOptions) {
    this.#options = options;
    const wire = { links: LINKS, workers: WORKERS, ringSlots: RING_SLOTS };
    this.#wires = [MockWire.create(wire), MockWire.create(wire)];
    this.#insides = [this.#inside(), this.#inside()];
    this.#set(Control.FOLLOW, -1);
    this.#set(Control.REPLAY, 1);
    this.observer = {
      replay: (on) => this.#order(Control.REPLAY, on ? 1 : 0),
      follow: (link) => this.#order(Control.FOLLOW, link),
      moved: async () => Atomics.load(this.#control, Control.MOVED),
      keep: () => this.#order(Control.KEEP, this.#control[Control.KEEP]! + 1),
      finish: () => this.#finishObserver(),
      recording: () => new Uint8Array(this.#recording, 0, this.#recorded),
    };
  }

  static async open(options: StageOptions): Promise<MockStage> {
    const stage = new MockStage(options);
    try {
      await Promise.all(([0, 1] as const).map((side) => stage.#startGateway(side)));
      stage.#startObserver();
      return stage;
    } catch (error) {
      await stage.close();
      throw error;
    }
  }

  async stats(side: Side): Promise<GatewayStats> {
    return this.#gateways[side]!.stats();
  }

  withdraw(side: Side, sa: string, lower: number): Promise<void> {
    const gateway = this.#gateways[side]!;
    return gateway.bond.withdraw(gateway.slotOf(sa), lower);
  }

  restore(side: Side, sa: string, lower: number): Promise<void> {
    const gateway = this.#gateways[side]!;
    return gateway.bond.restore(gateway.slotOf(sa), lower);
  }

  async rekey(side: Side): Promise<void> {
    const times = { switchAfterMs: Number.POSITIVE_INFINITY, overlapMs: OVERLAP_MS };
    this.#rekeys[side] = await this.#gateways[side]!.rekey(this.#options.successors[side], times);
  }

  switchOver(side: Side): Promise<void> {
    return this.#rekeys[side]!.switchNow();
  }

  rekeyed(side: Side): Promise<void> {
    return this.#rekeys[side]!.done;
  }

  /** As `ip link set a0 down` has it: A's end is down, B's has lost its carrier, what is between is gone. */
  async cut(link: number): Promise<void> {
    Atomics.or(this.#control, Control.CUT, 1 << link);
    this.#devices[0][link]!.setRunning(false);
    this.#devices[1][link]!.setCarrier(false);
  }

  async mend(link: number): Promise<void> {
    Atomics.and(this.#control, Control.CUT, ~(1 << link));
    this.#devices[0][link]!.setRunning(true);
    this.#devices[1][link]!.setCarrier(true);
  }

  async start(bytes: number): Promise<void> {
    for (const side of [0, 1] as const) {
      const start: HostStart = {
        side,
        queues: Array.from({ length: WORKERS }, (_, worker) => this.#insides[side].ticket(worker)),
        control: this.#control.buffer as SharedArrayBuffer,
        bytes: Math.ceil(bytes / PAIRS),
        marker: this.#options.marker,
      };
      const thread = this.#thread('mock-host.mjs', start);
      thread.on('message', (end: HostEnd) => {
        this.#end = end;
      });
    }
  }

  progress(): Traffic {
    const sent = this.#end?.bytes ?? this.#control[Control.SENT]! * 1024;
    if (this.#error !== null) return { sent, outcome: { same: 0, bytes: sent, error: this.#error } };
    return { sent, outcome: this.#end === null ? null : { same: this.#end.same, bytes: this.#end.bytes } };
  }

  release(): void {
    this.#set(Control.RELEASED, 1);
  }

  finish(): void {
    this.#set(Control.FINISH, 1);
  }

  async echoes(): Promise<{ answered: number; sent: number } | null> {
    return this.#end === null ? null : { answered: this.#end.answered, sent: this.#end.asked };
  }

  async extra(): Promise<string | null> {
    return null;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #set(word: number, value: number): void {
    Atomics.store(this.#control, word, value);
  }

  /** Resolves when the observer follows it. */
  async #order(word: number, value: number): Promise<void> {
    this.#set(word, value);
    const order = Atomics.add(this.#control, Control.ORDERED, 1) + 1;
    while (Atomics.load(this.#control, Control.OBEYED) < order && this.#closing === null)
      await new Promise((resolve) => setTimeout(resolve, 1));
  }

  #inside(): MockTun {
    return new MockTun({ name: 'tun0', queues: WORKERS, ringSlots: RING_SLOTS });
  }

  async #startGateway(side: Side): Promise<void> {
    const { plans, leaky } = this.#options;
    const plan = plans[side];
    const wire = this.#wires[side];
    const lowers = plan.bond.lowers.map(({ name }, link) => {
      const { mtu, mac = null } = plan.bond;
      return new MockDevice(wire, { name, index: link, link, side, ports: WORKERS, mtu, mac, saSlots: SA_SLOTS });
    });
    this.#devices[side] = lowers;
    this.#gateways[side] = await Gateway.start({
      plan,
      lowers,
      inside: this.#insides[side],
      workerFile: join(HERE, leaky ? 'leaky-worker.mjs' : 'worker.mjs'),
      onFailure: (error) => {
        this.#error = error.message;
      },
    });
  }

  #startObserver(): void {
    const start: ObserverStart = {
      toA: this.#wires[0].ticket(),
      toB: this.#wires[1].ticket(),
      control: this.#control.buffer as SharedArrayBuffer,
      marker: this.#options.marker,
      recording: this.#recording,
    };
    const thread = this.#thread('mock-observer.mjs', start);
    this.#observed = new Promise((resolve, reject) => {
      thread.on('message', resolve);
      thread.on('exit', () => reject(new Error('the observer ended early')));
    });
    this.#observed.catch(() => undefined);
  }

  #thread(file: string, start: HostStart | ObserverStart): Worker {
    const thread = new Worker(join(HERE, file), { workerData: start });
    thread.on('error', (error) => {
      this.#error ??= error.message;
    });
    this.#threads.push(thread);
    return thread;
  }

  async #finishObserver(): Promise<Seen> {
    this.#set(Control.STOP, 1);
    Atomics.notify(this.#control, Control.STOP);
    const { seen, recorded } = await this.#observed;
    this.#recorded = recorded;
    return seen;
  }

  async #close(): Promise<void> {
    this.#set(Control.STOP, 1);
    Atomics.notify(this.#control, Control.STOP);
    await Promise.all(this.#threads.map((thread) => thread.terminate()));
    await Promise.all(this.#gateways.filter(Boolean).map((gateway) => gateway.stop()));
  }
}
