import type { SaPlan } from 'espalier';
import { describe, expect, it } from 'vitest';
import { Rekey } from '../src/rekey.ts';
import { LINKS, listen, Pair, packet, planOf, type Side, Stream, saOf, tidy } from './pair.ts';

let pair: Pair;
tidy();

const successors = (side: Side, generation: number): SaPlan[] => [
  saOf(side, 'out', generation),
  saOf((1 - side) as Side, 'in', generation),
];
const names = (side: Side): string[] =>
  pair.gateways[side]!.stats()
    .sas.map((sa) => sa.name)
    .sort();
const handles = (side: Side): number[] => pair.devices[side].map((device) => device.nic!.installed);

describe('a rekey', () => {
  it('under the traffic of two workers over the bond loses nothing and uses no number twice', async () => {
    pair = await Pair.open();
    const [a, b] = pair.gateways as [Pair['gateways'][0], Pair['gateways'][0]];
    const events = listen(0, 'rekey');
    const stream = new Stream(pair, 0);
    const flow = (there: () => boolean, what: string): Promise<void> =>
      pair.until(() => {
        stream.step();
        return there();
      }, what);
    const past = (count: number): Promise<void> => flow(() => stream.got.size >= count, `${count} packets through`);
    for (let generation = 1; generation <= 2; generation++) {
      await past(stream.sent + 1000);
      const times = { switchAfterMs: Number.POSITIVE_INFINITY, overlapMs: 800 };
      let installed = 0;
      const rekeys = [b.rekey(successors(1, generation), times), a.rekey(successors(0, generation), times)];
      for (const one of rekeys) one.then(() => installed++);
      await flow(() => installed === 2, 'both installed');
      expect(handles(0)).toEqual(new Array(LINKS).fill(4));
      await past(stream.sent + 500);
      const [atB, atA] = await Promise.all(rekeys);
      expect([atA!.phase, atB!.phase]).toEqual(['installed', 'installed']);
      // Nobody tells B: what arrives on its new SA shows that A has its own.
      const switched = atA!.switchNow();
      await flow(() => atB!.phase === 'switched', 'B switches of itself');
      await switched;
      await past(stream.sent + 500);
      // While the stream runs on, the old SAs go.
      await flow(() => atA!.phase === 'done' && atB!.phase === 'done', 'the old SAs are gone');
      await Promise.all([atA!.done, atB!.done]);
      expect([names(0), names(1)]).toEqual([
        [`in${generation}`, `out${generation}`],
        [`in${generation}`, `out${generation}`],
      ]);
      expect([handles(0), handles(1)]).toEqual([new Array(LINKS).fill(2), new Array(LINKS).fill(2)]);
    }
    await past(stream.sent + 500);
    await pair.until(() => {
      stream.step(false);
      return stream.lost === 0;
    }, 'the rest arrives');
    expect([stream.lost, stream.twice, pair.repeated, pair.plaintext.length]).toEqual([0, 0, 0, 0]);
    expect([a.stats().drops, b.stats().drops]).toEqual([{}, {}]);
    // Each generation carried its part.
    for (let generation = 0; generation <= 2; generation++)
      expect(pair.numbers.get(saOf(0, 'out', generation).spi)!.size).toBeGreaterThan(500);
    expect(events.map((e) => e.phase)).toEqual([1, 2].flatMap(() => ['installed', 'switched', 'done']));
  });

  it('switches by itself when its time comes, and keeps the old inbound SA as long as something comes by it', async () => {
    let now = 0;
    pair = await Pair.open([planOf(0), planOf(1)], { clock: () => now });
    const [a, b] = pair.gateways as [Pair['gateways'][0], Pair['gateways'][0]];
    const rekey = await b.rekey(successors(1, 1), { switchAfterMs: 5000, overlapMs: 1000 });
    // A has not been told yet and goes on with the old ones.
    const stream = new Stream(pair, 0);
    const move = async (ms: number, send: boolean): Promise<void> => {
      const from = stream.got.size;
      now += ms;
      await pair.until(() => {
        stream.step(send && stream.sent === from);
        return stream.lost === 0 && (!send || stream.got.size > from);
      }, `time ${now}`);
      await new Promise((resolve) => setTimeout(resolve, 120));
    };
    await move(4900, true);
    expect(rekey.phase).toBe('installed');
    await move(200, true);
    expect(rekey.phase).toBe('switched');
    for (let i = 0; i < 4; i++) {
      await move(900, true);
      expect(rekey.phase).toBe('switched');
    }
    await move(900, false);
    expect(rekey.phase).toBe('switched');
    await move(200, false);
    await rekey.done;
    expect(names(1)).toEqual(['in1', 'out1']);
    // Now A is cut off: its old SA means nothing to B, and nothing comes out.
    pair.hosts[0]![0]!.write(packet(0, 0));
    await pair.until(() => (b.stats().drops.NO_STATE ?? 0) > 0, 'B drops');
    expect(a.stats().drops).toEqual({});
  });

  it('leaves nothing behind, whichever of its SAs on whichever slave is refused, and traffic goes on', async () => {
    pair = await Pair.open();
    const stream = new Stream(pair, 0);
    for (let slave = 0; slave < LINKS; slave++)
      for (let nth = 1; nth <= 2; nth++) {
        pair.devices[0][slave]!.nic!.refuseAdd(nth);
        await expect(pair.gateways[0]!.rekey(successors(0, 1))).rejects.toMatchObject({ code: 'ROLLED_BACK' });
        expect([names(0), handles(0)]).toEqual([
          ['in0', 'out0'],
          [2, 2],
        ]);
        const before = stream.got.size;
        await pair.until(() => {
          stream.step();
          return stream.got.size > before + 300;
        }, 'traffic');
      }
    // What was undone can be done again, its key included.
    await pair.gateways[0]!.rekey(successors(0, 1));
    expect(names(0)).toEqual(['in0', 'in1', 'out0', 'out1']);
  });

  it('is refused for an SA in a rekey, an SA that is not there, and a key that is or was in use', async () => {
    pair = await Pair.open();
    const a = pair.gateways[0]!;
    await expect(a.rekey([saOf(0, 'out', 2)])).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(a.rekey([saOf(0, 'out', 0, { name: 'x' })])).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(a.rekey([saOf(0, 'out', 1, { replaces: 'in0' })])).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const old = saOf(0, 'out', 0).key;
    const stream = new Stream(pair, 0);
    await pair.until(() => {
      stream.step();
      return stream.got.size > 0;
    }, 'the first packet');
    await expect(a.rekey([saOf(0, 'out', 1, { key: old })])).rejects.toMatchObject({ code: 'EXISTS' });
    await a.rekey([saOf(0, 'out', 1)], { switchAfterMs: 0, overlapMs: 0 });
    await expect(a.rekey([saOf(0, 'out', 2)])).rejects.toMatchObject({ code: 'BUSY' });
    await pair.until(() => names(0).length === 2, 'the old one is gone');
    await expect(a.rekey([saOf(0, 'out', 2, { replaces: 'out1', key: old })])).rejects.toMatchObject({
      code: 'EXISTS',
    });
    expect(names(0)).toEqual(['in0', 'out1']);
  });
});

