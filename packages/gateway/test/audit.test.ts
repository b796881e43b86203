import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { listen, Pair, packet, planOf, saOf, tidy } from './pair.ts';

let pair: Pair;
tidy();

/** A frame of A's to B, as it was on the wire, and its link. */
async function caught(): Promise<[Uint8Array, number]> {
  let got: [Uint8Array, number] | null = null;
  pair.filter = (frame, from, link) => {
    if (from === 0) got = [frame, link];
    return true;
  };
  pair.hosts[0]![0]!.write(packet(0, 1));
  await pair.until(() => pair.read(1).length === 1, 'one packet');
  return got!;
}

describe('the audit', () => {
  it('tells of a replay, a forgery and a stranger: SA, SPI, number, addresses, date', async () => {
    pair = await Pair.open([planOf(0), planOf(1, { audit: { perSecond: 10, burst: 50 } })]);
    const events = listen(1, 'audit');
    const began = Date.now();
    const [frame, link] = await caught();
    pair.inject(frame, 0, link);
    const forged = frame.slice();
    forged[41] = 9;
    pair.inject(forged, 0, link);
    const stranger = frame.slice();
    stranger[37] = 0xfe;
    pair.inject(stranger, 0, link);
    await pair.until(() => events.length === 3, 'three events');
    const common = { type: 'audit', gateway: 'B', source: '192.0.2.1', destination: '192.0.2.2', flowLabel: 0 };
    expect(events.sort((x, y) => (x.reason < y.reason ? -1 : 1))).toMatchObject([
      { ...common, reason: 'ICV', sa: 'in0', spi: '0x00001000', seq: 9 },
      { ...common, reason: 'NO_STATE', sa: null, spi: '0x000010fe', seq: 1 },
      { ...common, reason: 'REPLAYED', sa: 'in0', spi: '0x00001000', seq: 1 },
    ]);
    for (const { time } of events) {
      expect(Date.parse(time)).toBeGreaterThan(began - 1000);
      expect(Date.parse(time)).toBeLessThan(Date.now() + 1000);
    }
    const said = JSON.stringify(events) + inspect(events, { depth: 9 });
    for (const { key } of [saOf(0, 'out'), saOf(1, 'out')])
      expect(said).not.toContain(Buffer.from(key).toString('hex').slice(0, 16));
  });

  it('tells so many a second, and counts the rest', async () => {
    let now = 0;
    const audit = { perSecond: 2, burst: 3 };
    pair = await Pair.open([planOf(0), planOf(1, { audit })], { clock: () => now });
    const events = listen(1, 'audit');
    const [frame, link] = await caught();
    const flood = async (count: number): Promise<void> => {
      const goal = (pair.gateways[1]!.stats().drops.REPLAYED ?? 0) + count;
      for (let i = 0; i < count; i++) expect(pair.inject(frame, 0, link)).toBe(true);
      await pair.until(() => pair.gateways[1]!.stats().drops.REPLAYED === goal, 'all of them refused');
      await new Promise((resolve) => setTimeout(resolve, 150));
    };
    await flood(100);
    expect([events.length, pair.gateways[1]!.stats().suppressed]).toEqual([3, 97]);
    now += 1000;
    await new Promise((resolve) => setTimeout(resolve, 150));
    await flood(100);
    expect([events.length, pair.gateways[1]!.stats().suppressed]).toEqual([5, 195]);
  });

  it('is off unless asked for', async () => {
    pair = await Pair.open();
    const events = listen(1, 'audit');
    const [frame, link] = await caught();
    pair.inject(frame, 0, link);
    await pair.until(() => pair.gateways[1]!.stats().drops.REPLAYED === 1, 'refused');
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(events).toEqual([]);
  });
});
