import { checksum, Icmp, Icmpv6, IpProtocol, pseudoHeaderIpv6, writeTooBig } from '@espalier/wire';
import { describe, expect, it } from 'vitest';
import { any, inner, Pair, packet, planOf, saOf, tidy } from './pair.ts';

let pair: Pair;
tidy();

const SIX = Uint8Array.from([0xfd, ...new Array(14).fill(0), 1]);
const FAR_SIX = Uint8Array.from([0xfd, ...new Array(14).fill(0), 2]);
const any6 = { source: new Uint8Array(16), sourceBits: 0, destination: new Uint8Array(16), destinationBits: 0 };
const policies = [any, any6].map((one) => ({ ...one, protocol: null, action: 'protect' as const, sa: 'out0' }));
/** ESP over IPv4 in 1500 bytes, AES-GCM: 20 + 8 + 8 + inner, padded with 2 bytes of trailer to a multiple of 4, + 16. */
const INNER_MTU = 1446;

function packet6(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  bytes.set([0x60, 0, 0, 0, (length - 40) >> 8, (length - 40) & 255, 17, 64, ...SIX, ...FAR_SIX]);
  return bytes;
}

/** A SYN with an MSS option of 1460. */
function syn(): Uint8Array {
  const bytes = packet(0, 0, 44);
  bytes[9] = 6;
  const view = new DataView(bytes.buffer);
  view.setUint16(10, 0);
  view.setUint16(10, checksum(view, 0, 20));
  bytes.set(
    [0x20, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 1460 >> 8, 1460 & 255],
    20,
  );
  return bytes;
}

/** What came back to the host at A: one packet at least. */
async function answers(least = 1): Promise<DataView[]> {
  const got: DataView[] = [];
  await pair.until(() => {
    got.push(...pair.read(0).map((bytes) => new DataView(bytes.buffer)));
    return got.length >= least;
  }, 'an answer');
  return got;
}

const text = (view: DataView, at: number, length: number): string =>
  Buffer.from(view.buffer as ArrayBuffer, at, length).toString('hex');

/** Frame of A's that a router on the way has found too big, with that router's answer, ready to be injected. */
function routerSays(frame: Uint8Array, mtu: number): Uint8Array {
  const bytes = new Uint8Array(4096);
  bytes.set(frame, 2048);
  const view = new DataView(bytes.buffer);
  const end = writeTooBig(bytes, view, 14, 2048 + 14, 2048 + frame.length, mtu, Uint8Array.of(203, 0, 113, 1));
  bytes.set([...frame.subarray(6, 12), ...frame.subarray(0, 6), 8, 0]);
  return bytes.slice(0, end);
}

