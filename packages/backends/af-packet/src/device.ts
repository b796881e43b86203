import { SoftDevice, type SoftTicket } from '@espalier/esp';
import { errnoName, type FoundLink, findLink } from '@espalier/native';
import { XfrmError } from '@espalier/xfrm';

export interface AfPacketOptions {
  /** An existing Ethernet interface. */
  readonly name: string;
  /** Lower index in the house. */
  readonly index: number;
  /** One per worker. */
  readonly ports: number;
  /**
   * Frames go to the link address that the kernel's neighbour table has for the next hop of their outer destination, from
   * this interface's own; NO_NEIGHBOUR until it has one. Off when absent: frames keep the addresses that they come with.
   */
  readonly neighbours?: boolean;
  /** Which port receives; the others only send. With several receivers each would see every frame. */
  readonly receiver: number;
  /** Frames in the receive ring, a power of two; 4096 when absent. */
  readonly ringSlots?: number;
}

export interface AfPacketTicket extends SoftTicket {
  readonly kind: 'af-packet';
  readonly ifindex: number;
  /** 0 = this port only sends. */
  readonly ringSlots: number;
}

/** An Ethernet interface through AF_PACKET sockets; works inside a user namespace. HW_ESP is carried by software. */
export class AfPacketDevice extends SoftDevice {
  readonly #ifindex: number;
  readonly #receiver: number;
  readonly #ringSlots: number;

  private constructor(options: AfPacketOptions, found: FoundLink) {
    const { info, watch: link } = found;
    const neighbours = options.neighbours ? found.neighbours : null;
    super({ ...options, linkType: 'ethernet', mac: info.mac, mtu: info.mtu, link, neighbours });
    this.#ifindex = info.index;
    this.#receiver = options.receiver;
    this.#ringSlots = options.ringSlots ?? 4096;
  }

  /** Throws XfrmError: UNSUPPORTED without the addon, NOT_FOUND, PERMISSION. Opens nothing yet but checks that it could. */
  static open(options: AfPacketOptions): AfPacketDevice {
    const { name } = options;
    const found = findLink(name, 'AF_PACKET');
    if (found.trouble !== null) throw new XfrmError(found.trouble);
    const { binding, info, watch } = found;
    const socket = binding.packetOpen(info.index, 0);
    if (socket < 0) {
      watch.close();
      throw new XfrmError({
        code: 'PERMISSION',
        what: `cannot open an AF_PACKET socket on ${name} (${errnoName(socket)}): CAP_NET_RAW is needed, as root or inside unshare -Urn`,
      });
    }
    binding.packetClose(socket);
    return new AfPacketDevice(options, found);
  }

  ticket(port: number): AfPacketTicket {
    const ringSlots = port === this.#receiver ? this.#ringSlots : 0;
    return { ...this.softTicket(port), kind: 'af-packet', ifindex: this.#ifindex, ringSlots };
  }
}
