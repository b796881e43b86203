import { NO_POLICY, PolicyAction, type PolicyTicket, type PortRange, Spd } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { PolicyIndex } from '../src/policy-index.ts';
import { PolicyList } from '../src/policy-list.ts';

const ROUNDS = process.env.ESPALIER_LONG ? 5000 : 50;

const v4 = (...bytes: number[]): Uint8Array => Uint8Array.from(bytes);
const v6 = (...words: number[]): Uint8Array => {
  const bytes = new Uint8Array(16);
  words.forEach((word, i) => {
    new DataView(bytes.buffer).setUint16(2 * i, word);
  });
  return bytes;
};

function policy(
  source: Uint8Array,
  sourceBits: number,
  destination: Uint8Array,
  destinationBits: number,
  result: number | 'bypass' | 'discard',
  protocol: number | null = null,
): PolicyTicket {
  const action = typeof result === 'number' ? 'protect' : result;
  const slot = typeof result === 'number' ? result : -1;
  return { source, sourceBits, destination, destinationBits, protocol, action, slot };
}

/** An IP header at an odd offset, with `rest` behind it. */
function packet(
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  rest: number[] = [],
): [DataView, number] {
  const at = 3;
  const six = source.length === 16;
  const bytes = new Uint8Array(at + (six ? 40 : 20) + rest.length);
  const view = new DataView(bytes.buffer);
  bytes[at] = six ? 0x60 : 0x45;
  if (six) view.setUint16(at + 4, rest.length);
  bytes[at + (six ? 6 : 9)] = protocol;
  bytes.set(source, at + (six ? 8 : 12));
  bytes.set(destination, at + (six ? 24 : 16));
  bytes.set(rest, at + (six ? 40 : 20));
  return [view, at];
}

const TCP = 6;
const UDP = 17;
const NET = v4(10, 1, 0, 0);
const ANY = v4(0, 0, 0, 0);

class Dice {
  #x: number;

  constructor(seed: number) {
    this.#x = seed;
  }

