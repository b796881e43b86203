import type { AlgorithmName } from '@espalier/xfrm';

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

/** An outbound SA for one worker: plain data, for `postMessage`. */
export interface OutboundTicket extends SaTicket {
  /** Its SequenceAllocator. */
  readonly allocator: SharedPlace;
  /** Sealed by the lower that carries the packet (true) or here. */
  readonly offload: boolean;
  /** What a packet meets while the SA is offloaded to no device at all. */
  readonly noHandle: 'drop' | 'software';
  /** Ethernet header to put in front (its EtherType is filled in), or null where the lower has none. */
  readonly link: Uint8Array | null;
  /** Largest outer IP packet, bytes. */
  readonly mtu: number;
  /** Outer TTL or hop limit; 64 when absent. */
  readonly ttl?: number;
  /** Outer DF: copied from the inner packet unless said. */
  readonly df?: 'copy' | 'set' | 'clear';
}

/** Addresses that may come out of an SA (RFC 4301 4.4.1); bits beyond the prefixes do not count. */
export interface SelectorTicket {
  readonly source: Uint8Array;
  readonly sourceBits: number;
  readonly destination: Uint8Array;
  readonly destinationBits: number;
}

/** An inbound SA for one worker. */
export interface InboundTicket extends SaTicket {
  /** Its ReplayWindow. */
  readonly window: SharedPlace;
  /** Any match will do; absent or empty: all packets. */
  readonly selectors?: readonly SelectorTicket[];
}
