/**
 * Two gateways of two workers each on mock links, and everything between them in the hands of the test: the hosts behind
 * either one, and a wire through which every frame must go (two wires, and `pump` carries from one to the other).
 */
import { join } from 'node:path';
import { MockDevice, type MockDeviceOptions, MockTun, MockTunQueue, MockWire } from '@espalier/mock';
import {
  Gateway,
  type GatewayEvent,
  type GatewayOptions,
  type GatewayPlan,
  onEvents,
  type PolicyPlan,
  type SaPlan,
} from 'espalier';
import { afterEach } from 'vitest';
import { bundleWorker } from '../../../scripts/bundle.ts';

export const LINKS = 2;
const WORKERS = 2;
const RING_SLOTS = 512;
const OUTER = [Uint8Array.of(192, 0, 2, 1), Uint8Array.of(192, 0, 2, 2)] as const;
const MACS = [Uint8Array.of(2, 0, 0, 0, 0, 0xa), Uint8Array.of(2, 0, 0, 0, 0, 0xb)] as const;
const IPV4_ESP_AT = 14 + 20;
const NAMES = ['A', 'B'] as const;
let worker: string | null = null;

export type Side = 0 | 1;

/** What a test has opened or listens to. */
const open: { close(): Promise<void> }[] = [];

/** Behind each test of the file, its pairs are closed and its listeners deaf. */
export function tidy(): void {
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close();
  });
}

/** Events of one type, of gateway A (0) or B (1), as they are told from now on. */
export function listen<T extends GatewayEvent['type']>(side: Side, type: T): Extract<GatewayEvent, { type: T }>[] {
  const events: Extract<GatewayEvent, { type: T }>[] = [];
  const deafen = onEvents((event) => {
    if (event.type === type && event.gateway === NAMES[side]) events.push(event as Extract<GatewayEvent, { type: T }>);
  });
  open.push({ close: async () => deafen() });
  return events;
}

export const inner = (side: Side): Uint8Array => Uint8Array.of(10, side + 1, 0, 1);

/** The SA from a side, as that side has it (`out`) or the other (`in`): generation g has its own SPI, key and name. */
export function saOf(from: Side, direction: 'in' | 'out', generation = 0, more: Partial<SaPlan> = {}): SaPlan {
  return {
    name: `${direction}${generation}`,
    direction,
    spi: 0x1000 + 0x100 * from + 2 * generation,
    source: OUTER[from],
    destination: OUTER[1 - from]!,
    algorithm: 'aes128gcm16',
    key: new Uint8Array(20).fill(16 * from + generation + 1),
    esn: true,
    window: 4096,
    offload: 'crypto',
    noHandle: 'drop',
    ...(generation === 0 ? {} : { replaces: `${direction}${generation - 1}` }),
    ...more,
  };
}

export const any = { source: new Uint8Array(4), sourceBits: 0, destination: new Uint8Array(4), destinationBits: 0 };

export function planOf(side: Side, more: Partial<GatewayPlan> = {}): GatewayPlan {
  const policy: PolicyPlan = { ...any, protocol: null, action: 'protect', sa: 'out0' };
  return {
    workers: WORKERS,
    engine: 'auto',
    bond: {
      name: NAMES[side],
      mode: '802.3ad',
      policy: 'layer3+4',
      mac: MACS[side],
      peerMac: MACS[1 - side]!,
      lowers: [],
      mtu: 1500,
    },
    inside: { kind: 'mock', name: 'tun0', mtu: 1400, addresses: [] },
    sas: [saOf(side, 'out'), saOf((1 - side) as Side, 'in')],
    policies: [policy],
    ...more,
  };
}

/** An IPv4 packet with its header checksum left out, UDP, and a number for payload. */
export function packet(from: Side, id: number, length = 80, more: { df?: boolean } = {}): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes.set([0x45, 0, length >> 8, length & 255, 0, 0, more.df ? 0x40 : 0, 0, 64, 17, 0, 0]);
  bytes.set([...inner(from), ...inner((1 - from) as Side)], 12);
  // Flows of either worker's queue spread over the links by their ports.
  bytes.set([0x20, id & 7, 0x20, 0], 20);
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  sum = (sum & 0xffff) + (sum >>> 16);
  bytes.set([~(sum + (sum >>> 16)) >> 8, ~(sum + (sum >>> 16)) & 255], 10);
  new DataView(bytes.buffer).setUint32(28, id);
  return bytes;
}

export class Pair {
  readonly devices: [MockDevice[], MockDevice[]] = [[], []];
  readonly gateways: Gateway[] = [];
  /** Per side and worker: what a host writes into and reads from. */
  readonly hosts: readonly (readonly MockTunQueue[])[];
  /** Times that each number of each SPI was on a wire. */
  readonly numbers: Map<number, Map<number, number>> = new Map();
  /** Frames that are not ESP over IPv4. */
  plaintext: Uint8Array[] = [];
  /** Sees, and may swallow, every frame. */
  filter: (frame: Uint8Array, from: Side, link: number) => boolean = () => true;
  readonly #wires: readonly [MockWire, MockWire];
  readonly #insides: readonly [MockTun, MockTun];
  readonly #buffer: Uint8Array = new Uint8Array(2048);

