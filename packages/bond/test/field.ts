import { nodeEngine } from '@espalier/esp/node';
import { createMockPair, type MockDevice, type MockPair, openMockPort } from '@espalier/mock';
import { type Burst, createBurst, createPool, createSlab, type FramePool, type FrameSlab, Row } from '@espalier/wire';
import { type HandleSource, LowerHandles, OffloadTable, type Port, type Sa, SaKey, XfrmError } from '@espalier/xfrm';
import { ESP_AT, writeToSeal } from '../../backends/mock/test/to-seal.ts';
import { BondDevice, type BondOptions, BondPort } from '../src/index.ts';

const MARKER = Buffer.from('NEVER-ON-A-WIRE-');
const PAYLOAD_AT = ESP_AT + 16;
const LENGTH = PAYLOAD_AT + 32 + 16;
const FIRST_SPI = 0x5000_0000;

export function saOf(slot: number, over: Partial<Sa> = {}): Sa {
  return {
    slot,
    direction: 'out',
    spi: FIRST_SPI + slot,
    source: Uint8Array.of(192, 0, 2, 1),
    destination: Uint8Array.of(192, 0, 2, 2),
    mode: 'tunnel',
    algorithm: 'aes128gcm16',
    icvLength: 16,
    esn: true,
    key: SaKey.import(
      'aes128gcm16',
      Uint8Array.from({ length: 20 }, (_, i) => slot * 7 + i),
    ),
    encap: null,
    offload: null,
    ...over,
  };
}

/** What a lower is told to do with one coming add. */
export type AddFault = 'refuse' | Promise<void>;

/** The NIC of one lower with a book of its own and faults that are asked for beforehand. */
export class Nic {
  readonly device: MockDevice;
  /** Handle -> slot; `dead` are deleted and not freed. */
  readonly live: Map<number, number> = new Map();
  readonly dead: Map<number, number> = new Map();
  /** Slots refused, or -1 for features, since last cleared. */
  readonly refused: number[] = [];
  /** For the coming adds, one each; undefined = none. */
  readonly faults: (AddFault | undefined)[] = [];
  failFeatures = 0;
  failFree = 0;
  /** Called around every operation: where traffic may come between. */
  between: () => void = () => {};

  constructor(device: MockDevice) {
    this.device = device;
    const nic = device.nic!;
    const { stateAdd, stateDelete, stateFree } = nic;
    nic.stateAdd = async (sa, signal) => {
      this.between();
      const fault = this.faults.shift();
      if (fault === 'refuse') {
        await Promise.resolve();
        this.refused.push(sa.slot);
        throw new XfrmError({ code: 'REFUSED', device: device.name, spi: sa.spi, what: 'told to refuse it' });
      }
      // A lower that is slow and deaf: it answers after it was aborted.
      if (fault !== undefined) await fault;
      const handle = await stateAdd.call(nic, sa, fault === undefined ? signal : undefined);
      this.live.set(handle, sa.slot);
      return handle;
    };
    nic.stateDelete = (handle) => {
      this.between();
      stateDelete.call(nic, handle);
      this.dead.set(handle, this.live.get(handle)!);
      this.live.delete(handle);
      this.between();
    };
    nic.stateFree = async (handle) => {
      if (this.failFree > 0 && --this.failFree === 0) {
        await Promise.resolve();
        throw new XfrmError({ code: 'REFUSED', device: device.name, what: 'told to fail this free' });
      }
      await stateFree.call(nic, handle);
      this.dead.delete(handle);
    };
    const { setFeatures } = device;
    device.setFeatures = async (wanted) => {
      if (this.failFeatures > 0 && --this.failFeatures === 0) {
        await Promise.resolve();
        this.refused.push(-1);
        throw new XfrmError({ code: 'REFUSED', device: device.name, what: 'told to refuse these features' });
      }
      return setFeatures.call(device, wanted);
    };
  }

  slots(): number[] {
    return [...this.live.values()].sort((a, b) => a - b);
  }
}

