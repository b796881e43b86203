/** What a policy says; values of `Spd.lookup` beside SA slots. */
export const PolicyAction = {
  /** Let the packet leave in the clear; it is counted. */
  BYPASS: -1,
  DISCARD: -2,
} as const;

/** `Spd.lookup` when no policy matches. RFC 4301 4.4.1: such a packet is discarded. */
export const NO_POLICY = -3;

/**
 * Which ports match: absent = any, and packets whose ports cannot be seen; `[first, last]`; or `opaque`: only packets
 * whose ports cannot be seen (fragments but the first, protocols without ports). RFC 4301 4.4.1.1.
 *
 * ICMP and ICMPv6 have type * 256 + code in the place of either port, Mobility Headers their type * 256 (RFC 7296 3.13.1).
 */
export type PortRange = readonly [first: number, last: number] | 'opaque';

/** What an inner packet is matched by, as plain data. */
export interface PacketSelector {
  /** Inner source prefix, network order, 4 or 16 bytes; bits beyond the prefix do not count. */
  readonly source: Uint8Array;
  readonly sourceBits: number;
  /** Inner destination prefix, of the same family. */
  readonly destination: Uint8Array;
  readonly destinationBits: number;
  /** Upper-layer protocol; null or absent for any. */
  readonly protocol?: number | null;
  readonly sourcePorts?: PortRange;
  readonly destinationPorts?: PortRange;
}

/** One policy as plain data, for `postMessage`. An ordered list of them is a policy database. */
export interface PolicyTicket extends PacketSelector {
  readonly protocol: number | null;
  readonly action: 'protect' | 'bypass' | 'discard';
  /** SA to protect with; -1 with the other actions. */
  readonly slot: number;
}

/** Throws RangeError when the selector makes no sense; `name` says which one it is. */
export function checkPacketSelector(selector: PacketSelector, name: string): void {
  const { source, sourceBits, destination, destinationBits, protocol = null } = selector;
  const family = source.length;
  if ((family !== 4 && family !== 16) || destination.length !== family)
    throw new RangeError(`${name}: source and destination must both have 4 or both 16 bytes`);
  for (const bits of [sourceBits, destinationBits])
    if (!Number.isInteger(bits) || bits < 0 || bits > family * 8)
      throw new RangeError(`${name}: a prefix of ${bits} bits does not fit ${family * 8}`);
  if (protocol !== null && (!Number.isInteger(protocol) || protocol < 0 || protocol > 255))
    throw new RangeError(`${name}: protocol ${protocol} is not from 0 to 255`);
  for (const ports of [selector.sourcePorts, selector.destinationPorts]) {
    if (ports === undefined || ports === 'opaque') continue;
    const [first, last] = ports;
    if (!Number.isInteger(first) || !Number.isInteger(last) || first < 0 || last > 0xffff || first > last)
      throw new RangeError(`${name}: ports ${first} to ${last} are no range from 0 to 65535`);
  }
}
