// `pnpm bench [compare REF | peers] ...`: bundles bench/ from source (Node 20 runs no TypeScript) and runs it.
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { buildSync } from 'esbuild';

// Scenarios are bundled elsewhere: the addon is where it was built.
process.env.ESPALIER_ADDON ??= join(process.cwd(), 'packages/native/build/espalier.node');

const args = process.argv.slice(2);
const PROGRAMS = { compare: 'compare', peers: 'peers/main' };
const program = args[0] in PROGRAMS ? PROGRAMS[args.shift()] : 'main';
mkdirSync('build/bench', { recursive: true });
buildSync({
  entryPoints: [`bench/${program}.ts`],
  outfile: `build/bench/${program}.mjs`,
  bundle: true,
  packages: 'external',
  format: 'esm',
  platform: 'node',
  target: 'node20',
  sourcemap: 'inline',
  logLevel: 'warning',
});
const child = spawn(process.execPath, [`build/bench/${program}.mjs`, ...args], { stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('close', (code) => process.exit(code ?? 130));
