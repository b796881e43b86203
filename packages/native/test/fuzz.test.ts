import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { load, slabId } from '../src/index.ts';
import { addonFile, noNamespace, unshare } from './isolated.ts';

const { binding } = load();
const reason = binding === null ? 'no addon' : noNamespace();
const skipped = reason === null ? '' : ` (skipped: ${reason})`;
const LONG = process.env.ESPALIER_LONG === '1';
const CALLS = Number(process.env.ESPALIER_FUZZ_CALLS ?? (LONG ? 200_000 : 15_000));
const SEEDS = [Number(process.env.ESPALIER_SEED ?? 1), 7];
const dir = mkdtempSync(join(tmpdir(), 'espalier-fuzz-'));
afterAll(() => rmSync(dir, { recursive: true }));

interface Report {
  readonly wrong: string[];
  readonly counts: Record<string, { readonly returned: number; readonly refused: number }>;
}

/** The fuzz in a process and a network of its own. */
function fuzz(seed: number): Report & { readonly ended: string } {
  const report = join(dir, `${seed}.json`);
  const errors = join(dir, `${seed}.err`);
  const nothing = openSync('/dev/null', 'r+');
  const stderr = openSync(errors, 'w');
  try {
    // Descriptors 0 to 99 are harmless, so that a small integer never is one of Node's own.
    const stdio = Array.from({ length: 100 }, (_, fd) => (fd === 2 ? stderr : nothing));
    const child = join(import.meta.dirname, 'fuzz-child.mjs');
    const node = [process.execPath, '--expose-gc', child, addonFile, `${seed}`, `${CALLS}`, report];
    const [command, ...args] = [...unshare(), 'prlimit', '--nofile=300', ...node];
    const { status, signal } = spawnSync(command!, args, { stdio, timeout: LONG ? 600_000 : 50_000 });
    const ended = signal ?? `${status}`;
    if (ended !== '0') process.stderr.write(readFileSync(errors, 'utf8'));
    return { ended, ...(JSON.parse(readFileSync(report, 'utf8') || '{"wrong":["no report"]}') as Report) };
  } finally {
    closeSync(nothing);
    closeSync(stderr);
  }
}

describe('every function of the addon', () => {
  for (const seed of SEEDS)
    it.skipIf(reason !== null)(
      `takes arguments of any kind, ${CALLS} calls, seed ${seed}: an integer or a TypeError, no crash, nothing written outside${skipped}`,
      () => {
        const { wrong, ended, counts } = fuzz(seed);
        expect({ wrong, ended }).toEqual({ wrong: [], ended: '0' });
        expect(Object.keys(counts).sort()).toEqual(Object.keys(binding!).sort());
        // A function that never got past its checks was not tested.
        expect(Object.entries(counts).filter(([, { returned }]) => returned === 0)).toEqual([]);
      },
      LONG ? 700_000 : 60_000,
    );

  it.skipIf(binding === null)(
    'wants its arguments whole: no number is rounded, wrapped, or made of something else',
    () => {
      const list = new Int32Array(new SharedArrayBuffer(64));
      const id = binding!.registerList(list);
      for (const odd of [Number.NaN, Infinity, 0.5, 2 ** 32, -(2 ** 32), '0', null, undefined, 0n, [0], new Number(0)])
        expect(() => binding!.unregisterList((typeof odd === 'number' ? odd + id : odd) as number)).toThrow(TypeError);
      expect(binding!.unregisterList(id)).toBe(0);
      expect(() => binding!.unregisterList(id)).toThrow(TypeError);
    },
  );

  it.skipIf(binding === null)('registers only memory that can neither go away nor shrink', () => {
    const own = new ArrayBuffer(8192, { maxByteLength: 16_384 } as object);
    const shared = new SharedArrayBuffer(8192);
    expect(() => binding!.registerList(new Int32Array(4))).toThrow(/shared memory/);
    expect(() => binding!.registerSlab(new Uint8Array(own), new Int32Array(shared), 4, 256, 0, 0)).toThrow(/shared/);
    expect(() => binding!.registerSlab(new Uint8Array(shared), new Int32Array(own), 4, 256, 0, 0)).toThrow(/shared/);
    const whole = { bytes: new Uint8Array(shared), rows: new Int32Array(shared), headroom: 0, tailroom: 0 };
    for (const shape of [
      { frames: 33, frameSize: 256 },
      { frames: 4, frameSize: 2049 },
      { frames: 129, frameSize: 16 },
      { frames: 4, frameSize: 256, headroom: 200, tailroom: 56 },
      { frames: -1, frameSize: 256 },
      { frames: 4, frameSize: 256, headroom: -1 },
    ])
      expect(() => slabId(binding!, { ...whole, ...shape })).toThrow(TypeError);
  });
});
