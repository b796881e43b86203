// The races and the explorer of packages/replay at full count: 3 x 10^8 raced offers, 10^9 numbers given, 20,000 lifetimes
// used up, and 500 workers killed at each of the three. ESPALIER_LONG=1: 10^9 numbers offered by each of two workers, 10^4
// kills. One file after the other: what races is timed by nothing else.
import { spawn } from 'node:child_process';

const FILES = ['replay.race', 'window-model'].map((name) => `packages/replay/test/${name}.test.ts`);
const args = ['scripts/run-tests.mjs', '--no-file-parallelism', ...FILES, ...process.argv.slice(2)];
const child = spawn(process.execPath, args, { stdio: 'inherit', env: { ...process.env, ESPALIER_RACES: '1' } });
child.on('close', (code) => process.exit(code ?? 1));