describe('a packet that is too big for its tunnel', () => {
  it('is answered into the inside, in the name of its destination, with the MTU that fits: IPv4', async () => {
    pair = await Pair.open();
    const big = packet(0, 1, INNER_MTU + 1, { df: true });
    pair.hosts[0]![0]!.write(big);
    const [view] = await answers();
    expect([view!.getUint8(9), view!.getUint8(20), view!.getUint8(21)]).toEqual([
      IpProtocol.ICMP,
      Icmp.UNREACHABLE,
      Icmp.FRAGMENTATION_NEEDED,
    ]);
    expect(view!.getUint16(26)).toBe(INNER_MTU);
    expect([text(view!, 12, 4), text(view!, 16, 4)]).toEqual(
      [inner(1), inner(0)].map((a) => Buffer.from(a).toString('hex')),
    );
    expect([checksum(view!, 0, 20), checksum(view!, 20, view!.byteLength)]).toEqual([0, 0]);
    // The quote is the packet itself.
    expect(text(view!, 28, 500)).toBe(Buffer.from(big).toString('hex').slice(0, 1000));
    expect(pair.gateways[0]!.stats()).toMatchObject({ drops: { TOO_BIG: 1 }, answers: 1 });
    // The size that was told fits.
    pair.hosts[0]![0]!.write(packet(0, 2, INNER_MTU, { df: true }));
    await pair.until(() => pair.read(1).length === 1, 'the packet that fits');
    expect([pair.numbers.get(saOf(0, 'out').spi)!.size, pair.plaintext.length]).toEqual([1, 0]);
  });

  it('is answered into the inside: IPv6, from an address of ours where one is given', async () => {
    const from = Uint8Array.from([0xfd, ...new Array(14).fill(0), 0x99]);
    const inside = { ...planOf(0).inside, tooBig: { perSecond: 10, from: [from] } };
    pair = await Pair.open([planOf(0, { policies, inside }), planOf(1)]);
    pair.hosts[0]![1]!.write(packet6(INNER_MTU + 1));
    const [view] = await answers();
    expect([view!.getUint8(6), view!.getUint8(40)]).toEqual([IpProtocol.ICMPV6, Icmpv6.PACKET_TOO_BIG]);
    expect(view!.getUint32(44)).toBe(INNER_MTU);
    expect([text(view!, 8, 16), text(view!, 24, 16)]).toEqual([from, SIX].map((a) => Buffer.from(a).toString('hex')));
    const sum = pseudoHeaderIpv6(view!, 0, IpProtocol.ICMPV6, view!.byteLength - 40);
    expect(checksum(view!, 40, view!.byteLength, sum)).toBe(0);
  });

  it('is answered so many times a second and no more, and never when it is an error itself', async () => {
    let now = 0;
    const inside = { ...planOf(0).inside, tooBig: { perSecond: 5, from: [] } };
    pair = await Pair.open([planOf(0, { inside }), planOf(1)], { clock: () => now });
    const flood = async (count: number, make: () => Uint8Array): Promise<number> => {
      const goal = (pair.gateways[0]!.stats().drops.TOO_BIG ?? 0) + count;
      for (let i = 0; i < count; i++) pair.hosts[0]![0]!.write(make());
      await pair.until(() => pair.gateways[0]!.stats().drops.TOO_BIG === goal, 'all of them dropped');
      return pair.read(0).length;
    };
    const big = (): Uint8Array => packet(0, 1, 1460);
    expect(await flood(100, big)).toBe(5);
    expect(await flood(100, big)).toBe(0);
    now += 400;
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(await flood(100, big)).toBe(2);
    now += 5000;
    await new Promise((resolve) => setTimeout(resolve, 150));
    const error = packet(0, 1, 1460);
    error.set([1, 0, 0], 9);
    error.set([Icmp.UNREACHABLE, 3], 20);
    const view = new DataView(error.buffer);
    view.setUint16(10, 0);
    view.setUint16(10, checksum(view, 0, 20));
    expect(await flood(20, () => error)).toBe(0);
  });

  it('is one that a router on the way found too big, until that is forgotten; who only guesses is not believed', async () => {
    let now = 0;
    pair = await Pair.open([planOf(0), planOf(1)], { clock: () => now });
    let frame: Uint8Array | null = null;
    let link = -1;
    pair.filter = (bytes, from, on) => {
      if (from === 0) [frame, link] = [bytes, on];
      return true;
    };
    const send = (id: number, length: number): boolean => pair.hosts[0]![0]!.write(packet(0, id, length, { df: true }));
    const known = (): number => pair.gateways[0]!.stats().sas.find((sa) => sa.name === 'out0')!.pathMtu!;
    send(1, 1400);
    await pair.until(() => pair.read(1).length === 1, 'before');
    const judged = (count: number): Promise<void> =>
      pair.until(() => pair.gateways[0]!.stats().drops.OUTER_ERROR === count, 'judged');
    // A number far from those that went out, and a size below what every host takes.
    const forged = frame!.slice();
    forged.set([0x7f, 0xff, 0xff, 0xff], 38);
    pair.inject(routerSays(forged, 1300), 1, link);
    pair.inject(routerSays(frame!, 500), 1, link);
    await judged(2);
    expect(known()).toBe(0);
    pair.inject(routerSays(frame!, 1300), 1, link);
    await judged(3);
    expect(known()).toBe(1300);
    // Whichever worker heard of it, both know.
    for (const queue of [0, 1]) {
      pair.hosts[0]![queue]!.write(packet(0, 2, 1400, { df: true }));
      const [view] = await answers();
      expect(view!.getUint16(26)).toBe(INNER_MTU - 200);
    }
    send(3, INNER_MTU - 200);
    await pair.until(() => pair.read(1).length === 1, 'what fits');
    // RFC 1191 6.3: ten minutes.
    now += 590_000;
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(known()).toBe(1300);
    now += 11_000;
    await pair.until(() => known() === 0, 'forgotten');
    send(4, 1400);
    await pair.until(() => pair.read(1).length === 1, 'as before');
  });
});

describe('the MSS of a connection through the tunnel', () => {
  it.each([
    ['to what the MTU takes', 'mtu' as const, INNER_MTU - 40],
    ['to what is said', 1200, 1200],
  ])('is lowered %s, its checksum mended', async (_, mss, most) => {
    pair = await Pair.open([planOf(0, { sas: [saOf(0, 'out', 0, { mss }), saOf(1, 'in')] }), planOf(1)]);
    const before = syn();
    pair.hosts[0]![0]!.write(before);
    let got: Uint8Array[] = [];
    await pair.until(() => {
      got = pair.read(1);
      return got.length > 0;
    }, 'the SYN');
    const [was, is] = [before, got[0]!].map((bytes) => new DataView(bytes.buffer));
    expect(is!.getUint16(42)).toBe(most);
    // One word changed in both sums alike (RFC 1624).
    const sum = (view: DataView): number => (view.getUint16(42) + view.getUint16(36)) % 0xffff;
    expect(sum(is!)).toBe(sum(was!));
  });

  it('stays as it is unless asked for', async () => {
    pair = await Pair.open();
    pair.hosts[0]![0]!.write(syn());
    let got: Uint8Array[] = [];
    await pair.until(() => {
      got = pair.read(1);
      return got.length > 0;
    }, 'the SYN');
    expect(new DataView(got[0]!.buffer).getUint16(42)).toBe(1460);
  });
});
