import { SoftOffload } from '@espalier/esp';
import { type Binding, errnoName, LinkWatch, linkInfo, load } from '@espalier/native';
import {
  createPortStats,
  Feature,
  type FeatureSet,
  type LowerDevice,
  type PortStats,
  type PortTicket,
  wantFeatures,
  XfrmError,
} from '@espalier/xfrm';

export interface AfPacketOptions {
  /** An existing Ethernet interface. */
  readonly name: string;
  /** Lower index in the house. */
  readonly index: number;
  /** One per worker. */
  readonly ports: number;
  /** Which port receives; the others only send. With several receivers each would see every frame. */
  readonly receiver: number;
  /** Frames in the receive ring, a power of two; 4096 when absent. */
  readonly ringSlots?: number;
  /** How often to look at carrier and admin state, milliseconds; 2 when absent, 0 = only on `refresh()`. */
  readonly watchMs?: number;
}

export interface AfPacketTicket extends PortTicket {
  readonly kind: 'af-packet';
  readonly ifindex: number;
  /** 0 = this port only sends. */
  readonly ringSlots: number;
  readonly keys: SharedArrayBuffer;
  readonly stats: SharedArrayBuffer;
  /** Words: running, carrier. */
  readonly link: SharedArrayBuffer;
}

/** An Ethernet interface through AF_PACKET sockets; works inside a user namespace. HW_ESP is carried by software. */
export class AfPacketDevice implements LowerDevice {
  readonly linkType = 'ethernet';
  readonly headroom = 0;
  readonly tailroom = 0;
  readonly speedMbps = 10_000;
  readonly name: string;
  readonly index: number;
  readonly ports: number;
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly stats: PortStats;
  readonly xfrm: SoftOffload;
  readonly #ifindex: number;
  readonly #receiver: number;
  readonly #ringSlots: number;
  readonly #watch: LinkWatch;
  #features: FeatureSet = { hw: Feature.HW_ESP, wanted: 0, active: 0 };

  private constructor(options: AfPacketOptions, binding: Binding, info: Exclude<ReturnType<typeof linkInfo>, number>) {
    this.name = options.name;
    this.index = options.index;
    this.ports = options.ports;
    this.mac = info.mac;
    this.mtu = info.mtu;
    this.stats = createPortStats(options.ports);
    this.xfrm = new SoftOffload({ device: options.name, ports: options.ports });
    this.#ifindex = info.index;
    this.#receiver = options.receiver;
    this.#ringSlots = options.ringSlots ?? 4096;
    this.#watch = new LinkWatch(binding, options.name, info.index, options.watchMs ?? 2);
  }

  /** Throws XfrmError: UNSUPPORTED without the addon, NOT_FOUND, PERMISSION. Opens nothing yet but checks that it could. */
  static open(options: AfPacketOptions): AfPacketDevice {
    const { name } = options;
    const found = load();
    if (found.binding === null)
      throw new XfrmError({
        code: 'UNSUPPORTED',
        device: name,
        what: `AF_PACKET without the native addon (${found.reason}; ${found.mend})`,
      });
    const info = linkInfo(found.binding, name);
    if (typeof info === 'number')
      throw new XfrmError({ code: 'NOT_FOUND', what: `no network interface ${name} (${errnoName(info)})` });
    const socket = found.binding.packetOpen(info.index, 0);
    if (socket < 0)
      throw new XfrmError({
        code: 'PERMISSION',
        what: `cannot open an AF_PACKET socket on ${name} (${errnoName(socket)}): CAP_NET_RAW is needed, as root or inside unshare -Urn`,
      });
    found.binding.packetClose(socket);
    return new AfPacketDevice(options, found.binding, info);
  }

  get features(): FeatureSet {
    return this.#features;
  }

  get running(): boolean {
    return this.#watch.running;
  }

  get carrier(): boolean {
    return this.#watch.carrier;
  }

  /** Reads the interface's state now; an interface that is gone is down. */
  refresh(): void {
    this.#watch.refresh();
  }

  async setFeatures(wanted: number): Promise<number> {
    this.#features = wantFeatures(this.#features, wanted);
    return this.#features.active;
  }

  onChange(listener: () => void): () => void {
    return this.#watch.onChange(listener);
  }

  /** A send is complete when the call returns. */
  inFlight(): number {
    return 0;
  }

  ticket(port: number): AfPacketTicket {
    if (!Number.isInteger(port) || port < 0 || port >= this.ports)
      throw new RangeError(`port ${port} of ${this.ports}`);
    return {
      kind: 'af-packet',
      index: this.index,
      port,
      ifindex: this.#ifindex,
      ringSlots: port === this.#receiver ? this.#ringSlots : 0,
      keys: this.xfrm.memory,
      stats: this.stats.memory,
      link: this.#watch.words.buffer as SharedArrayBuffer,
    };
  }

  async close(): Promise<void> {
    this.xfrm.close();
    this.#watch.close();
  }
}
