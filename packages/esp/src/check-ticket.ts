import { ALGORITHMS, XfrmError } from '@espalier/xfrm';
import type { InboundTicket, OutboundTicket } from './tickets.ts';

/** Throws XfrmError UNSUPPORTED or RangeError when the SA cannot be. */
export function checkOutbound(ticket: OutboundTicket): void {
  checkSa(ticket);
  const { ttl = 64, dscp = 'copy', flowLabel = 0, mtu, tfc, mss } = ticket;
  if (ttl !== 'copy') within('ttl', ttl, 1, 255);
  if (typeof dscp === 'number') within('dscp', dscp, 0, 63);
  else if (dscp !== 'copy') {
    if (dscp.length !== 64) throw new RangeError(`"dscp" maps 64 values, got ${dscp.length}`);
    for (const d of dscp) within('dscp', d, 0, 63);
  }
  if (typeof flowLabel === 'number') within('flowLabel', flowLabel, 0, 0xf_ffff);
  within('mtu', mtu, 68, 65_535);
  if (typeof tfc === 'number') within('tfc', tfc, 0, 65_535);
  if (typeof mss === 'number') within('mss', mss, 64, 65_535);
  if (ticket.portEntropy && ticket.encap === null)
    throw new XfrmError({
      code: 'UNSUPPORTED',
      device: 'espalier',
      what: 'source ports by flow without UDP encapsulation',
    });
  if (tfc !== undefined && ticket.mode === 'transport')
    throw new XfrmError({ code: 'UNSUPPORTED', device: 'espalier', what: 'TFC padding in transport mode' });
}

/** Throws XfrmError UNSUPPORTED or RangeError when the SA cannot be. */
export function checkInbound(ticket: InboundTicket): void {
  checkSa(ticket);
  if (ticket.mss !== undefined) within('mss', ticket.mss, 64, 65_535);
  const { original } = ticket;
  if (!original) return;
  if (original.source.length !== ticket.source.length || original.destination.length !== ticket.source.length)
    throw new RangeError('"original" addresses must be of the family of the SA');
}

function checkSa(ticket: InboundTicket | OutboundTicket): void {
  const { spi, source, destination, encap, algorithm } = ticket;
  // 0 is for the host's own use (RFC 4303 2.1), and in UDP the sign that a packet is not ESP.
  within('spi', spi, 1, 0xffff_ffff);
  if ((source.length !== 4 && source.length !== 16) || destination.length !== source.length)
    throw new RangeError('source and destination must both have 4 or both 16 bytes');
  if (encap !== null) {
    within('encap.sport', encap.sport, 1, 65_535);
    within('encap.dport', encap.dport, 1, 65_535);
  }
  if (!Object.hasOwn(ALGORITHMS, algorithm))
    throw new XfrmError({ code: 'UNSUPPORTED', device: 'espalier', what: `algorithm ${algorithm}` });
}

function within(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most)
    throw new RangeError(`"${name}" must be from ${least} to ${most}, got ${value}`);
}
