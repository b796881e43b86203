import { SoftDevice, type SoftTicket } from '@espalier/esp';
import { type Binding, errnoName, type FoundLink, findLink } from '@espalier/native';
import { PostedTable, XfrmError } from '@espalier/xfrm';

export interface XskOptions {
  /** An existing Ethernet interface with a queue for every port. */
  readonly name: string;
  /** Lower index in the house. */
  readonly index: number;
  /** One per worker: port i is the interface's queue i. */
  readonly ports: number;
  /**
   * Frames go to the link address that the kernel's neighbour table has for the next hop of their outer destination, from
   * this interface's own; NO_NEIGHBOUR until it has one. Off when absent: frames keep the addresses that they come with.
   */
  readonly neighbours?: boolean;
  /** `driver`: XDP in the driver; `generic`: in the stack; `auto`: the first that works. */
  readonly attach?: 'auto' | 'driver' | 'generic';
  /** Whether LACP comes to us too, and no longer to the kernel; no when absent. */
  readonly lacp?: boolean;
  /** `auto` lets the driver choose, which means zero-copy where it can. */
  readonly copy?: 'auto' | 'copy' | 'zero-copy';
}

export interface XskTicket extends SoftTicket {
  readonly kind: 'af-xdp';
  readonly name: string;
  readonly ifindex: number;
  /** Descriptor of the map that steers a queue's packets to its socket. */
  readonly map: number;
  readonly bindFlags: number;
  readonly posted: SharedArrayBuffer;
  /** One word per port, of XskCopy: what the driver has agreed to. */
  readonly copies: SharedArrayBuffer;
}

/** How frames pass between the driver and the UMEM; UNKNOWN before the port has been opened. */
export const XskCopy = { UNKNOWN: 0, COPY: 1, ZERO_COPY: 2 } as const;

const DRIVER = 1;
const GENERIC = 2;
/** Beside one of those. */
const LACP = 4;
const XDP_COPY = 2;
const XDP_ZEROCOPY = 4;
const XDP_USE_NEED_WAKEUP = 8;
const BIND = { auto: 0, copy: XDP_COPY, 'zero-copy': XDP_ZEROCOPY } as const;

/**
 * An Ethernet interface through AF_XDP sockets, one per queue and worker. ESP, UDP to port 4500 and, when asked, LACP come
 * to us, the rest, ARP and neighbour discovery among it, stays with the kernel. HW_ESP is carried by software. The program goes when
 * this process does, whatever becomes of it.
 */
export class XskDevice extends SoftDevice {
  /** How the program is attached. */
  readonly attached: 'driver' | 'generic';
  readonly #binding: Binding;
  readonly #ifindex: number;
  readonly #posted: PostedTable;
  readonly #copies: Int32Array;
  readonly #bindFlags: number;
  /** Map, program, link. */
  readonly #fds: Int32Array;

  private constructor(options: XskOptions, found: FoundLink, mode: number, fds: Int32Array) {
    const { info, watch: link } = found;
    const neighbours = options.neighbours ? found.neighbours : null;
    super({ ...options, linkType: 'ethernet', mac: info.mac, mtu: info.mtu, link, neighbours });
    this.attached = mode === DRIVER ? 'driver' : 'generic';
    this.#binding = found.binding;
    this.#ifindex = info.index;
    this.#posted = new PostedTable(options.ports);
    this.#copies = new Int32Array(new SharedArrayBuffer(options.ports * 4));
    this.#bindFlags = BIND[options.copy ?? 'auto'] | XDP_USE_NEED_WAKEUP;
    this.#fds = fds;
  }

  /** Attaches the program. Throws XfrmError: UNSUPPORTED, NOT_FOUND, PERMISSION, BUSY (another program), SYSTEM. */
  static open(options: XskOptions): XskDevice {
    const { name, attach = 'auto' } = options;
    const found = findLink(name, 'AF_XDP');
    if (found.trouble !== null) throw new XfrmError(found.trouble);
    const fds = new Int32Array(3);
    const modes = attach === 'driver' ? [DRIVER] : attach === 'generic' ? [GENERIC] : [DRIVER, GENERIC];
    let result = 0;
    for (const mode of modes) {
      result = found.binding.xskAttach(found.info.index, mode | (options.lacp ? LACP : 0), fds);
      if (result === 0) return new XskDevice(options, found, mode, fds);
    }
    found.watch.close();
    const errno = errnoName(result);
    const what = `cannot attach an XDP program to ${name} (${errno})`;
    if (errno === 'EPERM' || errno === 'EACCES')
      throw new XfrmError({ code: 'PERMISSION', what: `${what}: CAP_NET_ADMIN and CAP_BPF are needed` });
    if (errno === 'EBUSY' || errno === 'EEXIST')
      throw new XfrmError({ code: 'BUSY', what: `${what}: it has a program already` });
    throw new XfrmError({ code: 'SYSTEM', call: 'BPF_LINK_CREATE', errno, what });
  }

  override inFlight(): number {
    return this.#posted.inFlight();
  }

  fence(): () => boolean {
    return this.#posted.fence();
  }

  portGone(port: number): void {
    this.#posted.portGone(port);
  }

  /** For people: 'AF_XDP, driver mode, zero-copy'. */
  describe(): string {
    const copies = new Set(Array.from(this.#copies, (_, port) => Atomics.load(this.#copies, port)));
    const one = copies.size > 1 ? 'zero-copy on some queues' : [...copies][0] === XskCopy.COPY ? 'copy' : 'zero-copy';
    return `AF_XDP, ${this.attached} mode, ${copies.has(XskCopy.UNKNOWN) ? 'not open yet' : one}`;
  }

  ticket(port: number): XskTicket {
    return {
      ...this.softTicket(port),
      kind: 'af-xdp',
      name: this.name,
      ifindex: this.#ifindex,
      map: this.#fds[0]!,
      bindFlags: this.#bindFlags,
      posted: this.#posted.memory,
      copies: this.#copies.buffer as SharedArrayBuffer,
    };
  }

  /** Takes the program off the interface. Safe to call twice. */
  override async close(): Promise<void> {
    await super.close();
    for (let i = this.#fds.length - 1; i >= 0; i--) {
      if (this.#fds[i]! > 0) this.#binding.close(this.#fds[i]!);
      this.#fds[i] = 0;
    }
  }
}
