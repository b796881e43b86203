import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GatewayStats, SaStats } from 'espalier';
import { afterAll, describe, expect, it } from 'vitest';
import { StateFile } from '../src/state-file.ts';
import { listen, Pair, packet, planOf, type Side, Stream, saOf, tidy } from './pair.ts';

const folder = mkdtempSync(join(tmpdir(), 'espalier-state-'));
afterAll(() => rmSync(folder, { recursive: true }));
let pair: Pair;
tidy();

let files = 0;
const fresh = (): string => join(folder, `${++files}.json`);
const KEY = new Uint8Array(20).fill(7);

describe('a state file', () => {
  it('keeps a number for each key and direction, readable to its owner alone, with nothing of the keys in it', async () => {
    const file = fresh();
    const state = StateFile.open(file);
    const name = state.nameOf('out', KEY);
    expect(state.markOf(name)).toBe(0);
    state.set(name, 2 ** 40 - 1);
    await state.save();
    state.close();
    const again = StateFile.open(file);
    expect([again.markOf(again.nameOf('out', KEY)), again.markOf(again.nameOf('in', KEY))]).toEqual([2 ** 40 - 1, 0]);
    again.close();
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, 'utf8')).not.toContain('070707');
    // Two files do not show that they know the same key.
    const other = StateFile.open(fresh());
    expect(other.nameOf('out', KEY)).not.toBe(name);
    other.close();
  });

  it('of the time before there were lifetimes in it is taken, and keeps its marks', async () => {
    const file = fresh();
    const salt = 'ab'.repeat(16);
    writeFileSync(file, JSON.stringify({ format: 1, salt, marks: {} }));
    const state = StateFile.open(file);
    const name = state.nameOf('out', KEY);
    expect([state.markOf(name), state.lifeOf(name)]).toEqual([0, null]);
    const life = { packets: 5, bytes: 500, age: 7, time: 9 };
    state.set(name, 4);
    state.setLife(name, life);
    await state.save();
    state.close();
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({
      format: 2,
      salt,
      marks: { [name]: 4 },
      lives: { [name]: life },
    });
    const again = StateFile.open(file);
    expect([again.markOf(name), again.lifeOf(name)]).toEqual([4, life]);
    again.close();
  });

  it('is one process’s: another that lives keeps it, one that was killed does not', () => {
    const file = fresh();
    const state = StateFile.open(file);
    expect(() => StateFile.open(file)).toThrow(expect.objectContaining({ code: 'BUSY' }));
    state.close();
    // Beyond the greatest pid of Linux.
    writeFileSync(`${file}.pid`, '4194305');
    StateFile.open(file).close();
    expect(existsSync(`${file}.pid`)).toBe(false);
  });

  it.each([
    '',
    '{',
    '{}',
    '{"format":2,"salt":"","marks":{}}',
    '{"format":1,"salt":"00","marks":{}}',
    '[]',
    JSON.stringify({ format: 2, salt: 'ab'.repeat(16), marks: {} }),
  ])('is refused when it holds something else: %s', (text) => {
    const file = fresh();
    writeFileSync(file, text);
    expect(() => StateFile.open(file)).toThrow(expect.objectContaining({ code: 'CONFIG' }));
    expect(readFileSync(file, 'utf8')).toBe(text);
    expect(existsSync(`${file}.pid`)).toBe(false);
  });

  it('that cannot be written keeps a gateway from starting', async () => {
    const plan = planOf(0, { state: { file: join(folder, 'absent', 'state.json'), ahead: 1000, margin: 512 } });
    await expect(Pair.open([plan, planOf(1)])).rejects.toMatchObject({ code: 'SYSTEM' });
  });
});