interface Hand {
  readonly slab: FrameSlab;
  readonly pool: FramePool;
  readonly burst: Burst;
  readonly bond: BondPort;
  readonly ports: Port[];
  readonly handles: LowerHandles;
  pinned: { lower: number; handle: number } | null;
}

export interface FieldOptions {
  readonly links?: number;
  readonly workers?: number;
  readonly saSlots?: number;
  readonly maxSas?: number;
  readonly lateCompletion?: boolean;
  readonly bond?: Partial<BondOptions>;
}

/**
 * A bond over mock lowers with workers on this thread, so that traffic can be put between any two steps of the actor. Every
 * frame on every wire is looked at by an observer that knows only the NICs' own books.
 */
export class Field {
  readonly pair: MockPair;
  readonly nics: Nic[];
  readonly offloads: OffloadTable;
  bond: BondDevice;
  readonly troubles: XfrmError[] = [];
  frames = 0;
  plaintext = 0;
  /** Frames of an SA without a handle on the lower that carried them. */
  homeless = 0;
  /** Frames whose number went out before. */
  duplicates = 0;
  /** By number modulo 1024: the last that went out; ours only rise, and no burst is that long. */
  readonly #last: Int32Array = new Int32Array(1024);
  /** Handles that were resolved under a pin and dead before it ended. */
  pulled = 0;
  readonly fates: Float64Array = new Float64Array(64);
  readonly #workers: number;
  readonly #maxSas: number;
  #hands: Hand[] = [];
  #seq = 1;
  #gates: (() => void)[] = [];

  constructor(options: FieldOptions = {}) {
    const { links = 4, workers = 2, saSlots = 8, maxSas = 8, lateCompletion = true } = options;
    this.#workers = workers;
    this.#maxSas = maxSas;
    this.pair = createMockPair({ links, workers, saSlots, lateCompletion, ringSlots: 64, slotBytes: 256 });
    this.nics = this.pair.a.map((device) => new Nic(device));
    this.offloads = OffloadTable.create(maxSas);
    this.bond = this.#make(options.bond ?? {});
  }

