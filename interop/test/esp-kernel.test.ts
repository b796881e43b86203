/**
 * Our ESP against Linux: every algorithm, mode, family, ESN and NAT-T that both have (pairs of them unless ESPALIER_LONG=1).
 * One boot; a ping each way and 64 KiB of TCP each way per combination, across 2^32 with ESN and across 2^31 without; then
 * one replayed and one forged frame per SA in all four
 * directions. The table is printed and in build/esp-kernel.txt.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { nobleEngine } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { DROP_TABLE } from '@espalier/xfrm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { allCombinations, describeCombination, pairs, pairwise } from '../src/esp-combinations.ts';
import { EspGateway } from '../src/esp-gateway.ts';
import { type Planned, plan, SIDES, type Side } from '../src/esp-plan.ts';
import { type Kernel, startKernel } from '../src/kernel.ts';
import {
  ESP_MODULES,
  espKernelMissing,
  installKernelSide,
  type KernelSa,
  kernelSas,
  pingAll,
  runPeer,
  xfrmStat,
} from '../src/kernel-esp.ts';

const LONG = process.env.ESPALIER_LONG === '1';
const all = allCombinations();
const planned = plan(LONG ? all : pairwise(all));
const missing = espKernelMissing();
/** Seconds for one step over all combinations: a hundred times what it takes. */
const PATIENCE = 120 + planned.length;

describe('the choice of combinations', () => {
  it('has every pair of values that occurs at all', () => {
    const chosen = new Set(
      planned.flatMap(({ algorithm, mode, family, esn, natt }) => pairs({ algorithm, mode, family, esn, natt })),
    );
    expect(all.flatMap(pairs).filter((pair) => !chosen.has(pair))).toEqual([]);
  });
});

