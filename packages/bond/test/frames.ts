/** Ethernet frames of every kind that a transmit hash looks at, seeded; some cut short, some with bytes changed. */

export type Random = (below: number) => number;

/** Deterministic integers in [0, below) (mulberry32). */
export function random(seed: number): Random {
  let a = seed | 0;
  return (below) => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const u16 = (n: number): number[] => [(n >> 8) & 255, n & 255];
const some = (r: Random, n: number): number[] => Array.from({ length: n }, () => r(256));
const pick = <T>(r: Random, of: readonly T[]): T => of[r(of.length)]!;

const PROTOCOLS = [6, 17, 33, 50, 51, 132, 136, 1, 58, 2, 59, 89, 103, 115, 255, 0, 43, 44, 60, 137];

/** A frame whose destination is a plain unicast address. */
export function makeFrame(r: Random): Uint8Array {
  const frame = [0x02, ...some(r, 5), 0x02, ...some(r, 5), ...typed(r, 0)];
  while (frame.length < 60) frame.push(r(256));
  const chance = r(8);
  if (chance === 0) frame.length = 14 + r(frame.length - 13);
  if (chance === 1) for (let i = r(4); i >= 0; i--) frame[12 + r(Math.min(frame.length - 12, 64))] = r(256);
  return Uint8Array.from(frame);
}

/** A frame of UDP in IPv4 behind so many VLAN tags. */
export function tagsOnTags(r: Random, tags: number): Uint8Array {
  const addresses = [0x02, ...some(r, 5), 0x02, ...some(r, 5)];
  const udp = [...some(r, 4), 0, 8, 0, 0];
  const packet = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, ...some(r, 8), ...udp];
  const stack = Array.from({ length: tags }, () => [0x81, 0x00, ...some(r, 2)]).flat();
  return Uint8Array.from([...addresses, ...stack, 0x08, 0x00, ...packet]);
}

/** As the kernel does before the bond sees a frame: the outermost tag becomes metadata. */
export function untag(frame: Uint8Array): { bytes: Uint8Array; tag: number } {
  const type = (frame[12]! << 8) | frame[13]!;
  if (frame.length < 18 || (type !== 0x8100 && type !== 0x88a8)) return { bytes: frame, tag: 0 };
  const tag = 0x10000 | (frame[14]! << 8) | frame[15]!;
  return { bytes: Uint8Array.from([...frame.slice(0, 12), ...frame.slice(16)]), tag };
}

/** EtherType and what follows it. */
function typed(r: Random, depth: number): number[] {
  const kind = depth > 5 ? r(2) : r(20);
  if (kind < 6) return [0x08, 0x00, ...ipv4(r, depth)];
  if (kind < 11) return [0x86, 0xdd, ...ipv6(r, depth)];
  switch (kind) {
    case 11:
      return [
        ...pick(r, [
          [0x81, 0x00],
          [0x88, 0xa8],
        ]),
        ...some(r, 2),
        ...typed(r, depth + 1),
      ];
    case 12:
      return [0x88, 0x64, pick(r, [0x11, 0x11, 0x11, 0x12]), r(8) === 0 ? 1 : 0, ...some(r, 4), ...ppp(r, depth)];
    case 13:
      return [
        ...pick(r, [
          [0x88, 0x47],
          [0x88, 0x48],
        ]),
        ...some(r, 3),
        64,
        ...ipv4(r, depth + 1),
      ];
    case 14:
      return [0x43, 0x05, pick(r, [0x40, 0x40, 0x41]), 15, ...some(r, 8), ...some(r, 12), ...typed(r, depth + 1)];
    case 15:
      return [
        ...pick(r, [
          [0x88, 0xfb],
          [0x89, 0x2f],
        ]),
        ...some(r, 4),
        ...typed(r, depth + 1),
      ];
    case 16:
      // Not a keepalive of the link protocol: the kernel hashes those at random.
      return [0x88, 0xca, 0x40, ...some(r, 15 + r(20))];
    case 17:
      return [
        ...pick(r, [
          [0x88, 0xf7],
          [0x89, 0x06],
        ]),
        ...some(r, 20 + r(30)),
      ];
    case 18:
      return [
        ...pick(r, [
          [0x08, 0x06],
          [0x80, 0x35],
          [0x88, 0xcc],
          [0x88, 0xe5],
          [0, 46],
          [5, 220],
        ]),
        ...some(r, 46),
      ];
    default:
      return [...some(r, 2), ...some(r, 46)];
  }
}