  below(n: number): number {
    this.#x = (Math.imul(this.#x, 1_103_515_245) + 12_345) >>> 0;
    return (this.#x >>> 8) % n;
  }

  one<T>(all: readonly T[]): T {
    return all[this.below(all.length)]!;
  }
}

/** Addresses that differ in few bits, some at the end of every word, so that prefixes of every length part them. */
function randomAddress(dice: Dice, bytes: 4 | 16): Uint8Array {
  const address = new Uint8Array(bytes).fill(0x5a);
  for (let n = dice.below(3); n > 0; n--) {
    const bit = dice.below(2) ? bytes * 8 - 1 - dice.below(4) : dice.below(bytes * 8);
    address[bit >> 3] = address[bit >> 3]! ^ (0x80 >> (bit & 7));
  }
  return address;
}

function randomBits(dice: Dice, bytes: 4 | 16): number {
  return dice.one([bytes * 8, bytes * 8 - 3, bytes * 8 - 3, 16, 0, dice.below(bytes * 8 + 1)]);
}

function randomPolicy(dice: Dice, bytes: 4 | 16, slot: number): PolicyTicket {
  const range = (): PortRange => {
    const first = dice.below(6);
    return dice.below(4) ? [first, first + dice.below(6 - first)] : 'opaque';
  };
  return {
    source: randomAddress(dice, bytes),
    sourceBits: randomBits(dice, bytes),
    destination: randomAddress(dice, bytes),
    destinationBits: randomBits(dice, bytes),
    protocol: dice.one([null, null, TCP, UDP]),
    ...(dice.below(3) ? {} : { sourcePorts: range() }),
    ...(dice.below(3) ? {} : { destinationPorts: range() }),
    action: 'protect',
    slot,
  };
}

interface Packet {
  readonly view: DataView;
  readonly at: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  /** null: they cannot be seen. */
  readonly ports: readonly [number, number] | null;
}

function randomPacket(dice: Dice, bytes: 4 | 16): Packet {
  const [source, destination] = [randomAddress(dice, bytes), randomAddress(dice, bytes)];
  const protocol = dice.one([TCP, UDP, 47]);
  const ports = protocol === 47 ? null : ([dice.below(6), dice.below(6)] as const);
  const [view, at] = packet(source, destination, protocol, ports ? [0, ports[0], 0, ports[1]] : [1, 2, 3, 4]);
  if (bytes === 4) view.setUint16(at + 2, 24);
  return { view, at, source, destination, protocol, ports };
}

function matchesPlainly(p: PolicyTicket, it: Packet): boolean {
  const inPrefix = (address: Uint8Array, prefix: Uint8Array, bits: number): boolean => {
    for (let bit = 0; bit < bits; bit++)
      if (((address[bit >> 3]! ^ prefix[bit >> 3]!) & (0x80 >> (bit & 7))) !== 0) return false;
    return true;
  };
  const inPorts = (port: number | undefined, want: PortRange | undefined): boolean =>
    want === undefined ||
    (want === 'opaque' ? port === undefined : port !== undefined && port >= want[0] && port <= want[1]);
  return (
    inPrefix(it.source, p.source, p.sourceBits) &&
    inPrefix(it.destination, p.destination, p.destinationBits) &&
    (p.protocol === null || p.protocol === it.protocol) &&
    inPorts(it.ports?.[0], p.sourcePorts) &&
    inPorts(it.ports?.[1], p.destinationPorts)
  );
}

describe('Spd', () => {
  it('lets the first policy that matches decide', () => {
    const spd = new Spd([
      policy(NET, 16, v4(10, 2, 3, 4), 32, 'discard'),
      policy(NET, 16, v4(10, 2, 0, 0), 16, 7, TCP),
      policy(NET, 16, v4(10, 2, 0, 0), 16, 8),
      policy(NET, 16, ANY, 0, 'bypass'),
    ]);
    const inside = v4(10, 1, 200, 9);
    expect(spd.size).toBe(4);
    expect(spd.lookup(...packet(inside, v4(10, 2, 3, 4), TCP))).toBe(PolicyAction.DISCARD);
    expect(spd.lookup(...packet(inside, v4(10, 2, 3, 5), TCP))).toBe(7);
    expect(spd.lookup(...packet(inside, v4(10, 2, 3, 5), UDP))).toBe(8);
    expect(spd.lookup(...packet(inside, v4(10, 3, 0, 0), UDP))).toBe(PolicyAction.BYPASS);
    expect(spd.lookup(...packet(v4(11, 1, 0, 0), v4(10, 2, 3, 5), TCP))).toBe(NO_POLICY);
  });

  it('matches nothing when it is empty or the version is unknown', () => {
    const empty = new Spd([]);
    expect(empty.lookup(...packet(NET, ANY, TCP))).toBe(NO_POLICY);
    expect(empty.lookup(...packet(v6(1), v6(2), TCP))).toBe(NO_POLICY);
    const all = new Spd([policy(ANY, 0, ANY, 0, 'bypass')]);
    const [view, at] = packet(NET, ANY, TCP);
    view.setUint8(at, 0x55);
    expect(all.lookup(view, at)).toBe(NO_POLICY);
  });

  it('compares exactly the bits of a prefix, for every length of both families', () => {
    for (const bytes of [4, 16]) {
      for (let bits = 0; bits <= bytes * 8; bits++) {
        const net = new Uint8Array(bytes).fill(0xa5);
        const spd = new Spd([policy(net, bits, new Uint8Array(bytes), 0, 1)]);
        const flip = (bit: number): Uint8Array => {
          const address = Uint8Array.from(net);
          address[bit >> 3] = address[bit >> 3]! ^ (0x80 >> (bit & 7));
          return address;
        };
        expect(spd.lookup(...packet(net, net, TCP))).toBe(1);
        if (bits > 0) expect(spd.lookup(...packet(flip(bits - 1), net, TCP))).toBe(NO_POLICY);
        if (bits < bytes * 8) expect(spd.lookup(...packet(flip(bits), net, TCP))).toBe(1);
        const other = new Spd([policy(new Uint8Array(bytes), 0, net, bits, 1)]);
        if (bits > 0) expect(other.lookup(...packet(net, flip(bits - 1), TCP))).toBe(NO_POLICY);
        expect(other.lookup(...packet(net, net, TCP))).toBe(1);
      }
    }
  });

  it('finds the protocol of an IPv6 packet behind its extension headers', () => {
    const spd = new Spd([policy(v6(), 0, v6(), 0, 3, TCP), policy(v6(0xfd00), 8, v6(), 0, 4)]);
    const a = v6(0xfd00, 1);
    const hopByHop = [TCP, 0, 1, 4, 0, 0, 0, 0];
    const chain = [60, 0, 1, 4, 0, 0, 0, 0, 43, 0, 1, 4, 0, 0, 0, 0, TCP, 0, 0, 0, 0, 0, 0, 0];
    expect(spd.lookup(...packet(a, a, TCP))).toBe(3);
    expect(spd.lookup(...packet(a, a, UDP))).toBe(4);
    expect(spd.lookup(...packet(a, a, 0, hopByHop))).toBe(3);
    expect(spd.lookup(...packet(a, a, 0, chain))).toBe(3);
    expect(spd.lookup(...packet(a, a, 44, [TCP, 0, 0, 1, 0, 0, 0, 1]))).toBe(3);
  });

  it('takes a cut or endless header chain for an unknown protocol and never reads past the packet', () => {
    const spd = new Spd([policy(v6(), 0, v6(), 0, 3, TCP), policy(v6(), 0, v6(), 0, 'discard')]);
    const a = v6(1);
    expect(spd.lookup(...packet(a, a, 0, [TCP, 0, 1, 4]))).toBe(PolicyAction.DISCARD);
    expect(spd.lookup(...packet(a, a, 0, [0, 255, 0, 0, 0, 0, 0, 0]))).toBe(PolicyAction.DISCARD);
    const [view, at] = packet(a, a, 0, [0, 0, 0, 0, 0, 0, 0, 0]);
    view.setUint16(at + 4, 0xffff);
    expect(spd.lookup(view, at)).toBe(PolicyAction.DISCARD);
  });

  it('is made from plain data that survives a structured clone', () => {
    const tickets = [policy(NET, 16, ANY, 0, 5)];
    expect(new Spd(structuredClone(tickets)).lookup(...packet(v4(10, 1, 2, 3), NET, UDP))).toBe(5);
  });

  it('refuses policies that make no sense', () => {
    expect(() => new Spd([policy(NET, 33, ANY, 0, 1)])).toThrow(RangeError);
    expect(() => new Spd([policy(NET, 16, v6(), 0, 1)])).toThrow(RangeError);
    expect(() => new Spd([policy(v4(1, 2), 8, v4(1, 2), 0, 1)])).toThrow(RangeError);
    expect(() => new Spd([policy(NET, 16, ANY, 0, 1, 256)])).toThrow(RangeError);
    expect(() => new Spd([policy(NET, 16, ANY, 0, -1)])).toThrow(RangeError);
  });

  it('matches ports by range, takes ICMP type and code for ports, and only opaque or any where ports cannot be seen', () => {
    const any = { source: ANY, sourceBits: 0, destination: ANY, destinationBits: 0, action: 'protect' as const };
    const spd = new Spd([
      { ...any, protocol: TCP, destinationPorts: [80, 89], slot: 1 },
      { ...any, protocol: UDP, sourcePorts: [53, 53], destinationPorts: [1024, 65_535], slot: 2 },
      { ...any, protocol: 1, sourcePorts: [0x0800, 0x08ff], slot: 3 },
      { ...any, protocol: TCP, destinationPorts: 'opaque', slot: 4 },
      { ...any, protocol: UDP, slot: 5 },
    ]);
    const ip = (protocol: number, rest: number[], fragment = 0): [DataView, number] => {
      const [view, at] = packet(NET, NET, protocol, rest);
      view.setUint16(at + 2, 20 + rest.length);
      view.setUint16(at + 6, fragment);
      return [view, at];
    };
    const ports = (s: number, d: number): number[] => [s >> 8, s & 255, d >> 8, d & 255];
    expect(spd.lookup(...ip(TCP, ports(9, 80)))).toBe(1);
    expect(spd.lookup(...ip(TCP, ports(9, 89)))).toBe(1);
    expect(spd.lookup(...ip(TCP, ports(80, 79)))).toBe(NO_POLICY);
    expect(spd.lookup(...ip(TCP, ports(80, 90)))).toBe(NO_POLICY);
    expect(spd.lookup(...ip(UDP, ports(53, 1024)))).toBe(2);
    expect(spd.lookup(...ip(UDP, ports(53, 1023)))).toBe(5);
    expect(spd.lookup(...ip(1, [8, 0, 0, 0]))).toBe(3);
    expect(spd.lookup(...ip(1, [0, 0, 0, 0]))).toBe(NO_POLICY);
    // The first fragment shows its ports, the later ones do not, nor does what is cut.
    expect(spd.lookup(...ip(TCP, ports(9, 80), 0x2000))).toBe(1);
    expect(spd.lookup(...ip(TCP, ports(9, 80), 0x2001))).toBe(4);
    expect(spd.lookup(...ip(TCP, [0, 80]))).toBe(4);
    expect(spd.lookup(...ip(UDP, ports(53, 2000), 5))).toBe(5);
    expect(() => new Spd([{ ...any, protocol: TCP, slot: 1, sourcePorts: [5, 4] }])).toThrow(RangeError);
    expect(() => new Spd([{ ...any, protocol: TCP, slot: 1, sourcePorts: [0, 65_536] }])).toThrow(RangeError);
  });

  it.each([
    { bytes: 4, few: 'from 1 to 8', most: 8 },
    { bytes: 4, few: 'up to 100', most: 100 },
    { bytes: 16, few: 'from 1 to 8', most: 8 },
    { bytes: 16, few: 'up to 100', most: 100 },
  ] as const)(
    'agrees with policies read the plain way, addresses of $bytes bytes, $few policies, on random policies and packets',
    ({ bytes, most }) => {
      const dice = new Dice(bytes + most);
      const met = new Map<number, number>();
      for (let round = 0; round < ROUNDS; round++) {
        const policies = Array.from({ length: 1 + dice.below(most) }, (_, slot) => randomPolicy(dice, bytes, slot));
        const finders = [new PolicyList(policies, bytes), new PolicyIndex(policies, bytes)];
        const spd = new Spd(policies);
        for (let k = 0; k < 200; k++) {
          const it = randomPacket(dice, bytes);
          const naive = policies.findIndex((p) => matchesPlainly(p, it));
          expect(finders.map((f) => (bytes === 4 ? f.find4(it.view, it.at) : f.find6(it.view, it.at)))).toEqual([
            naive,
            naive,
          ]);
          expect(spd.lookup(it.view, it.at)).toBe(naive < 0 ? NO_POLICY : policies[naive]!.slot);
          met.set(naive, (met.get(naive) ?? 0) + 1);
        }
      }
      // Misses, first policies and late ones have all been seen.
      expect(met.get(-1)).toBeGreaterThan(ROUNDS);
      expect(met.get(0)).toBeGreaterThan(ROUNDS);
      expect(met.size).toBeGreaterThan(most / 2);
    },
  );

  it('tells of no more packets than the policy that answered lately answers, on random policies and packets', () => {
    const dice = new Dice(7);
    let told = 0;
    for (let round = 0; round < 4 * ROUNDS; round++) {
      const policies = Array.from({ length: 1 + dice.below(10) }, (_, slot) => {
        const policy = randomPolicy(dice, 4, slot);
        const { source, sourceBits, destination, destinationBits } = policy;
        // Most ask for addresses only.
        return dice.below(4)
          ? { source, sourceBits, destination, destinationBits, protocol: null, action: policy.action, slot }
          : policy;
      });
      const spd = new Spd(policies);
      const again = new Spd(policies);
      for (let k = 0; k < 100; k++) {
        const it = randomPacket(dice, 4);
        const [source, destination, sourceMask, destinationMask, slot] = spd.recent;
        const known =
          (it.view.getInt32(it.at + 12) & sourceMask!) === source &&
          (it.view.getInt32(it.at + 16) & destinationMask!) === destination;
        const says = again.lookup(it.view, it.at);
        if (known) expect(slot).toBe(says);
        if (known) told++;
        for (let n = dice.below(4); n > 0; n--) expect(spd.lookupNext(it.view, it.at)).toBe(says);
        if (k % 25 !== 24) continue;
        const [from, to] = [dice.below(10), 10 + dice.below(10)];
        expect(spd.redirect(from, to)).toBe(again.redirect(from, to));
      }
    }
    expect(told).toBeGreaterThan(50 * ROUNDS);
  });

  it('redirects every policy of one SA to another at once', () => {
    const spd = new Spd([policy(NET, 16, ANY, 0, 5), policy(v6(), 0, v6(), 0, 5), policy(ANY, 0, ANY, 0, 6)]);
    expect(spd.redirect(5, 9)).toBe(2);
    expect(spd.lookup(...packet(NET, ANY, TCP))).toBe(9);
    expect(spd.lookup(...packet(v6(1), v6(2), TCP))).toBe(9);
    expect(spd.lookup(...packet(ANY, ANY, TCP))).toBe(6);
    expect(spd.redirect(5, 9)).toBe(0);
    expect(() => spd.redirect(9, -1)).toThrow(RangeError);
  });
});