describe('a rekey that lives', () => {
  it('keeps its SAs from being removed, old and new, until it has removed the old ones itself', async () => {
    let now = 0;
    pair = await Pair.open(undefined, { clock: () => now });
    const a = pair.gateways[0]!;
    const rekey = await a.rekey(successors(0, 1), { overlapMs: 0 });
    for (const name of ['in0', 'in1', 'out1']) await expect(a.removeSa(name)).rejects.toMatchObject({ code: 'BUSY' });
    now += 10_001;
    await rekey.done;
    expect(names(0)).toEqual(['in1', 'out1']);
    await a.removeSa('in1');
  });

  it('fails alone when what it looks at is gone, and does not switch any more', async () => {
    const told: string[] = [];
    const hands = {
      now: () => 0,
      packets: (): number => {
        throw new Error('gone');
      },
      switchOutbound: async () => void told.push('switch'),
      remove: async () => undefined,
      tell: (phase: string) => void told.push(phase),
    };
    const successions = [
      { direction: 'in', from: 'in0', to: 'in1' },
      { direction: 'out', from: 'out0', to: 'out1' },
    ] as const;
    const times = { switchAfterMs: 10, overlapMs: 10 };
    const looked = new Rekey(successions, hands, times);
    looked.tick();
    await expect(looked.done).rejects.toThrow('gone');
    await expect(looked.switchNow()).rejects.toThrow('gone');
    expect([looked.phase, ...told.splice(0)]).toEqual(['failed', 'failed']);
    // Gone while it switched: turned back.
    const switching = new Rekey(successions, hands, times);
    await expect(switching.switchNow()).rejects.toThrow('gone');
    expect([switching.phase, ...told]).toEqual(['failed', 'switch', 'switch', 'failed']);
  });

  it('ends with its gateway', async () => {
    pair = await Pair.open();
    const a = pair.gateways[0]!;
    const phases = listen(0, 'rekey');
    const rekey = await a.rekey(successors(0, 1), { switchAfterMs: Number.POSITIVE_INFINITY });
    await a.stop();
    await expect(rekey.done).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(rekey.switchNow()).rejects.toMatchObject({ code: 'CLOSED' });
    expect([rekey.phase, ...phases.map((e) => e.phase)]).toEqual(['failed', 'installed', 'failed']);
  });

  it('never begins with times that make no sense, or with two SAs in the place of one', async () => {
    pair = await Pair.open();
    const a = pair.gateways[0]!;
    for (const times of [{ switchAfterMs: -1 }, { overlapMs: Number.NaN }])
      await expect(a.rekey(successors(0, 1), times)).rejects.toThrow(RangeError);
    const two = [saOf(0, 'out', 1), saOf(0, 'out', 2, { replaces: 'out0' })];
    await expect(a.rekey(two)).rejects.toMatchObject({ code: 'BUSY' });
    expect(names(0)).toEqual(['in0', 'out0']);
    await a.rekey(successors(0, 1));
  });
});