describe.skipIf(missing !== null)(`ESP against Linux${missing === null ? '' : ` (${missing})`}`, () => {
  let kernel: Kernel;
  let gateway: EspGateway;
  /** By combination: what went wrong. */
  const faults: string[][] = planned.map(() => []);
  /** What went wrong since the last look. */
  const fresh: string[] = [];
  const fault = (p: Planned, what: string): void => {
    faults[p.index]!.push(what);
    fresh.push(`${describeCombination(p)}: ${what}`);
  };
  const freshFaults = (): string[] => fresh.splice(0);
  const stats = async (): Promise<Record<Side, Record<string, number>>> => ({
    a: counted(await xfrmStat(kernel, 'a')),
    b: counted(await xfrmStat(kernel, 'b')),
  });

  beforeAll(async () => {
    kernel = await startKernel({ nets: [...SIDES], modules: ESP_MODULES, memory: 384, life: 1_200_000 });
    await installKernelSide(kernel, planned);
    const cables = { a: kernel.cable('a'), b: kernel.cable('b') };
    const engines = { a: nobleEngine({ legacy: true }), b: nodeEngine({ legacy: true }) };
    gateway = new EspGateway(planned, cables, engines);
    for (const side of SIDES) {
      const { code, stderr } = await runPeer(kernel, side, 'serve', '', 10);
      if (code !== 0) throw new Error(stderr);
    }
  }, 180_000);

  afterAll(async () => {
    await kernel?.stop();
    const width = Math.max(...planned.map((p) => describeCombination(p).length));
    const lines = planned.map((p) => `${describeCombination(p).padEnd(width)}  ${faults[p.index]!.join('; ') || 'ok'}`);
    const table = `${lines.join('\n')}\n${planned.length} of ${all.length} combinations, ${faults.filter((f) => f.length > 0).length} with faults\n`;
    mkdirSync('build', { recursive: true });
    writeFileSync('build/esp-kernel.txt', table);
    process.stdout.write(table);
  });

  it(
    'carries 64 KiB of TCP both ways in every combination',
    async () => {
      const lines = planned.map((p) => `${p.index} ${p.inner.a} ${p.inner.b}`);
      const { stdout, stderr } = await runPeer(kernel, 'a', 'client', lines.join('\n'), PATIENCE);
      const said = new Map(stdout.split('\n').map((l) => [Number.parseInt(l, 10), l.replace(/^\d+ /, '')]));
      for (const p of planned) {
        const word = said.get(p.index) ?? `no word: ${stderr}`;
        if (word !== 'ok') fault(p, `tcp: ${word}`);
      }
      expect(freshFaults()).toEqual([]);
    },
    1000 * PATIENCE + 20_000,
  );

  it(
    'carries a ping from either end in every combination',
    async () => {
      for (const side of SIDES)
        for (const index of await pingAll(kernel, planned, side, PATIENCE))
          fault(planned[index]!, `no ping from ${side}`);
      expect(freshFaults()).toEqual([]);
    },
    2000 * PATIENCE + 40_000,
  );

  it('has the number of Linux on both ends of every SA, beyond 2^32 with ESN', async () => {
    for (const side of SIDES) {
      const theirs = await kernelSas(kernel, side);
      const { windows, allocators } = gateway.ends[side];
      for (const p of planned) {
        const sent = theirs.get(p.toGateway[side].spi)!.sent;
        const top = theirs.get(p.fromGateway[side].spi)!.top;
        const beyond = p.esn ? 2 ** 32 : 2 ** 31;
        if (sent <= beyond || top <= beyond) fault(p, `${side} stopped at ${sent} and ${top}`);
        if (windows[p.index]!.top() !== sent) fault(p, `${side} sent ${sent}, our top is ${windows[p.index]!.top()}`);
        const last = allocators[p.index]!.next() - 1;
        if (top !== last) fault(p, `we sent ${last}, the top of ${side} is ${top}`);
      }
    }
    expect(freshFaults()).toEqual([]);
  });

  it('has dropped nothing, neither here nor in /proc/net/xfrm_stat', async () => {
    expect({ a: [...gateway.ends.a.dropped], b: [...gateway.ends.b.dropped] }).toEqual({ a: [], b: [] });
    expect(await stats()).toEqual({ a: {}, b: {} });
  });

  it('has every counter of Linux that the table of drop reasons names', async () => {
    const known = Object.keys(await xfrmStat(kernel, 'a'));
    const named = DROP_TABLE.flatMap((entry) => (entry.kernel === null ? [] : [entry.kernel]));
    expect(named.filter((name) => !known.includes(name))).toEqual([]);
    expect(named.length).toBeGreaterThan(15);
  });

  it('refuses a frame of Linux that comes again', () => {
    for (const side of SIDES)
      for (const p of planned) {
        const fate = gateway.open(side, gateway.ends[side].lastIn.get(p.index)!);
        if (fate !== 'REPLAYED') fault(p, `a frame of ${side} came again: ${fate}`);
      }
    expect(freshFaults()).toEqual([]);
  });

  it('sends frames that Linux refuses when they come again, and nothing else is counted', async () => {
    const counts = { a: new Map<number, KernelSa>(), b: new Map<number, KernelSa>() };
    for (const side of SIDES) {
      const { cable, lastOut } = gateway.ends[side];
      for (const p of planned) {
        cable.send(lastOut.get(p.index)!);
        // A socket's buffer is short.
        if (p.index % 16 === 15) await new Promise((resolve) => setTimeout(resolve, 5));
      }
      for (let tries = 0; tries < 50; tries++) {
        if ((await xfrmStat(kernel, side)).XfrmInStateSeqError! >= planned.length) break;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      counts[side] = await kernelSas(kernel, side);
      for (const p of planned) {
        const { replays, failures } = counts[side].get(p.fromGateway[side].spi)!;
        if (replays !== 1 || failures !== 0) fault(p, `${side} counted ${replays} replays, ${failures} failures`);
      }
    }
    expect(freshFaults()).toEqual([]);
    const refused = { XfrmInStateSeqError: planned.length };
    expect(await stats()).toEqual({ a: refused, b: refused });
  }, 60_000);

  it('has forged frames with a fresh number refused at both ends, and no window moves', async () => {
    for (const side of SIDES) {
      const { cable, lastIn, lastOut, windows } = gateway.ends[side];
      const before = await kernelSas(kernel, side);
      for (const p of planned) {
        const top = windows[p.index]!.top();
        const fate = gateway.open(side, forged(p, lastIn.get(p.index)!));
        if (fate !== 'ICV') fault(p, `a forged frame of ${side}: ${fate}`);
        if (windows[p.index]!.top() !== top) fault(p, `a forged frame of ${side} moved the window`);
        cable.send(forged(p, lastOut.get(p.index)!));
        if (p.index % 16 === 15) await new Promise((resolve) => setTimeout(resolve, 5));
      }
      for (let tries = 0; tries < 50; tries++) {
        if ((await xfrmStat(kernel, side)).XfrmInStateProtoError! >= planned.length) break;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      const after = await kernelSas(kernel, side);
      for (const p of planned) {
        const { failures, top } = after.get(p.fromGateway[side].spi)!;
        if (failures !== 1) fault(p, `${side} counted ${failures} failures`);
        if (top !== before.get(p.fromGateway[side].spi)!.top) fault(p, `a forged frame moved the window of ${side}`);
      }
    }
    expect(freshFaults()).toEqual([]);
  }, 60_000);
});

/** The frame with its number one higher and its last ICV word one lower: the UDP checksum of IPv6, if any, still holds. */
function forged(p: Planned, frame: Buffer): Buffer {
  const copy = Buffer.from(frame);
  const low = 14 + (p.family[3] === '4' ? 20 : 40) + (p.natt ? 8 : 0) + 6;
  copy.writeUInt16BE(copy.readUInt16BE(low) + 1, low);
  const last = copy.readUInt16BE(copy.length - 2);
  copy.writeUInt16BE(last === 0 ? 0xfffe : last - 1, copy.length - 2);
  return copy;
}

/** What is not zero. */
function counted(stat: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(stat).filter(([, count]) => count !== 0));
}
