/** What a policy says; values of `Spd.lookup` beside SA slots. */
export const PolicyAction = {
  /** Let the packet leave in the clear; it is counted. */
  BYPASS: -1,
  DISCARD: -2,
} as const;

/** `Spd.lookup` when no policy matches. RFC 4301 4.4.1: such a packet is discarded. */
export const NO_POLICY = -3;

/** One policy as plain data, for `postMessage`. An ordered list of them is a policy database. */
export interface PolicyTicket {
  /** Inner source prefix, network order, 4 or 16 bytes; bits beyond the prefix do not count. */
  readonly source: Uint8Array;
  readonly sourceBits: number;
  /** Inner destination prefix, of the same family. */
  readonly destination: Uint8Array;
  readonly destinationBits: number;
  /** Upper-layer protocol, or null for any. */
  readonly protocol: number | null;
  readonly action: 'protect' | 'bypass' | 'discard';
  /** SA to protect with; -1 with the other actions. */
  readonly slot: number;
}