describe('an SA of a running gateway', () => {
  it('is not removed while a policy protects with it', async () => {
    pair = await Pair.open();
    await expect(pair.gateways[0]!.removeSa('out0')).rejects.toMatchObject({ code: 'BUSY' });
    await expect(pair.gateways[0]!.removeSa('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await pair.gateways[0]!.removeSa('in0');
    expect(names(0)).toEqual(['out0']);
    await pair.gateways[0]!.stop();
    await expect(pair.gateways[0]!.removeSa('out0')).rejects.toMatchObject({ code: 'CLOSED' });
  });
});

describe('a lifetime', () => {
  it('in seconds is told when it is soft and ends all traffic when it is hard, sealed or not', async () => {
    let now = 1_000_000;
    const lifetime = { softSeconds: 60, hardSeconds: 90 };
    const plan = planOf(0, { sas: [saOf(0, 'out', 0, { lifetime }), saOf(1, 'in', 0, { lifetime })] });
    pair = await Pair.open([plan, planOf(1)], { clock: () => now });
    const events = listen(0, 'lifetime');
    const said = (): string[] => events.map((e) => `${e.sa} ${e.limit}`);
    const [there, back] = [new Stream(pair, 0), new Stream(pair, 1)];
    const some = (): Promise<void> => {
      const goal = [there.got.size + 500, back.got.size + 500];
      return pair.until(() => {
        there.step();
        back.step();
        return there.got.size >= goal[0]! && back.got.size >= goal[1]!;
      }, 'traffic both ways');
    };
    await some();
    now += 59_900;
    await some();
    expect(said()).toEqual([]);
    now += 200;
    await pair.until(() => said().length === 2, 'soft');
    await some();
    expect(said()).toEqual(['in0 soft', 'out0 soft']);
    expect(pair.gateways[0]!.stats().sas[0]!.left.seconds).toBeCloseTo(29.9, 1);
    now += 30_000;
    await pair.until(() => said().length === 4, 'hard');
    expect(said().slice(2)).toEqual(['in0 hard', 'out0 hard']);
    // What was under way when it ended arrives; then nothing does.
    await new Promise((resolve) => setTimeout(resolve, 100));
    pair.pump();
    const on = [...pair.numbers.get(saOf(0, 'out').spi)!.keys()].length;
    const dropped = pair.gateways[0]!.stats().drops.LIFETIME ?? 0;
    const in0 = (): number => pair.gateways[0]!.stats().sas[0]!.packets;
    const through = in0();
    for (let i = 0; i < 100; i++) {
      pair.hosts[0]![i % 2]!.write(packet(0, 0));
      pair.hosts[1]![i % 2]!.write(packet(1, 0));
    }
    await pair.until(() => (pair.gateways[0]!.stats().drops.LIFETIME ?? 0) >= dropped + 200, 'all of them counted');
    expect([[...pair.numbers.get(saOf(0, 'out').spi)!.keys()].length, in0()]).toEqual([on, through]);
    expect([pair.plaintext.length, pair.repeated]).toEqual([0, 0]);
  });

  it('in packets is one account of both workers, and each limit is told once', async () => {
    const lifetime = { softPackets: 600, hardPackets: 1000 };
    const plan = planOf(0, { sas: [saOf(0, 'out', 0, { lifetime }), saOf(1, 'in')] });
    pair = await Pair.open([plan, planOf(1)]);
    const events = listen(0, 'lifetime');
    let sent = 0;
    await pair.until(() => {
      pair.read(1);
      while (sent < 2000 && pair.hosts[0]![sent % 2]!.write(packet(0, 0))) sent++;
      return (pair.gateways[0]!.stats().drops.LIFETIME ?? 0) >= 900 && events.length >= 2;
    }, 'the hard limit');
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(events.map((e) => e.limit)).toEqual(['soft', 'hard']);
    const through = pair.gateways[0]!.stats().sas.find((sa) => sa.name === 'out0')!.packets;
    // Short by two workers' quotas at most, never over.
    expect(through).toBeLessThanOrEqual(1000);
    expect(through).toBeGreaterThan(1000 - 2 * 64 - 64);
    expect(pair.plaintext.length).toBe(0);
  });
});