  /** A new bond over the same lowers, all up, nothing installed. */
  renew(bond: Partial<BondOptions>): void {
    for (const hand of this.#hands) for (const port of hand.ports) port.close();
    this.bond = this.#make(bond);
  }

  #make(options: Partial<BondOptions>): BondDevice {
    const bond = new BondDevice({
      name: 'bond0',
      index: 31,
      mode: '802.3ad',
      xmitHashPolicy: 'layer3+4',
      maxSas: this.#maxSas,
      maxLowers: 8,
      workers: this.#workers,
      offloads: this.offloads,
      idle: () => this.#idle(),
      report: (trouble) => this.troubles.push(trouble),
      ...options,
    });
    bond.tick(0);
    const ticket = bond.ticket();
    this.#hands = Array.from({ length: this.#workers }, (_, worker) => {
      const slab = createSlab({ frames: 128, frameSize: 512 });
      const pool = createPool(slab);
      let handles: LowerHandles | null = null;
      const late: HandleSource = { resolve: (slot, lower) => handles!.resolve(slot, lower) };
      const ports = this.pair.a.map((device) =>
        openMockPort(
          device.ticket(worker),
          { slab, pool, engine: nodeEngine(), handles: late },
          (bytes, start, end, link) => this.#observe(bytes, start, end, link),
        ),
      );
      const port = BondPort.attach(ticket, {
        worker,
        ports: new Map(this.pair.a.map((device, i) => [device.index, ports[i]!])),
        slab,
      });
      handles = new LowerHandles(this.offloads, port);
      return { slab, pool, burst: createBurst(slab, 64), bond: port, ports, handles, pinned: null };
    });
    return bond;
  }

  /** Puts a packet of each slot on its way through one worker, unless that worker is in the middle of a burst. */
  send(worker: number, slots: readonly number[], reap = true): void {
    const hand = this.#hands[worker]!;
    if (hand.pinned !== null) return;
    const { slab, pool, burst } = hand;
    burst.length = 0;
    for (const slot of slots) {
      const row = pool.take();
      if (row < 0) break;
      this.#write(slab, row, slot);
      burst.list[burst.length++] = row;
    }
    hand.bond.pin();
    hand.bond.xmit(burst);
    for (let i = 0; i < burst.length; i++) {
      const row = burst.list[i]!;
      const fate = slab.rows[row * Row.WORDS + Row.FATE]!;
      this.fates[fate] = this.fates[fate]! + 1;
      if (fate !== 0) pool.give(row);
    }
    hand.bond.unpin();
    if (reap) for (const port of hand.ports) port.reap();
    this.#drainWires();
  }

  /** The worker begins a burst and resolves a handle, to use it later. */
  pin(worker: number, slot: number, lower: number): void {
    const hand = this.#hands[worker]!;
    if (hand.pinned !== null) return;
    hand.bond.pin();
    hand.pinned = { lower, handle: hand.handles.resolve(slot, lower) };
  }

  /** It uses it, and ends the burst. */
  unpin(worker: number): void {
    const hand = this.#hands[worker]!;
    if (hand.pinned === null) return;
    const { lower, handle } = hand.pinned;
    if (handle !== 0 && !this.nics[lower]!.live.has(handle)) this.pulled++;
    hand.pinned = null;
    hand.bond.unpin();
  }

  reap(): void {
    for (const hand of this.#hands) for (const port of hand.ports) port.reap();
  }

  /** A promise that `open` or `openAll` resolves: for adds that are slow. */
  gate(): Promise<void> {
    return new Promise((resolve) => this.#gates.push(resolve));
  }

  get gates(): number {
    return this.#gates.length;
  }

  open(i: number): void {
    this.#gates.splice(i, 1)[0]?.();
  }

  openAll(): void {
    for (const go of this.#gates.splice(0)) go();
  }

  /** Called at random moments; what it does decides how workers behave while the actor waits. */
  whileIdle: () => void = () => {
    for (let worker = 0; worker < this.#workers; worker++) this.unpin(worker);
    this.reap();
  };

  async #idle(): Promise<void> {
    this.whileIdle();
    await Promise.resolve();
  }

  get violations(): number {
    return this.nics.reduce((sum, nic) => sum + nic.device.nic!.violations, 0);
  }

  /** Handles on all lowers that are not freed. */
  get installed(): number {
    return this.nics.reduce((sum, nic) => sum + nic.device.nic!.installed, 0);
  }

  #observe(bytes: Uint8Array, start: number, end: number, link: number): void {
    this.frames++;
    if (Buffer.from(bytes.buffer, start, end - start).indexOf(MARKER) >= 0) this.plaintext++;
    const at = start + ESP_AT;
    // A burst may leave through several lowers, in any order among them.
    const seq = (bytes[at + 4]! << 24) | (bytes[at + 5]! << 16) | (bytes[at + 6]! << 8) | bytes[at + 7]!;
    const bit = seq & 1023;
    if (this.#last[bit]! >= seq) this.duplicates++;
    this.#last[bit] = seq;
    const spi = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
    for (const slot of this.nics[link]!.live.values()) if (FIRST_SPI + slot === spi) return;
    this.homeless++;
  }

  #drainWires(): void {
    const { wire } = this.pair;
    for (let link = 0; link < this.nics.length; link++)
      for (let worker = 0; worker < this.#workers; worker++) {
        const ring = wire.ring(link, 0, worker);
        for (let i = ring.next(ring.begin(), 0); i !== -1; i = ring.next((i + 1) | 0, 0)) ring.empty(i);
        ring.release();
      }
  }

  #write(slab: FrameSlab, row: number, slot: number): void {
    const start = row * slab.frameSize + slab.headroom;
    const seq = this.#seq++;
    writeToSeal(slab, row, start, LENGTH, { slot, spi: FIRST_SPI + slot, seq, host: (seq & 127) + 1 });
    MARKER.copy(slab.bytes, start + PAYLOAD_AT);
  }
}

/** xorshift: the same seed, the same life. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ 0x1234567) | 1;
  }

  below(limit: number): number {
    let s = this.#state;
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    this.#state = s;
    return (s >>> 0) % limit;
  }

  one<T>(all: readonly T[]): T {
    return all[this.below(all.length)]!;
  }
}
