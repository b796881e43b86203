// The fuzz tests of packages/esp at full count, 4 million frames in and 1 million packets out, by two processes with seeds of
// their own: one on node's engine, one on the addon's where there is one. Then the property tests of fast-check, with its seed.
//   ESPALIER_SEED=N repeats a run; ESPALIER_LONG=1 makes it ten times as long; ESPALIER_FUZZ=N says how many frames in.
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';

const LONG = process.env.ESPALIER_LONG === '1';
const IN = Number(process.env.ESPALIER_FUZZ ?? (LONG ? 40_000_000 : 4_000_000));
const seed = Number(process.env.ESPALIER_SEED ?? randomInt(1, 2 ** 31));
/** The engine of each process; the last falls back on OpenSSL in the addon, and without an addon on node's. */
const addon = existsSync(process.env.ESPALIER_ADDON ?? 'packages/native/build/espalier.node');
const ENGINES = ['node', addon ? (process.env.ESPALIER_NATIVE ?? 'native-ipsec-mb') : 'node'];
process.stdout.write(`ESPALIER_SEED=${seed}, engines ${ENGINES.join(' and ')}\n`);
const files = ['fuzz', 'fuzz-outbound', 'fuzz-interior'].map((name) => `packages/esp/test/${name}.test.ts`);
const failures = await Promise.all(
  ENGINES.map((engine, i) => {
    const env = {
      ...process.env,
      ESPALIER_SEED: `${seed + i}`,
      ESPALIER_FUZZ: `${IN / ENGINES.length}`,
      ESPALIER_ENGINE: engine,
    };
    const args = ['node_modules/vitest/vitest.mjs', 'run', '--no-file-parallelism', ...files];
    const child = spawn(process.execPath, args, { stdio: 'inherit', env });
    return new Promise((resolve) => child.on('close', (code) => resolve(code === 0 ? 0 : 1)));
  }),
);
const failed = failures.reduce((sum, n) => sum + n, 0);
process.stdout.write(`${ENGINES.length - failed} passed, ${failed} failed, 0 skipped\n`);
process.exit(failed === 0 ? 0 : 1);
