/**
 * The transmit hashes a second time, from the prose: one header at a time as a list of bytes, nothing in place, nothing shared
 * with the fast one. Reading beyond the end throws, and the catch is the kernel's "header not there".
 */
import type { XmitHashPolicy } from '../src/index.ts';

class Short extends Error {}

interface Found {
  addresses: number;
  ports: number;
  /** The ICMP word, or 0 where it has no identifier. */
  icmp: number;
}

const byte = (b: number[], i: number): number => {
  const value = b[i];
  if (value === undefined) throw new Short();
  return value;
};
const be16 = (b: number[], i: number): number => byte(b, i) * 256 + byte(b, i + 1);
const le32 = (b: number[], i: number): number =>
  byte(b, i) + byte(b, i + 1) * 2 ** 8 + byte(b, i + 2) * 2 ** 16 + byte(b, i + 3) * 2 ** 24;
const demand = (b: number[], n: number): undefined => {
  if (b.length < n) throw new Short();
};
/** XOR of unsigned words. */
const xor = (...words: number[]): number => words.reduce((a, w) => (a ^ w) >>> 0, 0);

export function naiveXmitHash(policy: XmitHashPolicy, frame: Uint8Array, tag: number): number {
  const b = [...frame];
  if (b.length < 14) return 0;
  if (policy === 'vlan+srcmac')
    return xor(tag % 0x10000, b[6]! * 65536 + b[7]! * 256 + b[8]!, b[9]! * 65536 + b[10]! * 256 + b[11]!);
  const ethernet = xor(b[5]!, b[11]!, be16(b, 12));
  if (policy === 'layer2') return ethernet;
  let found: Found;
  try {
    found = policy.startsWith('encap') ? deep(be16(b, 12), b.slice(14), tag !== 0) : shallow(be16(b, 12), b.slice(14));
  } catch (error) {
    if (error instanceof Short) return ethernet;
    throw error;
  }
  const addressesOnly = policy.endsWith('2+3');
  const seed = addressesOnly ? ethernet : found.icmp !== 0 ? found.icmp : found.ports;
  let hash = xor(seed, found.addresses);
  hash = xor(hash, Math.floor(hash / 2 ** 16));
  hash = xor(hash, Math.floor(hash / 2 ** 8));
  return addressesOnly ? hash : Math.floor(hash / 2);
}

function portsOf(protocol: number | null, payload: number[]): number {
  if (protocol === null) return 0;
  const at = [6, 17, 33, 50, 132, 136].includes(protocol) ? 0 : protocol === 51 ? 4 : -1;
  return at >= 0 && payload.length >= at + 4 ? le32(payload, at) : 0;
}

function icmpWord(icmp: number[]): number {
  if (icmp.length < 8 || ![0, 8, 13, 14, 128, 129].includes(icmp[0]!)) return 0;
  return icmp[0]! + icmp[1]! * 2 ** 8 + (be16(icmp, 4) || 1) * 2 ** 16;
}

/** One IP header: its addresses, the protocol (null for a fragment of IPv4) and what follows. */
function header(type: number, b: number[]): { addresses: number; protocol: number | null; rest: number[] } {
  if (type === 0x0800) {
    demand(b, 20);
    const fragment = be16(b, 6) % 0x4000 !== 0;
    return {
      addresses: xor(le32(b, 12), le32(b, 16)),
      protocol: fragment ? null : b[9]!,
      rest: b.slice((b[0]! % 16) * 4),
    };
  }
  if (type !== 0x86dd) throw new Short();
  demand(b, 40);
  return {
    addresses: xor(...[8, 12, 16, 20, 24, 28, 32, 36].map((i) => le32(b, i))),
    protocol: b[6]!,
    rest: b.slice(40),
  };
}

function shallow(type: number, b: number[]): Found {
  const { addresses, protocol, rest } = header(type, b);
  const errors = protocol === 1 ? [3, 4, 5, 11, 12] : protocol === 58 ? [1, 2, 3, 4] : [];
  if (rest.length >= 8 && errors.includes(rest[0]!)) {
    const quote = header(type, rest.slice(8));
    return { addresses: quote.addresses, ports: portsOf(quote.protocol, quote.rest), icmp: 0 };
  }
  return { addresses, ports: portsOf(protocol, rest), icmp: protocol === 1 || protocol === 58 ? icmpWord(rest) : 0 };
}

