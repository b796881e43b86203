import { SoftDevice, SteadyLink } from '@espalier/esp';
import { errnoName, type FoundLink, findLink, load, withoutAddon } from '@espalier/native';
import { ESP_UDP_PORT } from '@espalier/wire';
import { PortStat, portTotal, XfrmError } from '@espalier/xfrm';
import { DgramThread } from './dgram.ts';
import type { UdpEndpoint, UdpTicket } from './ticket.ts';

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
  /** `native`: the addon's; `dgram`: Node's own, slower by far; `auto`: the addon's where it is. */
  readonly sockets?: 'auto' | 'native' | 'dgram';
}

/** Bytes of IP and UDP in front of an ESP packet. */
const outside = ({ address }: UdpEndpoint): number => (address.length === 4 ? 28 : 48);
/** The path is looked at when a datagram was refused, and else every so many ticks. */
const LOOK_EVERY = 20;

/** UDP sockets as a lower of link type esp-udp: rows begin at the ESP header, the addresses are the sockets'. */
export class UdpDevice extends SoftDevice {
  readonly #local: Required<UdpEndpoint>;
  readonly #peer: Required<UdpEndpoint>;
  readonly #sourcePorts: number;
  readonly #dgram: DgramThread | null;
  #pathMtu: number;
  #unsent = 0;
  #ticks = 0;

  private constructor(options: UdpOptions, found: FoundLink | null, dgram: DgramThread | null) {
    // Bytes of the largest ESP packet: what is left of the link's after IP and UDP.
    const mtu = (options.mtu ?? found?.info.mtu ?? 1500) - outside(options.local);
    super({ ...options, linkType: 'esp-udp', mac: null, mtu, link: found?.watch ?? new SteadyLink() });
    this.#local = { port: ESP_UDP_PORT, ...options.local };
    this.#peer = { port: ESP_UDP_PORT, ...options.peer };
    this.#sourcePorts = options.sourcePorts ?? 0;
    this.#dgram = dgram;
    this.#pathMtu = mtu;
  }

  /**
   * Checks that the ports can open their sockets, or opens Node's. Throws XfrmError: UNSUPPORTED (a part of it needs the
   * addon), NOT_FOUND (no such interface, an address that is not ours), BUSY, SYSTEM.
   */
  static open(options: UdpOptions): UdpDevice {
    const { name, local, peer, device, sockets = 'auto', sourcePorts = 0 } = options;
    if (local.address.length !== peer.address.length) throw new RangeError('local and peer addresses of two families');
    const loaded = load();
    if (loaded.binding === null && sockets === 'native') throw new XfrmError(withoutAddon(name, 'UDP', loaded));
    // Nobody but the addon can watch an interface.
    const found = device === undefined ? null : findLink(device, `the state of ${device}`);
    if (found !== null && found.trouble !== null) throw new XfrmError(found.trouble);
    const ends = { local: { port: ESP_UDP_PORT, ...local }, peer: { port: ESP_UDP_PORT, ...peer } };
    if (loaded.binding === null || sockets === 'dgram') {
      const thread = DgramThread.open({ ...ends, sourcePorts }, options.ports);
      if (typeof thread !== 'number') return new UdpDevice(options, found, thread);
      found?.watch.close();
      throw cannotBind(name, thread);
    }
    const { binding } = loaded;
    const socket = binding.udpOpen(local.address, ends.local.port, peer.address, ends.peer.port);
    if (socket < 0) {
      found?.watch.close();
      throw cannotBind(name, socket);
    }
    binding.udpClose(socket);
    return new UdpDevice(options, found, null);
  }

  /** What the kernel has learned of the path by routers' answers; only with the addon. */
  get pathMtu(): number {
    return this.#pathMtu;
  }

  override recheck(): void {
    super.recheck();
    const unsent = portTotal(this, PortStat.UNSENT);
    if (unsent === this.#unsent && ++this.#ticks % LOOK_EVERY !== 0) return;
    this.#unsent = unsent;
    const { address, port } = this.#peer;
    const room = (load().binding?.udpPathMtu(this.#local.address, address, port) ?? 0) - outside(this.#local);
    this.#pathMtu = room > 0 ? Math.min(this.mtu, room) : this.mtu;
  }

  /** For people. */
  describe(): string {
    return this.#dgram === null ? 'sockets of the addon' : 'node:dgram on a thread of its own, slower';
  }

  override async close(): Promise<void> {
    await super.close();
    await this.#dgram?.close();
  }

  ticket(port: number): UdpTicket {
    return {
      ...this.softTicket(port),
      kind: 'udp',
      local: this.#local,
      peer: this.#peer,
      sourcePorts: this.#sourcePorts,
      dgram: this.#dgram?.memory ?? null,
    };
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
