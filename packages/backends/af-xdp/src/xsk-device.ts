import { SoftOffload } from '@espalier/esp';
import { type Binding, errnoName, type LinkInfo, LinkWatch, linkInfo, load } from '@espalier/native';
import {
  createPortStats,
  Feature,
  type FeatureSet,
  type LowerDevice,
  type PortStats,
  type PortTicket,
  PostedTable,
  wantFeatures,
  XfrmError,
} from '@espalier/xfrm';

export interface XskOptions {
  /** An existing Ethernet interface with a queue for every port. */
  readonly name: string;
  /** Lower index in the house. */
  readonly index: number;
  /** One per worker: port i is the interface's queue i. */
  readonly ports: number;
  /** `driver`: XDP in the driver; `generic`: in the stack; `auto`: the first that works. */
  readonly attach?: 'auto' | 'driver' | 'generic';
  /** `auto` lets the driver choose, which means zero-copy where it can. */
  readonly copy?: 'auto' | 'copy' | 'zero-copy';
  /** How often to look at carrier and admin state, milliseconds; 2 when absent, 0 = only on `refresh()`. */
  readonly watchMs?: number;
}

export interface XskTicket extends PortTicket {
  readonly kind: 'af-xdp';
  readonly name: string;
  readonly ifindex: number;
  /** Descriptor of the map that steers a queue's packets to its socket. */
  readonly map: number;
  readonly bindFlags: number;
  readonly keys: SharedArrayBuffer;
  readonly stats: SharedArrayBuffer;
  readonly posted: SharedArrayBuffer;
  readonly link: SharedArrayBuffer;
}

const DRIVER = 1;
const GENERIC = 2;
const XDP_COPY = 2;
const XDP_ZEROCOPY = 4;
const XDP_USE_NEED_WAKEUP = 8;
const BIND = { auto: 0, copy: XDP_COPY, 'zero-copy': XDP_ZEROCOPY } as const;

/**
 * An Ethernet interface through AF_XDP sockets, one per queue and worker. ESP, UDP to port 4500 and LACP come to us, the
 * rest, ARP and neighbour discovery among it, stays with the kernel. HW_ESP is carried by software. The program goes when
 * this process does, whatever becomes of it.
 */
export class XskDevice implements LowerDevice {
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
  /** How the program is attached. */
  readonly attached: 'driver' | 'generic';
  readonly #binding: Binding;
  readonly #ifindex: number;
  readonly #watch: LinkWatch;
  readonly #posted: PostedTable;
  readonly #bindFlags: number;
  /** Map, program, link. */
  readonly #fds: Int32Array;
  #features: FeatureSet = { hw: Feature.HW_ESP, wanted: 0, active: 0 };

  private constructor(options: XskOptions, binding: Binding, info: LinkInfo, mode: number, fds: Int32Array) {
    this.name = options.name;
    this.index = options.index;
    this.ports = options.ports;
    this.mac = info.mac;
    this.mtu = info.mtu;
    this.stats = createPortStats(options.ports);
    this.xfrm = new SoftOffload({ device: options.name, ports: options.ports });
    this.attached = mode === DRIVER ? 'driver' : 'generic';
    this.#binding = binding;
    this.#ifindex = info.index;
    this.#watch = new LinkWatch(binding, options.name, info.index, options.watchMs ?? 2);
    this.#posted = new PostedTable(options.ports);
    this.#bindFlags = BIND[options.copy ?? 'auto'] | XDP_USE_NEED_WAKEUP;
    this.#fds = fds;
  }

  /** Attaches the program. Throws XfrmError: UNSUPPORTED, NOT_FOUND, PERMISSION, BUSY (another program), SYSTEM. */
  static open(options: XskOptions): XskDevice {
    const { name, attach = 'auto' } = options;
    const found = load();
    if (found.binding === null)
      throw new XfrmError({
        code: 'UNSUPPORTED',
        device: name,
        what: `AF_XDP without the native addon (${found.reason}; ${found.mend})`,
      });
    const { binding } = found;
    const info = linkInfo(binding, name);
    if (typeof info === 'number')
      throw new XfrmError({ code: 'NOT_FOUND', what: `no network interface ${name} (${errnoName(info)})` });
    const fds = new Int32Array(3);
    const modes = attach === 'driver' ? [DRIVER] : attach === 'generic' ? [GENERIC] : [DRIVER, GENERIC];
    let result = 0;
    for (const mode of modes) {
      result = binding.xskAttach(info.index, mode, fds);
      if (result === 0) return new XskDevice(options, binding, info, mode, fds);
    }
    const errno = errnoName(result);
    const what = `cannot attach an XDP program to ${name} (${errno})`;
    if (errno === 'EPERM' || errno === 'EACCES')
      throw new XfrmError({ code: 'PERMISSION', what: `${what}: CAP_NET_ADMIN and CAP_BPF are needed` });
    if (errno === 'EBUSY' || errno === 'EEXIST')
      throw new XfrmError({ code: 'BUSY', what: `${what}: it has a program already` });
    throw new XfrmError({ code: 'SYSTEM', call: 'BPF_LINK_CREATE', errno, what });
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

  inFlight(): number {
    return this.#posted.inFlight();
  }

  fence(): () => boolean {
    return this.#posted.fence();
  }

  portGone(port: number): void {
    this.#posted.portGone(port);
  }

  ticket(port: number): XskTicket {
    if (!Number.isInteger(port) || port < 0 || port >= this.ports)
      throw new RangeError(`port ${port} of ${this.ports}`);
    return {
      kind: 'af-xdp',
      index: this.index,
      port,
      name: this.name,
      ifindex: this.#ifindex,
      map: this.#fds[0]!,
      bindFlags: this.#bindFlags,
      keys: this.xfrm.memory,
      stats: this.stats.memory,
      posted: this.#posted.memory,
      link: this.#watch.words.buffer as SharedArrayBuffer,
    };
  }

  /** Takes the program off the interface. A second call resolves with the first. */
  async close(): Promise<void> {
    this.xfrm.close();
    this.#watch.close();
    for (let i = this.#fds.length - 1; i >= 0; i--) {
      if (this.#fds[i]! > 0) this.#binding.close(this.#fds[i]!);
      this.#fds[i] = 0;
    }
  }
}