describe('gateways that keep their state', () => {
  const plans = (a: string, b: string) =>
    [
      planOf(0, { state: { file: a, ahead: 2000, margin: 512 } }),
      planOf(1, { state: { file: b, ahead: 2000, margin: 512 } }),
    ] as const;

  /** Traffic from A to B until so many packets have come through. */
  const run = async (stream: Stream, count: number): Promise<void> => {
    const goal = stream.got.size + count;
    await pair.until(() => {
      stream.step();
      return stream.got.size >= goal;
    }, `${count} packets through`);
  };

  it('use no number twice and take no old packet, whatever moment the files are of', async () => {
    const [a, b] = [fresh(), fresh()];
    const seen = new Map<number, Map<number, number>>();
    const frames: [Uint8Array, number][] = [];
    const now: [Uint8Array, number][] = [];
    const delivered = new Map<number, number>();
    let base = 0;
    for (let life = 0; life < 4; life++) {
      pair = await Pair.open(plans(a, b));
      now.length = 0;
      for (const [spi, numbers] of seen) pair.numbers.set(spi, new Map(numbers));
      pair.filter = (frame, from, link) => {
        if (from === 0) now.push([frame, link]);
        return true;
      };
      const old = frames.length;
      // Everything that was ever on the wire comes again, before and while new packets do.
      for (let i = 0; i < old; ) {
        const [frame, link] = frames[i]!;
        if (pair.inject(frame, 0, link)) i++;
        else await pair.until(() => pair.inject(frame, 0, link) && ++i > 0, 'room on the link');
        for (const bytes of pair.read(1)) count(delivered, new DataView(bytes.buffer).getUint32(28));
      }
      // After a crash what is numbered below B's mark is refused: the stream goes on over it.
      const stream = new Stream(pair, 0, base, Number.POSITIVE_INFINITY);
      await run(stream, 300 + 200 * life);
      // The crash: what is durable now is all that the next life has, and what has happened until now must not happen again.
      for (const [id, times] of stream.got) for (let t = 0; t < times; t++) count(delivered, id);
      for (const [spi, numbers] of pair.numbers) seen.set(spi, new Map(numbers));
      expect([pair.repeated, pair.plaintext.length]).toEqual([0, 0]);
      frames.push(...now.splice(0));
      copyFileSync(a, `${a}.crash`);
      copyFileSync(b, `${b}.crash`);
      base += stream.sent;
      await pair.close();
      copyFileSync(`${a}.crash`, a);
      copyFileSync(`${b}.crash`, b);
    }
    expect([...delivered.values()].every((times) => times === 1)).toBe(true);
    expect(delivered.size).toBeGreaterThan(2000);
  });

  it('go on without a gap after an end as it should be', async () => {
    const [a, b] = [fresh(), fresh()];
    pair = await Pair.open(plans(a, b));
    const first = new Stream(pair, 0);
    await run(first, 500);
    await pair.until(() => {
      first.step(false);
      return first.lost === 0;
    }, 'all of it');
    const used = pair.gateways[0]!.stats().sas.find((sa) => sa.name === 'out0')!.numbers!.next;
    await pair.close();
    pair = await Pair.open(plans(a, b));
    const [out, into] = [pair.gateways[0]!.stats().sas, pair.gateways[1]!.stats().sas];
    expect(out.find((sa) => sa.name === 'out0')!.numbers!.next).toBe(used);
    expect(into.find((sa) => sa.name === 'in0')!.window!.top).toBe(used - 1);
    const second = new Stream(pair, 0);
    await run(second, 500);
    expect(pair.gateways[1]!.stats().drops).toEqual({});
  });

  it('raise their marks in step with traffic: far more goes through than was reserved at first, and nothing twice', async () => {
    const keep = (file: string) => ({ state: { file, ahead: 1000, margin: 512 } });
    pair = await Pair.open([planOf(0, keep(fresh())), planOf(1, keep(fresh()))]);
    const stream = new Stream(pair, 0, 0, Number.POSITIVE_INFINITY);
    await run(stream, 12_000);
    const [sent, got] = pair.gateways.map((gateway) => gateway.stats()) as [GatewayStats, GatewayStats];
    // What met a mark on the way was dropped and counted, on either side.
    for (const { drops } of [sent, got])
      expect(['EXHAUSTED', 'NO_ROOM', 'STALE']).toEqual(expect.arrayContaining(Object.keys(drops)));
    expect(sent.sas.find((sa) => sa.name === 'out0')!.numbers!.next).toBeGreaterThan(12_000);
    expect(stream.twice).toBe(0);
  });

  it('remember a key that a rekey has put away', async () => {
    const [a, b] = [fresh(), fresh()];
    pair = await Pair.open(plans(a, b));
    await run(new Stream(pair, 0), 100);
    const rekey = await pair.gateways[0]!.rekey([saOf(0, 'out', 1)], { switchAfterMs: 0, overlapMs: 0 });
    await pair.until(() => rekey.phase === 'done', 'the old one is gone');
    await rekey.done;
    await pair.close();
    // The old file with the old key is started again.
    pair = await Pair.open(plans(a, b));
    const next = pair.gateways[0]!.stats().sas.find((sa) => sa.name === 'out0')!.numbers!.next;
    expect(next).toBeGreaterThan(100);
    pair.hosts[0]![0]!.write(packet(0, 1));
    await pair.until(() => pair.read(1).length === 1, 'and goes on');
    expect([...pair.numbers.get(saOf(0, 'out').spi)!.keys()]).toEqual([next]);
  });
});

