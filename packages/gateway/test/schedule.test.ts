import { describe, expect, it } from 'vitest';
import { Schedule } from '../src/schedule.ts';
import { Pair, packet, planOf, saOf, tidy } from './pair.ts';

let pair: Pair;
tidy();
const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 150));

describe('dummy packets', () => {
  it('go out at their rate, as long as others, and are discarded and counted at the far end', async () => {
    let now = 0;
    const out = saOf(0, 'out', 0, { dummies: { perSecond: 20, length: 'mtu' } });
    pair = await Pair.open([planOf(0, { sas: [out, saOf(1, 'in')] }), planOf(1)], { clock: () => now });
    const lengths = new Set<number>();
    pair.filter = (frame) => {
      lengths.add(frame.length);
      return true;
    };
    for (let i = 1; i <= 10; i++) {
      now += 100;
      await pair.until(() => pair.gateways[0]!.stats().dummies === 2 * i, `dummies ${i}`);
    }
    await pair.until(() => pair.gateways[1]!.stats().drops.DUMMY === 20, 'discarded');
    pair.hosts[0]![0]!.write(packet(0, 1, 1446));
    await pair.until(() => pair.read(1).length === 1, 'a real one');
    // Nobody outside can tell.
    expect(lengths.size).toBe(1);
    expect([pair.numbers.get(out.spi)!.size, pair.repeated, pair.plaintext.length]).toEqual([21, 0, 0]);
    expect(pair.gateways[1]!.stats().sas.find((sa) => sa.name === 'in0')!.drops).toEqual({ DUMMY: 20 });
  });

  it('stop with the SA that a rekey has replaced, and go on with the new one', async () => {
    let now = 0;
    const dummies = { perSecond: 20, length: 100 };
    pair = await Pair.open([planOf(0, { sas: [saOf(0, 'out', 0, { dummies }), saOf(1, 'in')] }), planOf(1)], {
      clock: () => now,
    });
    await pair.gateways[1]!.addSa(saOf(0, 'in', 1));
    const rekey = await pair.gateways[0]!.rekey([saOf(0, 'out', 1, { dummies })], { switchAfterMs: 0 });
    await pair.until(() => rekey.phase === 'switched', 'switched');
    await pause();
    pair.pump();
    const old = pair.numbers.get(saOf(0, 'out').spi)?.size ?? 0;
    for (let i = 1; i <= 5; i++) {
      now += 200;
      await pair.until(() => (pair.numbers.get(saOf(0, 'out', 1).spi)?.size ?? 0) >= 4 * (i - 1), `dummies ${i}`);
      await pause();
    }
    expect(pair.numbers.get(saOf(0, 'out').spi)?.size ?? 0).toBe(old);
    expect(pair.numbers.get(saOf(0, 'out', 1).spi)!.size).toBeGreaterThanOrEqual(16);
  });
});

describe('NAT keepalives', () => {
  it('go out when nothing else has for so long, and the far end takes them for what they are', async () => {
    let now = 0;
    const encap = { sport: 4500, dport: 4500 };
    const sas = [saOf(0, 'out', 0, { encap, keepaliveSeconds: 20 }), saOf(1, 'in', 0, { encap })];
    const plans = [
      planOf(0, { sas }),
      planOf(1, { sas: [saOf(1, 'out', 0, { encap }), saOf(0, 'in', 0, { encap })] }),
    ] as const;
    pair = await Pair.open(plans, { clock: () => now });
    const keepalives = (): number => pair.gateways[0]!.stats().keepalives;
    now += 15_000;
    await pause();
    pair.hosts[0]![0]!.write(packet(0, 1));
    await pair.until(() => pair.read(1).length === 1, 'a packet in UDP');
    await pause();
    now += 15_000;
    await pause();
    expect(keepalives()).toBe(0);
    for (let i = 1; i <= 3; i++) {
      now += i === 1 ? 5000 : 20_000;
      await pair.until(() => keepalives() === i, `keepalive ${i}`);
    }
    await pair.until(() => pair.gateways[1]!.stats().drops.NAT_KEEPALIVE === 3, 'arrived');
    // They are what is not ESP on the wire: one byte in UDP.
    const clear = pair.plaintext.filter((frame) => frame.length === 14 + 20 + 8 + 1);
    expect(clear.map((frame) => frame[42])).toEqual([0xff, 0xff, 0xff]);
    expect(pair.gateways[0]!.stats().slaves.reduce((sum, s) => sum + s.clear, 0)).toBe(3);
  });

  it('of a socket go out from each of its ports', () => {
    const lower = {
      kind: 'udp' as const,
      name: 'u0',
      local: new Uint8Array(4),
      peer: new Uint8Array(4),
      localPort: 4500,
      peerPort: 4500,
      keepaliveSeconds: 20,
    };
    const asked: [number, number, number][] = [];
    let now = 0;
    let sent = 0;
    const schedule = new Schedule(
      {
        packets: () => 0,
        sent: () => sent,
        dummies: () => undefined,
        keepalive: () => undefined,
        lowerKeepalive: (index, count) => asked.push([now, index, count]),
      },
      [
        { ...lower, sourcePorts: 0 },
        { ...lower, sourcePorts: 4 },
      ],
    );
    for (; now <= 60_000; now += 1000) {
      // The first is busy until half a minute has passed.
      if (now < 30_000) sent++;
      schedule.tick(now, []);
    }
    expect(asked).toEqual([
      [20_000, 1, 4],
      [40_000, 1, 4],
      [49_000, 0, 1],
      [60_000, 1, 4],
    ]);
  });
});
