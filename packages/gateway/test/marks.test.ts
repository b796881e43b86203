import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ReplayWindow } from '@espalier/replay';
import { afterAll, describe, expect, it } from 'vitest';
import { GATE_BLOCK } from '../src/gate.ts';
import { Marks } from '../src/marks.ts';
import { StateFile } from '../src/state-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'espalier-marks-'));
afterAll(() => rmSync(folder, { recursive: true }));
const KEY = new Uint8Array(20).fill(9);
const MARGIN = 512;
const SLOT = 3;

describe('an inbound mark', () => {
  const begin = async (name: string) => {
    const file = StateFile.open(join(folder, name));
    const gates = new Int32Array(8);
    const window = ReplayWindow.create({ size: 64, esn: true, workers: 1 });
    let packets = 0;
    const marks = new Marks({
      file,
      plan: { file: name, ahead: 65_536, margin: MARGIN },
      gates,
      workers: 1,
      packets: (slot) => (slot === SLOT ? packets : 0),
      now: () => 0,
      wall: () => 0,
      trouble: (error) => {
        throw error;
      },
    });
    await marks.admitInbound(SLOT, KEY, window, null);
    /** `count` packets, the last of number `top`; the mark that they raise, once it is durable. */
    const take = async (count: number, top: number): Promise<number> => {
      packets += count;
      window.acceptUpTo(top);
      marks.tick();
      await new Promise((resolve) => setTimeout(resolve, 50));
      return gates[SLOT]! * GATE_BLOCK - 1;
    };
    return { take, marks };
  };

  it('is half a second of packets ahead of the newest number', async () => {
    const { take, marks } = await begin('rate.json');
    const mark = await take(10_000, 10_000);
    expect(mark).toBeGreaterThanOrEqual(110_000);
    expect(mark).toBeLessThan(110_000 + GATE_BLOCK);
    await marks.stop();
  });

  it('is not carried away by a peer that jumps: what a crash then refuses is a margin, not ten times the jump', async () => {
    const { take, marks } = await begin('jump.json');
    const jumped = 2 ** 32 + 7;
    const mark = await take(1, jumped);
    expect(mark).toBeGreaterThanOrEqual(jumped + MARGIN);
    expect(mark).toBeLessThanOrEqual(jumped + MARGIN + GATE_BLOCK);
    await marks.stop();
  });
});