describe('lifetimes over a restart', () => {
  const LIMITS = { softPackets: 1500, hardPackets: 3000 };
  /** What workers may have reserved of a lifetime and not used: 64 packets each. */
  const QUOTAS = 2 * 64;

  /** Gateway A with lifetimes on both its SAs. */
  const openWith = async (file: string, lifetime: object): Promise<readonly SaStats[]> => {
    const state = { file, ahead: 20_000, margin: 2048 };
    const sas = [saOf(0, 'out', 0, { lifetime }), saOf(1, 'in', 0, { lifetime })];
    pair = await Pair.open([planOf(0, { state, sas }), planOf(1)]);
    return pair.gateways[0]!.stats().sas;
  };
  const byName = (sas: readonly SaStats[], name: string): SaStats => sas.find((sa) => sa.name === name)!;
  /** How many packets went through: at least so many. */
  const through = async (from: Side, count: number): Promise<number> => {
    const stream = new Stream(pair, from);
    await pair.until(() => {
      stream.step(stream.sent < count);
      return stream.sent >= count && stream.lost === 0;
    }, `${count} packets`);
    return stream.sent;
  };
  /** Has an hour passed that this file knows nothing of, or has the clock been set back? */
  const shift = (file: string, ms: number): void => {
    const state = JSON.parse(readFileSync(file, 'utf8')) as { lives: Record<string, { time: number }> };
    for (const life of Object.values(state.lives)) life.time += ms;
    writeFileSync(file, JSON.stringify(state));
  };

  it('of packets and bytes go on where they were after an end as it should be', async () => {
    const file = fresh();
    await openWith(file, { ...LIMITS, hardBytes: 10_000_000 });
    const [out, into] = [await through(0, 1000), await through(1, 400)];
    await pair.close();
    const sas = await openWith(file, { ...LIMITS, hardBytes: 10_000_000 });
    for (const [name, used] of [
      ['out0', out],
      ['in0', into],
    ] as const) {
      const { packets, bytes } = byName(sas, name).left;
      expect(3000 - packets! - used).toBeGreaterThanOrEqual(0);
      expect(3000 - packets! - used).toBeLessThanOrEqual(QUOTAS);
      expect(10_000_000 - bytes! - 80 * used).toBeGreaterThanOrEqual(0);
      expect(10_000_000 - bytes! - 80 * used).toBeLessThanOrEqual(2 * 4000);
    }
    const events = listen(0, 'lifetime');
    await through(0, 1000);
    await pair.until(() => events.length > 0, 'the soft limit');
    expect(events.map(({ sa, limit }) => [sa, limit])).toEqual([['out0', 'soft']]);
    // What is left, and not one more, whatever is sent.
    const stream = new Stream(pair, 0, 0, Number.POSITIVE_INFINITY);
    await pair.until(() => {
      stream.step();
      return (pair.gateways[0]!.stats().drops.LIFETIME ?? 0) > 200;
    }, 'the end');
    expect(pair.numbers.get(saOf(0, 'out').spi)!.size).toBeLessThanOrEqual(3000 - out);
    await pair.close();
    // And it stays dead.
    const again = await openWith(file, { ...LIMITS, hardBytes: 10_000_000 });
    expect(byName(again, 'out0').left.packets).toBe(0);
    pair.hosts[0]![0]!.write(packet(0, 1));
    await pair.until(() => pair.gateways[0]!.stats().drops.LIFETIME === 1, 'refused');
    expect(pair.numbers.size).toBe(0);
  });

  it('of time go on while nobody runs, and a clock that was set back gives nothing back', async () => {
    const file = fresh();
    const lifetime = { softSeconds: 1800, hardSeconds: 3600 };
    await openWith(file, lifetime);
    await pair.close();
    shift(file, -1_700_000);
    const sas = await openWith(file, lifetime);
    expect(byName(sas, 'out0').age).toBeGreaterThanOrEqual(1700);
    expect(byName(sas, 'out0').left.seconds).toBeLessThan(1900);
    await through(0, 10);
    await pair.close();
    shift(file, 1_000_000_000);
    expect(byName(await openWith(file, lifetime), 'in0').age).toBeGreaterThanOrEqual(1700);
    const events = listen(0, 'lifetime');
    await pair.close();
    shift(file, -2_000_000 - 1_000_000_000);
    await openWith(file, lifetime);
    await pair.until(() => events.length === 4, 'both limits of both SAs');
    expect(events.map(({ limit }) => limit).sort()).toEqual(['hard', 'hard', 'soft', 'soft']);
    pair.hosts[0]![0]!.write(packet(0, 1));
    await pair.until(() => pair.gateways[0]!.stats().drops.LIFETIME === 1, 'refused');
  });

  it('lose no more by a crash than the numbers up to the mark, which is kept near for SAs with limits', async () => {
    const file = fresh();
    const lifetime = { hardPackets: 1_000_000 };
    const state = { file, ahead: 2 ** 20, margin: 512 };
    const sas = [saOf(0, 'out', 0, { lifetime }), saOf(1, 'in', 0, { lifetime, window: 64 })];
    const open = (): Promise<Pair> => Pair.open([planOf(0, { state, sas }), planOf(1)]);
    pair = await open();
    const used = await through(0, 100);
    copyFileSync(file, `${file}.crash`);
    await pair.close();
    copyFileSync(`${file}.crash`, file);
    pair = await open();
    const now = pair.gateways[0]!.stats().sas;
    const [out, into] = ['out0', 'in0'].map((name) => 1_000_000 - byName(now, name).left.packets!) as [number, number];
    // A sixteenth of a million; the margin to the end of its block, the window, and a burst of each worker.
    expect(out).toBeGreaterThanOrEqual(used);
    expect(out).toBeLessThanOrEqual(used + 62_500 + QUOTAS);
    expect(into).toBeLessThanOrEqual(1024 + 64 + 2 * 64);
  });
});

function count(delivered: Map<number, number>, id: number): void {
  delivered.set(id, (delivered.get(id) ?? 0) + 1);
}
