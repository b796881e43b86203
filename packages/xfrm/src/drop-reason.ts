/**
 * One table of every way a packet can end: counters, docs, vectors and replay verdicts all come from it.
 * The numbers of REPLAYED, STALE, INVALID and EXHAUSTED are those of `@espalier/replay`, so mapping is the identity.
 */
export const DropReason = {
  NONE: 0,
  REPLAYED: 1,
  STALE: 2,
  INVALID: 3,
  EXHAUSTED: 4,
  TRUNCATED: 5,
  NO_STATE: 6,
  ICV: 7,
  NO_LOWER_HANDLE: 8,
  BAD_PAD: 9,
  DUMMY: 10,
  BAD_INNER: 11,
  BAD_NEXT_HEADER: 12,
  BAD_OUTER: 13,
  FRAGMENT: 14,
  SELECTOR: 15,
  POLICY: 16,
  TOO_BIG: 17,
  NO_ROOM: 18,
  NO_NEIGHBOUR: 19,
  NO_USABLE_SLAVE: 20,
  UNSET: 21,
  LIFETIME: 22,
  BAD_ENCAP: 23,
  BAD_STATE: 24,
  IKE: 25,
  NAT_KEEPALIVE: 26,
  NOT_ESP: 27,
  LINK_DOWN: 28,
  ECN: 29,
  TTL: 30,
  BAD_LENGTH: 31,
  OUTER_ERROR: 32,
} as const;
export type DropReason = (typeof DropReason)[keyof typeof DropReason];

/** One row of the table. */
export interface DropEntry {
  readonly code: DropReason;
  readonly name: keyof typeof DropReason;
  /** The counter a user of /proc/net/xfrm_stat knows, or null where the kernel has none. */
  readonly kernel: string | null;
  /** One sentence for people. */
  readonly sentence: string;
  /** Where the rule comes from. */
  readonly clause: string;
}

const entry = (name: keyof typeof DropReason, kernel: string | null, sentence: string, clause: string): DropEntry => ({
  code: DropReason[name],
  name,
  kernel,
  sentence,
  clause,
});

/** Indexed by code; entry 0 is "not dropped". */
export const DROP_TABLE: readonly DropEntry[] = [
  entry('NONE', null, 'Not dropped.', ''),
  entry('REPLAYED', 'XfrmInStateSeqError', 'This number was accepted before.', 'RFC 4303 3.4.3'),
  entry('STALE', 'XfrmInStateSeqError', 'The number lies left of the replay window.', 'RFC 4303 3.4.3'),
  entry(
    'INVALID',
    'XfrmInStateSeqError',
    'There is no such number: zero, or below the first window.',
    'RFC 4303 2.2, A2',
  ),
  entry('EXHAUSTED', 'XfrmOutStateSeqError', "The SA's numbers are used up.", 'RFC 4303 3.3.3'),
  entry('TRUNCATED', 'XfrmInHdrError', 'Too short for its headers, IV, trailer and ICV.', 'RFC 4303 2'),
  entry('NO_STATE', 'XfrmInNoStates', 'No SA for this SPI, destination and source.', 'RFC 4303 3.4.2'),
  entry('ICV', 'XfrmInStateProtoError', 'The integrity check value did not match.', 'RFC 4303 3.4.4.1'),
  entry(
    'NO_LOWER_HANDLE',
    'XfrmOutStateInvalid',
    'The lower about to carry the packet has no handle for its SA.',
    'xfrm_dev_state_lower_handle',
  ),
  entry('BAD_PAD', 'XfrmInStateProtoError', 'Padding is longer than the payload or not 1, 2, 3 ...', 'RFC 4303 2.4'),
  entry('DUMMY', null, 'A dummy packet (next header 59), discarded as it asks.', 'RFC 4303 2.6'),
  entry('BAD_INNER', 'XfrmInHdrError', 'The decrypted packet is not a whole IP packet.', 'RFC 4303 3.4.4.1'),
  entry('BAD_NEXT_HEADER', 'XfrmInStateModeError', "The next header does not fit the SA's mode.", 'RFC 4303 2.6'),
  entry('BAD_OUTER', 'XfrmInHdrError', 'The outer IP header is malformed.', 'RFC 791, RFC 8200'),
  entry('FRAGMENT', 'XfrmInHdrError', 'An outer fragment; ESP is processed after reassembly only.', 'RFC 4303 3.4.1'),
  entry('SELECTOR', 'XfrmInStateMismatch', "The decrypted packet is outside its SA's selectors.", 'RFC 4301 5.2'),
  entry('POLICY', 'XfrmOutPolBlock', 'A policy discards the packet, or none matches.', 'RFC 4301 5.1'),
  entry('TOO_BIG', 'XfrmOutBundleCheckError', 'The packet would not fit the MTU after encapsulation.', 'RFC 4301 8.2'),
  entry('NO_ROOM', null, 'No frame, ring slot or buffer was free.', ''),
  entry('NO_NEIGHBOUR', null, 'The link-layer address of the next hop is not known.', ''),
  entry('NO_USABLE_SLAVE', null, 'No slave of the bond can transmit.', 'bond_xmit_3ad_xor_slave_get'),
  entry('UNSET', null, 'Neither sealed nor allowed to leave in the clear.', ''),
  entry('LIFETIME', 'XfrmInStateExpired', "The SA's hard lifetime is over.", 'RFC 4301 4.4.2.1'),
  entry('BAD_ENCAP', 'XfrmInStateMismatch', 'UDP encapsulation where the SA has none, or the reverse.', 'RFC 3948'),
  entry(
    'BAD_STATE',
    'XfrmInStateInvalid',
    'The SA is for the other direction or, in transport mode, the other family; or not usable.',
    'RFC 4301 4.4.2',
  ),
  entry('IKE', null, 'Carries the non-ESP marker: for the IKE daemon.', 'RFC 3948 2.2'),
  entry('NAT_KEEPALIVE', null, 'A NAT keepalive.', 'RFC 3948 2.3'),
  entry('NOT_ESP', null, 'Not ESP and not for us.', ''),
  entry('LINK_DOWN', null, 'The device went down before the packet left.', ''),
  entry(
    'ECN',
    'XfrmInHdrError',
    'Congestion marked outside on a packet that is not ECN capable inside.',
    'RFC 6040 4.2',
  ),
  entry('TTL', 'XfrmFwdHdrError', 'The hop limit ran out on the way into the tunnel.', 'RFC 4301 5.1.2'),
  entry('BAD_LENGTH', 'XfrmInStateProtoError', 'The ciphertext is not a whole number of blocks.', 'RFC 3602 3'),
  entry('OUTER_ERROR', null, 'An ICMP error about a packet of ours; its MTU has been judged.', 'RFC 4301 8.2.1'),
];

/** Number of drop codes: how long a counter array must be. */
export const DROP_CODES: number = DROP_TABLE.length;

/** The name of a code; for people and metrics, not for the hot path. */
export function dropName(code: number): string {
  return DROP_TABLE[code]?.name ?? `UNKNOWN_${code}`;
}
