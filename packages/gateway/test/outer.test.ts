import { checksum } from '@espalier/wire';
import { parseConfig, type SaPlan } from 'espalier';
import { describe, expect, it } from 'vitest';
import { Pair, packet, planOf, type Side, saOf, tidy } from './pair.ts';

tidy();
/** Behind Ethernet: the outer IPv4 header. */
const L3 = 14;
const OUTER = [Uint8Array.of(192, 0, 2, 1), Uint8Array.of(192, 0, 2, 2)] as const;

/** SA settings as a file has them, as the plan of the SA from A to B. */
function asked(more: object, direction: 'in' | 'out' = 'out'): Partial<SaPlan> {
  const [source, destination] = ['192.0.2.1', '192.0.2.2'];
  const sa = { name: 'sa', direction, spi: 0x1000, source, destination, algorithm: 'aes128gcm16', ...more };
  const other = { name: 'o', direction: 'out', spi: 0x1f00, source, destination, algorithm: 'aes128gcm16' };
  const text = JSON.stringify({
    bond: { peerMac: '02:00:00:00:00:0b', lowers: [{ kind: 'mock', name: 'm0' }] },
    inside: { kind: 'mock' },
    sas: [
      { ...sa, key: '11'.repeat(20) },
      { ...other, key: '12'.repeat(20) },
    ],
    policies: [{ source: '0.0.0.0/0', destination: '0.0.0.0/0', action: 'discard' }],
  });
  const { name: _, spi: __, key: ___, ...plan } = parseConfig(text, 'plan').sas[0]!;
  return plan;
}

/** A packet between the gateways' own addresses. */
function between(from: Side, id: number, length = 80): Uint8Array {
  const bytes = packet(from, id, length);
  bytes.set([0, 0], 10);
  bytes.set([...OUTER[from], ...OUTER[1 - from]!], 12);
  const view = new DataView(bytes.buffer);
  view.setUint16(10, checksum(view, 0, 20));
  return bytes;
}

/** A pair whose SA from A to B, and back, is as a file asks. */
const openWith = (out: object, into: object = {}): Promise<Pair> => {
  const sas = (side: Side): SaPlan[] => [
    saOf(side, 'out', 0, { ...asked(out), source: OUTER[side], destination: OUTER[1 - side]! }),
    saOf((1 - side) as Side, 'in', 0, { ...asked(into, 'in'), source: OUTER[1 - side]!, destination: OUTER[side] }),
  ];
  return Pair.open([planOf(0, { sas: sas(0) }), planOf(1, { sas: sas(1) })]);
};

/** Sends from A; the frame on the wire and what came out at B. */
async function through(pair: Pair, bytes: Uint8Array): Promise<[frame: DataView, got: Uint8Array]> {
  let frame: Uint8Array | null = null;
  pair.filter = (one, from) => {
    if (from === 0) frame = one;
    return true;
  };
  pair.hosts[0]![0]!.write(bytes);
  let got: Uint8Array[] = [];
  await pair.until(() => (got = pair.read(1)).length === 1, 'one packet');
  return [new DataView(frame!.buffer), got[0]!];
}

describe('the outer header that a config file asks for', () => {
  /** An inner packet with this TOS and TTL. */
  function marked(tos: number, ttl: number, df = false): Uint8Array {
    const bytes = packet(0, 1, 80, { df });
    bytes.set([0, 0], 10);
    bytes[1] = tos;
    bytes[8] = ttl;
    const view = new DataView(bytes.buffer);
    view.setUint16(10, checksum(view, 0, 20));
    return bytes;
  }
  const EF = 46;
  const ECT = 2;

  it.each<[string, object, [tos: number, ttl: number, df: boolean], [tos: number, ttl: number, df: boolean]]>([
    ['what it says when nothing is said', {}, [(EF << 2) | ECT, 9, true], [(EF << 2) | ECT, 64, true]],
    ['one DSCP for all', { dscp: 10 }, [(EF << 2) | ECT, 9, false], [(10 << 2) | ECT, 64, false]],
    ['DSCPs by a map', { dscp: { 46: 12, others: 1 } }, [(EF << 2) | ECT, 9, false], [(12 << 2) | ECT, 64, false]],
    ['DSCPs by a map, others', { dscp: { 46: 12, others: 1 } }, [8 << 2, 9, false], [1 << 2, 64, false]],
    ['DSCPs by a map, others copied', { dscp: { 46: 12 } }, [8 << 2, 9, false], [8 << 2, 64, false]],
    ['no ECN', { ecn: 'compatibility' }, [(EF << 2) | ECT, 9, false], [EF << 2, 64, false]],
    ['DF set', { df: 'set' }, [0, 9, false], [0, 64, true]],
    ['DF clear', { df: 'clear' }, [0, 9, true], [0, 64, false]],
    ['a TTL', { ttl: 7 }, [0, 9, false], [0, 7, false]],
    ["the inner packet's TTL", { ttl: 'copy' }, [0, 9, false], [0, 9, false]],
  ])('has %s', async (_, outer, [tos, ttl, df], want) => {
    const pair = await openWith({ outer });
    const inner = marked(tos, ttl, df);
    const [frame, got] = await through(pair, inner);
    expect([frame.getUint8(L3 + 1), frame.getUint8(L3 + 8), (frame.getUint16(L3 + 6) & 0x4000) !== 0]).toEqual(want);
    expect(checksum(frame, L3, L3 + 20)).toBe(0);
    expect(Buffer.from(got).toString('hex')).toBe(Buffer.from(inner).toString('hex'));
  });

  it('is UDP from a port by inner flow, with a table of flows of its own', async () => {
    const pair = await openWith({ encap: { sport: 'flow' } }, { encap: {} });
    const ports = new Set<number>();
    for (let id = 0; id < 8; id++) {
      const [frame] = await through(pair, packet(0, id));
      expect([frame.getUint8(L3 + 9), frame.getUint16(L3 + 22)]).toEqual([17, 4500]);
      ports.add(frame.getUint16(L3 + 20));
    }
    expect(Math.min(...ports)).toBeGreaterThanOrEqual(49_152);
    expect(ports.size).toBeGreaterThan(4);
  });

  it('of packets padded to one length says nothing about them', async () => {
    const pair = await openWith({ tfc: 600 });
    const lengths = new Set<number>();
    for (const length of [40, 333, 600]) {
      const [frame, got] = await through(pair, packet(0, length, length));
      lengths.add(frame.byteLength);
      expect(got.length).toBe(length);
    }
    expect([...lengths]).toEqual([L3 + 20 + 16 + 604 + 16]);
  });
});

