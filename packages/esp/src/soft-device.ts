import {
  createPortStats,
  Feature,
  type FeatureSet,
  type LinkType,
  type LowerDevice,
  NextHopTable,
  type PortStats,
  type PortTicket,
  wantFeatures,
} from '@espalier/xfrm';
import { SoftOffload } from './soft-offload.ts';

/** Of LinkSource: the first two are the control thread's, DOUBT is set to 1 by a port whose device refused a frame. */
export const LinkWord = { RUNNING: 0, CARRIER: 1, DOUBT: 2 } as const;

/** Who knows the state of a lower's link: `LinkWatch` of `@espalier/native`, or something of its shape. Control thread. */
export interface LinkSource {
  /** LinkWord in shared memory, each 0 or 1. For the ports. */
  readonly words: Int32Array;
  readonly running: boolean;
  readonly carrier: boolean;
  /** Looks now, whatever it has been told. */
  refresh(): void;
  /** Looks if a port is in doubt. */
  recheck(): void;
  /** Called on every change; returns a function that ends it. */
  onChange(listener: () => void): () => void;
  close(): void;
}

/** A link that nobody watches: it counts as up. */
export class SteadyLink implements LinkSource {
  readonly words: Int32Array = new Int32Array(new SharedArrayBuffer(12)).fill(1);
  readonly running = true;
  readonly carrier = true;
  refresh(): void {}
  recheck(): void {}
  onChange(): () => void {
    return () => undefined;
  }
  close(): void {}
}

/** What every device here is given by its backend. */
export interface SoftDeviceOptions {
  readonly name: string;
  /** Lower index in the house. */
  readonly index: number;
  /** One per worker. */
  readonly ports: number;
  readonly linkType: LinkType;
  /** Null where frames have no link addresses. */
  readonly mac: Uint8Array | null;
  /** Bytes of the largest L3 packet. */
  readonly mtu: number;
  /** The device closes it. */
  readonly link: LinkSource;
  /**
   * Who finds the link addresses of next hops and writes them into a table, until the device closes it. Absent: frames
   * keep the addresses that they come with.
   */
  readonly neighbours?: ((table: NextHopTable) => { close(): void }) | null;
}

/** What a SoftPort needs of its device; a backend's ticket adds how to reach the queue. */
export interface SoftTicket extends PortTicket {
  readonly keys: SharedArrayBuffer;
  readonly stats: SharedArrayBuffer;
  readonly link: SharedArrayBuffer;
  /** Where next hops are looked up, and the source address of what is sent to them; null = nothing is looked up. */
  readonly hops: { readonly table: SharedArrayBuffer; readonly mac: Uint8Array } | null;
}

/** A lower whose HW_ESP is carried by software and whose link somebody watches: all of a backend's device but its queues. */
export abstract class SoftDevice implements LowerDevice {
  readonly headroom = 0;
  readonly tailroom = 0;
  readonly speedMbps = 10_000;
  readonly name: string;
  readonly index: number;
  readonly ports: number;
  readonly linkType: LinkType;
  readonly mac: Uint8Array | null;
  readonly mtu: number;
  readonly stats: PortStats;
  readonly xfrm: SoftOffload;
  readonly #link: LinkSource;
  readonly #hops: NextHopTable | null;
  readonly #neighbours: { close(): void } | null;
  #features: FeatureSet = { hw: Feature.HW_ESP, wanted: 0, active: 0 };

  protected constructor(options: SoftDeviceOptions) {
    const { name, index, ports, linkType, mac, mtu, link } = options;
    this.name = name;
    this.index = index;
    this.ports = ports;
    this.linkType = linkType;
    this.mac = mac;
    this.mtu = mtu;
    this.stats = createPortStats(ports);
    this.xfrm = new SoftOffload({ device: name, ports });
    this.#link = link;
    const { neighbours = null } = options;
    this.#hops = neighbours === null ? null : new NextHopTable();
    this.#neighbours = neighbours?.(this.#hops!) ?? null;
  }

  get features(): FeatureSet {
    return this.#features;
  }

  get running(): boolean {
    return this.#link.running;
  }

  get carrier(): boolean {
    return this.#link.carrier;
  }

  /** Reads the link's state now; an interface that is gone is down. */
  refresh(): void {
    this.#link.refresh();
  }

  recheck(): void {
    this.#link.recheck();
  }

  async setFeatures(wanted: number): Promise<number> {
    this.#features = wantFeatures(this.#features, wanted);
    return this.#features.active;
  }

  onChange(listener: () => void): () => void {
    return this.#link.onChange(listener);
  }

  /** A send is complete when the call returns; a device that sends later overrides it. */
  inFlight(): number {
    return 0;
  }

  abstract ticket(port: number): SoftTicket;

  /** The part of a ticket that is the same for all. Throws RangeError when there is no such port. */
  protected softTicket(port: number): Omit<SoftTicket, 'kind'> {
    if (!Number.isInteger(port) || port < 0 || port >= this.ports)
      throw new RangeError(`port ${port} of ${this.ports}`);
    return {
      index: this.index,
      port,
      keys: this.xfrm.memory,
      stats: this.stats.memory,
      link: this.#link.words.buffer as SharedArrayBuffer,
      hops: this.#hops === null || this.mac === null ? null : { table: this.#hops.memory, mac: this.mac },
    };
  }

  /** No SA is taken from now on, the link is no longer watched. Safe to call twice. */
  async close(): Promise<void> {
    this.xfrm.close();
    this.#link.close();
    this.#neighbours?.close();
  }
}