function ppp(r: Random, depth: number): number[] {
  const kind = r(8);
  if (kind < 3) return [0x00, 0x21, ...ipv4(r, depth + 1)];
  if (kind < 5) return [0x00, 0x57, ...ipv6(r, depth + 1)];
  if (kind === 5) return [0x21, ...ipv4(r, depth + 1)];
  if (kind === 6)
    return [
      ...pick(r, [
        [0x02, 0x81],
        [0x02, 0x83],
        [0xc0, 0x21],
        [0x00, 0x20],
      ]),
      ...some(r, 40),
    ];
  return some(r, 42);
}

function ipv4(r: Random, depth: number): number[] {
  const words = r(8) === 0 ? pick(r, [6, 10, 15, 4, 0]) : 5;
  const fragment = r(8) === 0 ? pick(r, [0x2000, 0x2001, 0x00b9, 0x8000]) : pick(r, [0, 0x4000]);
  const [protocol, payload] = upper(r, depth, false);
  const options = some(r, Math.max(0, words * 4 - 20));
  const length = 20 + options.length + payload.length;
  const header = [0x40 | words, r(256), ...u16(length), ...some(r, 2), ...u16(fragment), 64, protocol, 0, 0];
  return [...header, ...some(r, 8), ...options, ...payload];
}

function ipv6(r: Random, depth: number): number[] {
  let [protocol, payload] = upper(r, depth, true);
  for (let extensions = r(4) === 0 ? 1 + r(3) : 0; extensions > 0; extensions--) {
    const kind = pick(r, [0, 43, 60, 44]);
    const length = kind === 44 ? 0 : r(3);
    payload = [protocol, length, ...u16(r(3) === 0 ? r(0x10000) : 0), ...some(r, 4 + length * 8), ...payload];
    protocol = kind;
  }
  return [0x60, ...some(r, 3), ...u16(payload.length), protocol, 64, ...some(r, 32), ...payload];
}

/** A protocol number and its payload. */
function upper(r: Random, depth: number, v6: boolean): [number, number[]] {
  const kind = depth > 4 ? r(6) : r(14);
  switch (kind) {
    case 6:
      return [47, gre(r, depth)];
    case 7:
      return [4, ipv4(r, depth + 1)];
    case 8:
      return [41, ipv6(r, depth + 1)];
    case 9:
    case 10:
      return [v6 ? 58 : 1, icmp(r, depth, v6)];
    case 11:
      return [17, [...u16(r(0x10000)), ...u16(pick(r, [4789, 6081, 4500, 500, 1701])), ...some(r, 4 + r(30))]];
    default:
      return [pick(r, PROTOCOLS), some(r, r(10) === 0 ? r(8) : 8 + r(32))];
  }
}

function icmp(r: Random, depth: number, v6: boolean): number[] {
  const error = r(2) === 0;
  const type = error
    ? pick(r, v6 ? [1, 2, 3, 4] : [3, 4, 5, 11, 12])
    : pick(r, [0, 8, 13, 14, 128, 129, 135, 9, r(256)]);
  const id = r(4) === 0 ? [0, 0] : some(r, 2);
  const quote = error ? (v6 ? ipv6(r, depth + 2) : ipv4(r, depth + 2)) : some(r, r(30));
  return [type, r(16), ...some(r, 2), ...id, ...some(r, 2), ...(error && r(3) === 0 ? quote.slice(0, 28) : quote)];
}

function gre(r: Random, depth: number): number[] {
  const version = r(6) === 0 ? 1 + r(2) : 0;
  let flags = version;
  for (const bit of [0x8000, 0x2000, 0x1000]) if (r(3) === 0) flags |= bit;
  if (r(12) === 0) flags |= 0x4000;
  if (version === 1) flags |= 0x2000 | (r(2) === 0 ? 0x0080 : 0);
  const options = some(r, 4 * [0x8000, 0x2000, 0x1000, 0x0080].filter((bit) => (flags & bit) !== 0).length);
  if (version === 1) return [...u16(flags), 0x88, 0x0b, ...options, 0xff, 0x03, ...ppp(r, depth)];
  const kind = r(4);
  if (kind === 0) return [...u16(flags), 0x65, 0x58, ...options, ...some(r, 12), ...typed(r, depth + 1)];
  const [a, b, ...rest] = typed(r, depth + 1);
  return [...u16(flags), a!, b!, ...options, ...rest];
}