describe('an SA in transport mode', () => {
  it.each([['bare'], ['in UDP']])(
    "carries packets between the gateways' own addresses under their own header, %s",
    async (how) => {
      const encap = how === 'bare' ? {} : { encap: {} };
      const pair = await openWith({ mode: 'transport', ...encap }, { mode: 'transport', ...encap });
      const sent = between(0, 7);
      const [frame, got] = await through(pair, sent);
      // A payload of 60 bytes, padded with its trailer to 64.
      expect(frame.byteLength).toBe(L3 + 20 + (how === 'bare' ? 0 : 8) + 16 + 64 + 16);
      expect([frame.getUint8(L3 + 8), frame.getUint8(L3 + 9)]).toEqual([64, how === 'bare' ? 50 : 17]);
      expect(Buffer.from(got).toString('hex')).toBe(Buffer.from(sent).toString('hex'));
      expect(pair.gateways[1]!.stats().drops).toEqual({});
    },
  );

  it('needs no more room than ESP itself, and tells hosts how much that is', async () => {
    const pair = await openWith({ mode: 'transport' }, { mode: 'transport' });
    // 1500 - 16 of ESP and IV - 16 of ICV - 2 of trailer, in whole words of payload.
    const [, got] = await through(pair, between(0, 1, 1466));
    expect(got.length).toBe(1466);
    pair.hosts[0]![0]!.write(between(0, 2, 1467));
    let answers: Uint8Array[] = [];
    await pair.until(() => (answers = pair.read(0)).length === 1, 'an answer');
    expect(new DataView(answers[0]!.buffer).getUint16(26)).toBe(1466);
  });

  it('is not the SA of a stranger’s addresses: the peer finds none', async () => {
    const pair = await openWith({ mode: 'transport' }, { mode: 'transport' });
    pair.hosts[0]![0]!.write(packet(0, 1));
    await pair.until(() => pair.gateways[1]!.stats().drops.NO_STATE === 1, 'dropped');
    expect(pair.read(1)).toEqual([]);
  });
});

describe('a plan that was not made from a file', () => {
  it('is refused with what is wrong with it, and leaves nothing', async () => {
    const sas = [saOf(0, 'out', 0, { outer: { ttl: 0 } }), saOf(1, 'in')];
    await expect(Pair.open([planOf(0, { sas }), planOf(1)])).rejects.toThrow(
      new RangeError('"ttl" must be from 1 to 255, got 0'),
    );
  });
});

describe('links that come and go', () => {
  it('wait as long as a file says until they count', async () => {
    let now = 0;
    const { bond } = planOf(0);
    const delays = async (mode: 'active-backup' | 'balance-xor'): Promise<() => string[]> => {
      const plan = planOf(0, { bond: { ...bond, mode, downDelay: 1000, upDelay: 2000 } });
      const pair = await Pair.open([plan, planOf(1)], { clock: () => now });
      now += 2000;
      await pause();
      pair.devices[0][0]!.setCarrier(false);
      return () => {
        pair.devices[0][0]!.setCarrier(now >= 4000);
        return pair.gateways[0]!.stats().slaves.flatMap(({ name, usable }) => (usable ? [name] : []));
      };
    };
    const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 150));
    const usable = await delays('balance-xor');
    // No frame is given to a link without carrier, whatever its delay.
    expect(usable()).toEqual(['a1']);
    now = 4000;
    await pause();
    usable();
    now += 1900;
    await pause();
    expect(usable()).toEqual(['a1']);
    now += 200;
    await pause();
    expect(usable()).toEqual(['a0', 'a1']);

    now = 0;
    const active = await delays('active-backup');
    now += 900;
    await pause();
    expect(active()).toEqual(['a0']);
    now += 200;
    await pause();
    expect(active()).toEqual(['a1']);
  });
});