/** The walk to the innermost header, as a recursion over (EtherType, bytes) and (protocol, bytes). */
function deep(type: number, b: number[], tagged: boolean): Found {
  const found: Found = { addresses: 0, ports: 0, icmp: 0 };
  let headers = 0;
  let tagTaken = !tagged;
  const byType = (t: number, rest: number[]): undefined => {
    const again = (next: number, after: number[]): undefined => {
      headers++;
      if (headers <= 15) byType(next, after);
    };
    switch (t) {
      case 0x0800: {
        demand(rest, 20);
        if (rest[0]! % 16 < 5) throw new Short();
        const ip = header(t, rest);
        found.addresses = ip.addresses;
        if (ip.protocol !== null) byProtocol(t, ip.protocol, ip.rest);
        return;
      }
      case 0x86dd: {
        const ip = header(t, rest);
        found.addresses = ip.addresses;
        byProtocol(t, ip.protocol!, ip.rest);
        return;
      }
      case 0x8100:
      case 0x88a8:
        // The first tag met is taken for the one beside the frame: on from here, by the frame's own type.
        if (!tagTaken) {
          tagTaken = true;
          return again(type, rest);
        }
        tagTaken = true;
        return again(be16(rest, 2), rest.slice(4));
      case 0x8864: {
        demand(rest, 8);
        if (rest[0] !== 0x11 || rest[1] !== 0) throw new Short();
        const p = be16(rest, 6);
        const next = { 33: 0x0800, 87: 0x86dd, 641: 0x8847, 643: 0x8848 }[p];
        if (next !== undefined) return again(next, rest.slice(8));
        if (Math.floor(p / 256) % 2 !== 0 || p % 2 !== 1) throw new Short();
        return;
      }
      case 0x88ca:
        demand(rest, 16);
        found.addresses = le32(rest, 12);
        return;
      case 0x4305:
        demand(rest, 24);
        if (rest[0] !== 0x40 || rest[1] !== 15) throw new Short();
        return again(be16(rest, 22), rest.slice(24));
      case 0x88fb:
      case 0x892f:
        return again(be16(rest, 4), rest.slice(6));
      case 0x88f7:
        return demand(rest, 34);
      case 0x8906:
        return demand(rest, 38);
      case 0x8847:
      case 0x8848:
      case 0x0806:
      case 0x8035:
        return;
      default:
        throw new Short();
    }
  };
  const byProtocol = (t: number, protocol: number, rest: number[]): undefined => {
    const again = (next: number, after: number[]): undefined => {
      found.ports = 0;
      headers++;
      if (headers <= 15) byType(next, after);
    };
    if (protocol === 47) {
      demand(rest, 4);
      const flags = be16(rest, 0);
      const on = (bit: number): boolean => (flags & bit) !== 0;
      const version = flags % 8;
      let next = be16(rest, 2);
      if (on(0x4000) || version > 1 || (version === 1 && !(next === 0x880b && on(0x2000)))) {
        found.ports = 0;
        return;
      }
      let length = 4 + (on(0x8000) ? 4 : 0) + (on(0x2000) ? 4 : 0);
      if (on(0x2000)) demand(rest, length);
      if (on(0x1000)) length += 4;
      if (version === 0 && next === 0x6558) {
        next = be16(rest, length + 12);
        length += 14;
      } else if (version === 1) {
        if (on(0x80)) length += 4;
        next = { 33: 0x0800, 87: 0x86dd }[be16(rest, length + 2)] ?? next;
        length += 4;
      }
      return again(next, rest.slice(length));
    }
    if (t === 0x86dd && [0, 43, 60].includes(protocol)) {
      demand(rest, 2);
      const after = rest.slice((rest[1]! + 1) * 8);
      found.ports = portsOf(rest[0]!, after);
      headers++;
      if (headers <= 15) byProtocol(t, rest[0]!, after);
      return;
    }
    if (t === 0x86dd && protocol === 44) return demand(rest, 8);
    if (protocol === 4) return again(0x0800, rest);
    if (protocol === 41) return again(0x86dd, rest);
    if (protocol === 137) return again(0x8847, rest);
    if (protocol === 1 || protocol === 58) found.icmp = icmpWord(rest);
    found.ports = portsOf(protocol, rest);
  };
  byType(type, b);
  return found;
}
