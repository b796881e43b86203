import type { AlgorithmName, NoHandleName, PacketSelector, Spread } from '@espalier/xfrm';

/** Part of a shared arena. */
export interface SharedPlace {
  readonly memory: SharedArrayBuffer;
  /** Bytes. */
  readonly offset: number;
}

interface SaTicket {
  readonly slot: number;
  readonly spi: number;
  /** Outer addresses, 4 or 16 bytes. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly mode: 'tunnel' | 'transport';
  readonly algorithm: AlgorithmName;
  readonly icvLength: number;
  readonly esn: boolean;
  /** `SaKey.share()`. */
  readonly key: SharedArrayBuffer;
  readonly encap: { readonly sport: number; readonly dport: number } | null;
}

/**
 * What the outer header of a tunnel takes from the inner one and what it does not (RFC 4301 5.1.2). Transport mode keeps
 * the packet's own header, DF and all, and looks at none of these.
 */
export interface OuterOptions {
  /** Outer TTL or hop limit; 64 when absent. */
  readonly ttl?: number | 'copy';
  /** Outer DF: copied from the inner packet unless said. IPv6 inside counts as DF set. */
  readonly df?: 'copy' | 'set' | 'clear';
  /** Outer DSCP: copied unless said; one value for all, or 64 of them by the inner one. */
  readonly dscp?: 'copy' | number | readonly number[];
  /** RFC 6040 4.1: `normal` copies ECN out; `compatibility` sends Not-ECT, for peers that would not bring it back. */
  readonly ecn?: 'normal' | 'compatibility';
  /** Outer IPv6 flow label: 0 when absent; copied from an inner IPv6 packet; or made from the inner flow (RFC 6438), which shows flows outside. */
  readonly flowLabel?: number | 'copy' | 'flow';
}

/** What both directions have beside the SA itself. */
interface Counted {
  /** Its Lifetime: packets and bytes of inner packets, all workers together; none when absent. */
  readonly lifetime?: SharedPlace;
}

/** An outbound SA for one worker: plain data, for `postMessage`. */
export interface OutboundTicket extends SaTicket, OuterOptions, Counted {
  /** Its SequenceAllocator. */
  readonly allocator: SharedPlace;
  /** Sealed by the lower that carries the packet (true) or here. */
  readonly offload: boolean;
  /**
   * What a packet meets while the SA is offloaded to no device, or while the slave that should carry it has no handle.
   * `steer` asks for another slave, and drops where there is no device at all.
   */
  readonly noHandle: NoHandleName;
  /** How a bond shares out the packets; `sa`, as Linux, when absent. Anything else needs a peer whose window bears it. */
  readonly spread?: Spread;
  /**
   * UDP source port by inner flow, from 49152 on, instead of `encap.sport`: switches and peers that hash ports spread the SA
   * too. Shows flows outside, and takes a NAT mapping per flow.
   */
  readonly portEntropy?: boolean;
  /** Ethernet header to put in front (its EtherType is filled in), or null where the lower has none. */
  readonly link: Uint8Array | null;
  /** Largest outer IP packet, bytes. */
  readonly mtu: number;
  /** Count the inner TTL down here and drop what has none left: for packets that nothing has routed yet. */
  readonly decrementTtl?: boolean;
  /** TFC padding (RFC 4303 2.7): inner packets are padded to this many bytes, or to what the MTU takes. Tunnel mode. */
  readonly tfc?: number | 'mtu';
  /** Lower the MSS of inner TCP SYNs to this, or to what the MTU takes. */
  readonly mss?: number | 'mtu';
}

/** Packets that may come out of an SA (RFC 4301 4.4.1). */
export type SelectorTicket = PacketSelector;

/** An inbound SA for one worker. */
export interface InboundTicket extends SaTicket, Counted {
  /** Its ReplayWindow. */
  readonly window: SharedPlace;
  /** Any match will do; absent or empty: all packets. */
  readonly selectors?: readonly SelectorTicket[];
  /** Whether padding has to read 1, 2, 3 ... (RFC 4303 2.4 SHOULD); true when absent. */
  readonly checkPadding?: boolean;
  /**
   * Transport mode behind a NAT: the addresses the peer put its checksums over (NAT-OA, RFC 3947 5.2), the packet's
   * family. Without them checksums are computed anew (RFC 3948 3.1.2).
   */
  readonly original?: { readonly source: Uint8Array; readonly destination: Uint8Array };
  /** Lower the MSS of inner TCP SYNs to this. */
  readonly mss?: number;
}
