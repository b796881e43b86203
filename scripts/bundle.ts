import { mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { buildSync } from 'esbuild';

const ROOT = join(import.meta.dirname, '..');

/**
 * Bundles a worker entry (TypeScript, from source) to one ESM file under `build/workers` and returns its path, for
 * `new Worker(path)`: Node 20 cannot start a worker from TypeScript.
 */
export function bundleWorker(entry: string): string {
  const name = `${basename(entry, '.ts')}-${process.pid}`;
  return bundle({ [name]: entry }, join(ROOT, 'build', 'workers'))[0]!;
}

/** Bundles the `espalier` command with its worker beside it and returns the command's file. */
export function bundleCommand(): string {
  const from = join(ROOT, 'packages', 'gateway');
  const entries = { cli: join(from, 'src', 'cli.ts'), worker: join(from, 'src', 'worker.ts') };
  return bundle(entries, join(from, 'build'))[0]!;
}

function bundle(entryPoints: Record<string, string>, outdir: string): string[] {
  mkdirSync(outdir, { recursive: true });
  buildSync({
    entryPoints,
    outdir,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    conditions: ['@espalier/source'],
    sourcemap: 'inline',
    logLevel: 'warning',
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
  });
  return Object.keys(entryPoints).map((name) => join(outdir, `${name}.mjs`));
}
