import { IpProtocol, Ipv4, isIpv4Fragment, readIhl, updateChecksum, walkIpv6 } from '@espalier/wire';

const SYN = 2;
const OFFSET_FLAGS = 12;
const CHECKSUM = 16;
const TCP_HEADER_LENGTH = 20;
const OPTION_MSS = 2;
const MSS_LENGTH = 4;

/**
 * Lowers the MSS option (RFC 9293 3.7.1) of a TCP SYN to `most` bytes and mends the checksum; leaves every other packet
 * alone, malformed options included. `[start, end)` is a whole IP packet. Returns whether anything changed.
 */
export function clampMss(view: DataView, start: number, end: number, most: number): boolean {
  let tcp: number;
  if (view.getUint8(start) >> 4 === 6) {
    const walk = walkIpv6(view, start, end);
    if (walk < 0 || walk % 256 !== IpProtocol.TCP) return false;
    tcp = Math.floor(walk / 256);
  } else {
    if (view.getUint8(start + Ipv4.PROTOCOL) !== IpProtocol.TCP || isIpv4Fragment(view, start)) return false;
    tcp = start + readIhl(view, start);
  }
  if (tcp + TCP_HEADER_LENGTH > end) return false;
  const offsetFlags = view.getUint16(tcp + OFFSET_FLAGS);
  if ((offsetFlags & SYN) === 0) return false;
  const last = Math.min(end, tcp + (offsetFlags >> 12) * 4);
  for (let at = tcp + TCP_HEADER_LENGTH; at < last; ) {
    const kind = view.getUint8(at);
    if (kind === 0) return false;
    if (kind === 1) {
      at++;
      continue;
    }
    if (at + 1 >= last) return false;
    const length = view.getUint8(at + 1);
    if (length < 2 || at + length > last) return false;
    if (kind === OPTION_MSS && length === MSS_LENGTH) return lower(view, tcp, at + 2, most);
    at += length;
  }
  return false;
}

function lower(view: DataView, tcp: number, at: number, most: number): boolean {
  const mss = view.getUint16(at);
  if (mss <= most) return false;
  const sum = view.getUint16(tcp + CHECKSUM);
  // A 16-bit word of the sum, unless the option is at an odd offset: then its bytes belong to two words.
  if ((at - tcp) % 2 === 0) {
    view.setUint16(at, most);
    view.setUint16(tcp + CHECKSUM, updateChecksum(sum, mss, most));
    return true;
  }
  const before1 = view.getUint16(at - 1);
  const before2 = view.getUint16(at + 1);
  view.setUint16(at, most);
  const half = updateChecksum(sum, before1, view.getUint16(at - 1));
  view.setUint16(tcp + CHECKSUM, updateChecksum(half, before2, view.getUint16(at + 1)));
  return true;
}
