import {
  createPortStats,
  ESP_FEATURES,
  type FeatureSet,
  type LinkType,
  type LowerDevice,
  type PortStats,
  type PortTicket,
  PostedTable,
  wantFeatures,
  XfrmError,
} from '@espalier/xfrm';
import type { MockFaults } from './faults.ts';
import { MockNic } from './nic.ts';
import type { MockSaTableTicket } from './sa-table.ts';
import type { MockSide, MockWire, MockWireTicket } from './wire.ts';

/** What a worker needs to open a port of a mock device; plain data. */
export interface MockTicket extends PortTicket {
  readonly kind: 'mock';
  /** This port polls the link; of all ports of one device, exactly one does. */
  readonly receive: boolean;
  readonly link: number;
  readonly side: MockSide;
  readonly linkType: LinkType;
  readonly mtu: number;
  /** Frames come back at `reap` instead of inside `xmit`. */
  readonly lateCompletion: boolean;
  readonly wire: MockWireTicket;
  readonly nic: MockSaTableTicket | null;
  readonly stats: SharedArrayBuffer;
  readonly posted: SharedArrayBuffer;
}

export interface MockDeviceOptions {
  readonly name: string;
  readonly index: number;
  readonly link: number;
  readonly side: MockSide;
  readonly ports: number;
  readonly linkType?: LinkType;
  readonly mac?: Uint8Array | null;
  /** Bytes of the largest L3 packet; default 1500. */
  readonly mtu?: number;
  readonly speedMbps?: number;
  /** SAs that the NIC holds at most; default 64. 0 = a device without offload. */
  readonly saSlots?: number;
  /** Whether the NIC resolves its handle per lower; default true. */
  readonly lowerHandle?: boolean;
  /** What the device could do; default everything. */
  readonly hwFeatures?: number;
  readonly lateCompletion?: boolean;
}

/** One end of a link of a MockWire: a lower like a NIC, with everything at hand that can go wrong. Control thread. */
export class MockDevice implements LowerDevice {
  readonly name: string;
  readonly index: number;
  readonly linkType: LinkType;
  readonly mac: Uint8Array | null;
  readonly mtu: number;
  readonly speedMbps: number;
  readonly headroom = 0;
  readonly tailroom = 0;
  readonly ports: number;
  readonly stats: PortStats;
  /** The NIC, with its injectable failures; null without offload. */
  readonly nic: MockNic | null;
  readonly wire: MockWire;
  readonly link: number;
  readonly side: MockSide;
  readonly #lateCompletion: boolean;
  readonly #posted: PostedTable;
  readonly #listeners: Set<() => void> = new Set();
  #features: FeatureSet;
  #failFeatures = 0;
  #closed: Promise<void> | null = null;

  constructor(wire: MockWire, options: MockDeviceOptions) {
    const { linkType = 'ethernet', mac = null, mtu = 1500, saSlots = 64 } = options;
    this.name = options.name;
    this.index = options.index;
    this.link = options.link;
    this.side = options.side;
    this.ports = options.ports;
    this.linkType = linkType;
    this.mac = mac;
    this.mtu = mtu;
    this.speedMbps = options.speedMbps ?? 10_000;
    this.wire = wire;
    this.stats = createPortStats(options.ports);
    this.nic =
      saSlots === 0 ? null : new MockNic(this.name, linkType, saSlots, options.ports, mtu, options.lowerHandle ?? true);
    this.#lateCompletion = options.lateCompletion ?? false;
    this.#posted = new PostedTable(options.ports);
    this.#features = { hw: saSlots === 0 ? 0 : (options.hwFeatures ?? ESP_FEATURES), wanted: 0, active: 0 };
  }

  get xfrm(): MockNic | null {
    return this.nic;
  }

  get features(): FeatureSet {
    return this.#features;
  }

  get running(): boolean {
    return this.wire.running(this.link, this.side);
  }

  get carrier(): boolean {
    return this.wire.carrier(this.link, this.side);
  }

  /** Administratively up or down; seen by every port from its next burst on. */
  setRunning(running: boolean): void {
    if (running === this.running) return;
    this.wire.setRunning(this.link, this.side, running);
    this.#changed();
  }

  /** Carrier of this end alone; `MockPair.setCarrier` cuts both ends. */
  setCarrier(carrier: boolean): void {
    if (carrier === this.carrier) return;
    this.wire.setCarrier(this.link, this.side, carrier);
    this.#changed();
  }

  /** What the device could do changes under the feet of its upper. */
  setHwFeatures(hw: number): void {
    if (hw === this.#features.hw) return;
    this.#features = wantFeatures({ ...this.#features, hw }, this.#features.wanted);
    this.#changed();
  }

  /** Faults for what this device sends. */
  setFaults(faults: MockFaults): void {
    this.wire.setFaults(this.link, this.side, faults);
  }

  /** The n-th `setFeatures` from now on is refused (1 = the next). */
  failFeatures(nth = 1): void {
    this.#failFeatures = nth;
  }

  async setFeatures(wanted: number): Promise<number> {
    if (this.#closed !== null) throw new XfrmError({ code: 'CLOSED', what: `${this.name} is closed` });
    await Promise.resolve();
    if (this.#failFeatures > 0 && --this.#failFeatures === 0)
      throw new XfrmError({ code: 'REFUSED', device: this.name, what: 'told to refuse these features' });
    this.#features = wantFeatures(this.#features, wanted);
    return this.#features.active;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  inFlight(): number {
    return this.#posted.inFlight();
  }

  fence(): () => boolean {
    return this.#posted.fence();
  }

  portGone(port: number): void {
    this.#posted.portGone(port);
    this.nic?.table.portGone(port);
  }

  /**
   * Port `port`, for worker `port`. By default port (link modulo ports) receives; a house that deals its lowers
   * otherwise says `{ ...ticket, receive }`, true for exactly one port.
   */
  ticket(port: number): MockTicket {
    if (!(port >= 0 && port < this.ports)) throw new RangeError(`${this.name} has no port ${port}`);
    if (this.#closed !== null) throw new XfrmError({ code: 'CLOSED', what: `${this.name} is closed` });
    return {
      kind: 'mock',
      index: this.index,
      port,
      receive: port === this.link % this.ports,
      link: this.link,
      side: this.side,
      linkType: this.linkType,
      mtu: this.mtu,
      lateCompletion: this.#lateCompletion,
      wire: this.wire.ticket(),
      nic: this.nic === null ? null : this.nic.table.ticket(),
      stats: this.stats.memory,
      posted: this.#posted.memory,
    };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.nic?.close();
    this.setRunning(false);
    this.#listeners.clear();
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}
