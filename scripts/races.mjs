// The races of packages/replay at full count: 3 x 10^8 raced offers, 10^9 numbers given, 20,000 lifetimes used up, and
// 500 workers killed at each of the three. ESPALIER_LONG=1: 10^9 numbers offered by each of two workers, 10^4 kills.
import { spawn } from 'node:child_process';

const args = ['scripts/run-tests.mjs', 'packages/replay/test/replay.race.test.ts', ...process.argv.slice(2)];
const child = spawn(process.execPath, args, { stdio: 'inherit', env: { ...process.env, ESPALIER_RACES: '1' } });
child.on('close', (code) => process.exit(code ?? 1));
