import { type Binding, errnoName, LinkSet, linkInfo, load, TunOpen, withoutAddon } from '@espalier/native';
import { type PortTicket, XfrmError } from '@espalier/xfrm';

export interface TunOptions {
  /** At most 15 bytes. */
  readonly name: string;
  /** One per worker. */
  readonly queues: number;
  /** Bytes; 1400 when absent. */
  readonly mtu?: number;
  /** Super-packets for TCP and UDP, cut and joined in the port; on when absent. */
  readonly offloads?: boolean;
  /** IPv4 addresses, network order, with prefix lengths; the first one only is set by ioctl. */
  readonly addresses?: readonly { readonly address: Uint8Array; readonly bits: number }[];
}

/** The queue's descriptor, valid in every thread of this process. */
export interface TunTicket extends PortTicket {
  readonly kind: 'tun';
  readonly fd: number;
}

/** The inside of a gateway: the kernel routes packets into it (Linux tuntap). A device of several queues, one per worker. */
export class TunDevice {
  readonly name: string;
  readonly #binding: Binding;
  readonly #fds: number[];

  private constructor(name: string, binding: Binding, fds: number[]) {
    this.name = name;
    this.#binding = binding;
    this.#fds = fds;
  }

  /** Throws XfrmError (UNSUPPORTED without the addon, BUSY, PERMISSION, NOT_FOUND, SYSTEM) and leaves no device behind. */
  static open(options: TunOptions): TunDevice {
    const { name, queues, mtu = 1400, offloads = true, addresses = [] } = options;
    if (!Number.isInteger(queues) || queues < 1) throw new RangeError(`"queues" must be positive, got ${queues}`);
    const found = load();
    if (found.binding === null) throw new XfrmError(withoutAddon(name, 'TUN', found));
    const { binding } = found;
    const fds: number[] = [];
    try {
      const flags = queues > 1 ? TunOpen.MULTI_QUEUE : 0;
      // A device that exists is taken over only when nobody reads from it: a persistent one of `ip tuntap add`.
      const exclusive = idle(binding, name) ? 0 : TunOpen.EXCLUSIVE;
      for (let i = 0; i < queues; i++)
        fds.push(demand(binding.tunOpen(name, flags | (i === 0 ? exclusive : 0), offloads ? 1 : 0), 'open', name));
      demand(binding.linkSet(name, LinkSet.MTU, mtu, 0), 'set the MTU of', name);
      for (const { address, bits } of addresses.slice(0, 1))
        demand(
          binding.linkSet(name, LinkSet.IPV4, new DataView(address.buffer, address.byteOffset).getInt32(0), bits),
          'give an address to',
          name,
        );
      demand(binding.linkSet(name, LinkSet.UP, 1, 0), 'bring up', name);
    } catch (error) {
      for (const fd of fds) binding.close(fd);
      throw error;
    }
    return new TunDevice(name, binding, fds);
  }

  ticket(queue: number): TunTicket {
    const fd = this.#fds[queue];
    if (fd === undefined) throw new RangeError(`queue ${queue} of ${this.#fds.length}`);
    return { kind: 'tun', index: -1, port: queue, fd };
  }

  /** The device goes away with its last descriptor. Safe to call twice. */
  close(): void {
    for (const fd of this.#fds.splice(0)) this.#binding.close(fd);
  }
}

/** There is such a device and no queue of it is open: the kernel takes the carrier away with the last one. */
function idle(binding: Binding, name: string): boolean {
  const info = linkInfo(binding, name);
  return typeof info !== 'number' && !info.carrier;
}

function demand(result: number, what: string, name: string): number {
  if (result >= 0) return result;
  const errno = errnoName(result);
  const sentence = `cannot ${what} TUN device ${name} (${errno})`;
  if (errno === 'EBUSY') throw new XfrmError({ code: 'BUSY', what: `TUN device ${name} is in use by another process` });
  if (errno === 'EPERM' || errno === 'EACCES')
    throw new XfrmError({
      code: 'PERMISSION',
      what: `${sentence}: CAP_NET_ADMIN is needed, as root or inside unshare -Urn`,
    });
  if (errno === 'ENOENT' || errno === 'ENODEV')
    throw new XfrmError({ code: 'NOT_FOUND', what: `${sentence}: is there a /dev/net/tun?` });
  throw new XfrmError({ code: 'SYSTEM', call: what, errno, what: sentence });
}
