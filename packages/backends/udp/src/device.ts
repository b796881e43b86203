import { SoftDevice, type SoftTicket, SteadyLink } from '@espalier/esp';
import { errnoName, type FoundLink, findLink, load, withoutAddon } from '@espalier/native';
import { ESP_UDP_PORT } from '@espalier/wire';
import { XfrmError } from '@espalier/xfrm';

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
}

export interface UdpTicket extends SoftTicket {
  readonly kind: 'udp';
  readonly local: Required<UdpEndpoint>;
  readonly peer: Required<UdpEndpoint>;
  readonly sourcePorts: number;
}

const IPV4_UDP = 28;
const IPV6_UDP = 48;

/** UDP sockets as a lower of link type esp-udp: rows begin at the ESP header, the addresses are the sockets'. */
export class UdpDevice extends SoftDevice {
  readonly #local: Required<UdpEndpoint>;
  readonly #peer: Required<UdpEndpoint>;
  readonly #sourcePorts: number;

  private constructor(options: UdpOptions, found: FoundLink | null) {
    // Bytes of the largest ESP packet: what is left of the link's after IP and UDP.
    const mtu = (options.mtu ?? found?.info.mtu ?? 1500) - (options.local.address.length === 4 ? IPV4_UDP : IPV6_UDP);
    super({ ...options, linkType: 'esp-udp', mac: null, mtu, link: found?.watch ?? new SteadyLink() });
    this.#local = { port: ESP_UDP_PORT, ...options.local };
    this.#peer = { port: ESP_UDP_PORT, ...options.peer };
    this.#sourcePorts = options.sourcePorts ?? 0;
  }

  /**
   * Opens nothing yet but checks that it could. Throws XfrmError: UNSUPPORTED without the addon, NOT_FOUND (no such
   * interface, an address that is not ours), BUSY, SYSTEM.
   */
  static open(options: UdpOptions): UdpDevice {
    const { name, local, peer, device } = options;
    if (local.address.length !== peer.address.length) throw new RangeError('local and peer addresses of two families');
    const loaded = load();
    if (loaded.binding === null) throw new XfrmError(withoutAddon(name, 'UDP', loaded));
    const { binding } = loaded;
    const socket = binding.udpOpen(local.address, local.port ?? ESP_UDP_PORT, peer.address, peer.port ?? ESP_UDP_PORT);
    if (socket < 0) throw cannotBind(name, socket);
    binding.udpClose(socket);
    if (device === undefined) return new UdpDevice(options, null);
    const found = findLink(device, 'UDP');
    if (found.trouble !== null) throw new XfrmError(found.trouble);
    return new UdpDevice(options, found);
  }

  ticket(port: number): UdpTicket {
    return {
      ...this.softTicket(port),
      kind: 'udp',
      local: this.#local,
      peer: this.#peer,
      sourcePorts: this.#sourcePorts,
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
