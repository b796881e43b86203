import { SoftOffload } from '@espalier/esp';
import { errnoName, LinkWatch, linkInfo, load } from '@espalier/native';
import { ESP_UDP_PORT } from '@espalier/wire';
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

export interface UdpEndpoint {
  /** 4 or 16 bytes, network order. */
  readonly address: Uint8Array;
  /** 4500 (RFC 3948) when absent. */
  readonly port?: number;
}

export interface UdpOptions {
  readonly name: string;
  /** Lower index in the house. */
  readonly index: number;
  /** One per worker; the kernel spreads what arrives over them by addresses and ports (SO_REUSEPORT). */
  readonly ports: number;
  readonly local: UdpEndpoint;
  /** Of the local address's family. */
  readonly peer: UdpEndpoint;
  /**
   * Source ports to send from, chosen by the inner flow, so that switches and the peer's queues spread one SA. 0 when
   * absent: everything leaves from the local port. The peer must take ESP from any port, as a NAT makes it.
   */
  readonly sourcePorts?: number;
  /** Interface whose state is the lower's; without one it counts as up. */
  readonly device?: string;
  /** Bytes of the largest IP packet; the interface's or 1500 when absent. */
  readonly mtu?: number;
  /** How often to look at the interface, milliseconds; 2 when absent, 0 = only on `refresh()`. */
  readonly watchMs?: number;
}

export interface UdpTicket extends PortTicket {
  readonly kind: 'udp';
  readonly local: Required<UdpEndpoint>;
  readonly peer: Required<UdpEndpoint>;
  readonly sourcePorts: number;
  readonly keys: SharedArrayBuffer;
  readonly stats: SharedArrayBuffer;
  readonly link: SharedArrayBuffer;
}

const IPV4_UDP = 28;
const IPV6_UDP = 48;

/** UDP sockets as a lower of link type esp-udp: rows begin at the ESP header, the addresses are the sockets'. */
export class UdpDevice implements LowerDevice {
  readonly linkType = 'esp-udp';
  readonly mac = null;
  readonly headroom = 0;
  readonly tailroom = 0;
  readonly speedMbps = 10_000;
  readonly name: string;
  readonly index: number;
  readonly ports: number;
  /** Bytes of the largest ESP packet: what is left of the link's after IP and UDP. */
  readonly mtu: number;
  readonly stats: PortStats;
  readonly xfrm: SoftOffload;
  readonly #local: Required<UdpEndpoint>;
  readonly #peer: Required<UdpEndpoint>;
  readonly #sourcePorts: number;
  readonly #watch: LinkWatch | null;
  readonly #words: Int32Array;
  #features: FeatureSet = { hw: Feature.HW_ESP, wanted: 0, active: 0 };

  private constructor(options: UdpOptions, mtu: number, watch: LinkWatch | null) {
    this.name = options.name;
    this.index = options.index;
    this.ports = options.ports;
    this.mtu = mtu - (options.local.address.length === 4 ? IPV4_UDP : IPV6_UDP);
    this.stats = createPortStats(options.ports);
    this.xfrm = new SoftOffload({ device: options.name, ports: options.ports });
    this.#local = { port: ESP_UDP_PORT, ...options.local };
    this.#peer = { port: ESP_UDP_PORT, ...options.peer };
    this.#sourcePorts = options.sourcePorts ?? 0;
    this.#watch = watch;
    this.#words = watch?.words ?? Int32Array.from(new Int32Array(new SharedArrayBuffer(8)).fill(1));
  }

  /**
   * Opens nothing yet but checks that it could. Throws XfrmError: UNSUPPORTED without the addon, NOT_FOUND (no such
   * interface, an address that is not ours), BUSY, SYSTEM.
   */
  static open(options: UdpOptions): UdpDevice {
    const { name, local, peer, device, watchMs = 2 } = options;
    if (local.address.length !== peer.address.length) throw new RangeError('local and peer addresses of two families');
    const found = load();
    if (found.binding === null)
      throw new XfrmError({
        code: 'UNSUPPORTED',
        device: name,
        what: `UDP without the native addon (${found.reason}; ${found.mend})`,
      });
    const { binding } = found;
    const info = device === undefined ? null : linkInfo(binding, device);
    if (typeof info === 'number')
      throw new XfrmError({ code: 'NOT_FOUND', what: `no network interface ${device} (${errnoName(info)})` });
    const socket = binding.udpOpen(local.address, local.port ?? ESP_UDP_PORT, peer.address, peer.port ?? ESP_UDP_PORT);
    if (socket < 0) throw cannotBind(name, socket);
    binding.udpClose(socket);
    const watch = info === null ? null : new LinkWatch(binding, device!, info.index, watchMs);
    return new UdpDevice(options, options.mtu ?? info?.mtu ?? 1500, watch);
  }

  get features(): FeatureSet {
    return this.#features;
  }

  get running(): boolean {
    return this.#watch?.running ?? true;
  }

  get carrier(): boolean {
    return this.#watch?.carrier ?? true;
  }

  /** Reads the interface's state now. */
  refresh(): void {
    this.#watch?.refresh();
  }

  async setFeatures(wanted: number): Promise<number> {
    this.#features = wantFeatures(this.#features, wanted);
    return this.#features.active;
  }

  onChange(listener: () => void): () => void {
    return this.#watch?.onChange(listener) ?? (() => undefined);
  }

  /** A send is complete when the call returns. */
  inFlight(): number {
    return 0;
  }

  ticket(port: number): UdpTicket {
    if (!Number.isInteger(port) || port < 0 || port >= this.ports)
      throw new RangeError(`port ${port} of ${this.ports}`);
    return {
      kind: 'udp',
      index: this.index,
      port,
      local: this.#local,
      peer: this.#peer,
      sourcePorts: this.#sourcePorts,
      keys: this.xfrm.memory,
      stats: this.stats.memory,
      link: this.#words.buffer as SharedArrayBuffer,
    };
  }

  async close(): Promise<void> {
    this.xfrm.close();
    this.#watch?.close();
  }
}

/** Why a socket of this lower could not be opened. */
export function cannotBind(name: string, result: number): XfrmError {
  const errno = errnoName(result);
  const what = `cannot bind the UDP socket of ${name} (${errno})`;
  if (errno === 'EADDRINUSE') return new XfrmError({ code: 'BUSY', what });
  if (errno === 'EADDRNOTAVAIL') return new XfrmError({ code: 'NOT_FOUND', what: `${what}: no such local address` });
  return new XfrmError({ code: 'SYSTEM', call: 'bind', errno, what });
}