  private constructor() {
    const wire = { links: LINKS, workers: WORKERS, ringSlots: RING_SLOTS };
    this.#wires = [MockWire.create(wire), MockWire.create(wire)];
    const inside = (): MockTun => new MockTun({ name: 'tun0', queues: WORKERS, ringSlots: RING_SLOTS });
    this.#insides = [inside(), inside()];
    this.hosts = this.#insides.map((tun) =>
      Array.from({ length: WORKERS }, (_, i) => MockTunQueue.attach(tun.ticket(i))),
    );
  }

  static async open(
    plans: readonly [GatewayPlan, GatewayPlan] = [planOf(0), planOf(1)],
    options: Partial<GatewayOptions> = {},
    device: Partial<MockDeviceOptions> = {},
  ): Promise<Pair> {
    worker ??= bundleWorker(join(import.meta.dirname, '..', 'src', 'worker.ts'));
    const pair = new Pair();
    open.push(pair);
    for (const side of [0, 1] as const) {
      const plan = plans[side];
      pair.devices[side] = Array.from(
        { length: LINKS },
        (_, link) =>
          new MockDevice(pair.#wires[side], {
            name: `${side === 0 ? 'a' : 'b'}${link}`,
            index: link,
            link,
            side,
            ports: WORKERS,
            mac: MACS[side],
            mtu: plan.bond.mtu,
            saSlots: 16,
            ...device,
          }),
      );
      const started = Gateway.start({
        plan,
        lowers: pair.devices[side],
        inside: pair.#insides[side],
        workerFile: worker,
        ...options,
      });
      pair.gateways[side] = await started.catch(async (error) => {
        await pair.close();
        throw error;
      });
    }
    return pair;
  }

  /** Carries what is on the wires; returns how many frames. */
  pump(): number {
    let moved = 0;
    for (const from of [0, 1] as const)
      for (let link = 0; link < LINKS; link++) for (let w = 0; w < WORKERS; w++) moved += this.#carry(from, link, w);
    return moved;
  }

  #carry(from: Side, link: number, workerOf: number): number {
    const ring = this.#wires[from].ring(link, from, workerOf);
    const far = this.#wires[1 - from]!;
    let taken = 0;
    for (let i = ring.next(ring.begin(), 0); i !== -1; i = ring.next((i + 1) | 0, 0)) {
      const frame = ring.bytes.slice(ring.at(i), ring.at(i) + ring.length(i));
      if (this.filter(frame, from, link) && !far.inject(link, from, frame)) break;
      this.#look(frame);
      ring.empty(i);
      taken++;
    }
    if (taken > 0) ring.release();
    return taken;
  }

  /** Puts a frame on a link as if `from` had sent it; false when there is no room. */
  inject(frame: Uint8Array, from: Side, link: number): boolean {
    return this.#wires[1 - from]!.inject(link, from, frame);
  }

  #look(frame: Uint8Array): void {
    if (frame[12] !== 8 || frame[13] !== 0 || frame[23] !== 50) {
      this.plaintext.push(frame);
      return;
    }
    const view = new DataView(frame.buffer, frame.byteOffset);
    const spi = view.getUint32(IPV4_ESP_AT);
    const numbers = this.numbers.get(spi) ?? new Map<number, number>();
    this.numbers.set(spi, numbers);
    const seq = view.getUint32(IPV4_ESP_AT + 4);
    numbers.set(seq, (numbers.get(seq) ?? 0) + 1);
  }

  /** Numbers seen more than once. */
  get repeated(): number {
    let count = 0;
    for (const numbers of this.numbers.values()) for (const times of numbers.values()) if (times > 1) count++;
    return count;
  }

  /** Everything that has come out at a side. */
  read(side: Side): Uint8Array[] {
    const all: Uint8Array[] = [];
    for (const queue of this.hosts[side]!)
      for (let n = queue.read(this.#buffer); n > 0; n = queue.read(this.#buffer)) all.push(this.#buffer.slice(0, n));
    return all;
  }

  /** Carries frames until `there`, or throws after so many milliseconds. */
  async until(there: () => boolean, what: string, ms = 15_000): Promise<void> {
    for (const end = performance.now() + ms; !there(); ) {
      if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
      if (this.pump() === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      else await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.gateways.map((gateway) => gateway.stop()));
  }
}

/** A stream of numbered packets, a bounded number of them under way. */
export class Stream {
  sent = 0;
  /** Number of the first packet. */
  readonly #base: number;
  readonly got: Map<number, number> = new Map();
  readonly #pair: Pair;
  readonly #from: Side;

  readonly #most: number;

  constructor(pair: Pair, from: Side, base = 0, most = 200) {
    this.#pair = pair;
    this.#from = from;
    this.#base = base;
    this.#most = most;
  }

  get lost(): number {
    return this.sent - this.got.size;
  }

  get twice(): number {
    return [...this.got.values()].filter((times) => times > 1).length;
  }

  /** Sends what fits, to both workers in turn, and takes in what has arrived. */
  step(send = true): void {
    const hosts = this.#pair.hosts[this.#from]!;
    while (
      send &&
      this.sent - this.got.size < this.#most &&
      hosts[this.sent % 2]!.write(packet(this.#from, this.#base + this.sent))
    )
      this.sent++;
    for (const bytes of this.#pair.read((1 - this.#from) as Side)) {
      const id = new DataView(bytes.buffer).getUint32(28);
      this.got.set(id, (this.got.get(id) ?? 0) + 1);
    }
  }
}
