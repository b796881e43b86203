// The fuzz tests of packages/esp at full count, 4 million frames in and 1 million packets out, by two processes with seeds of
// their own. ESPALIER_SEED=N repeats a run; ESPALIER_LONG=1 makes it ten times as long.
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';

const IN = process.env.ESPALIER_LONG === '1' ? 40_000_000 : 4_000_000;
const PROCESSES = 2;
const seed = Number(process.env.ESPALIER_SEED ?? randomInt(1, 2 ** 31));
process.stdout.write(`ESPALIER_SEED=${seed}\n`);
const files = ['packages/esp/test/fuzz.test.ts', 'packages/esp/test/fuzz-outbound.test.ts'];
const failures = await Promise.all(
  Array.from({ length: PROCESSES }, (_, i) => {
    const env = { ...process.env, ESPALIER_SEED: `${seed + i}`, ESPALIER_FUZZ: `${IN / PROCESSES}` };
    const args = ['node_modules/vitest/vitest.mjs', 'run', '--no-file-parallelism', ...files];
    const child = spawn(process.execPath, args, { stdio: 'inherit', env });
    return new Promise((resolve) => child.on('close', (code) => resolve(code === 0 ? 0 : 1)));
  }),
);
const failed = failures.reduce((sum, n) => sum + n, 0);
process.stdout.write(`${PROCESSES - failed} passed, ${failed} failed, 0 skipped\n`);
process.exit(failed === 0 ? 0 : 1);
