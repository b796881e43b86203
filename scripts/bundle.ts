import { mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { buildSync } from 'esbuild';

/**
 * Bundles a worker entry (TypeScript, from source) to one ESM file under `build/workers` and returns its path, for
 * `new Worker(path)`: Node 20 cannot start a worker from TypeScript.
 */
export function bundleWorker(entry: string): string {
  const outdir = join(import.meta.dirname, '..', 'build', 'workers');
  mkdirSync(outdir, { recursive: true });
  const outfile = join(outdir, `${basename(entry, '.ts')}-${process.pid}.mjs`);
  buildSync({
    entryPoints: [entry],
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    conditions: ['@espalier/source'],
    sourcemap: 'inline',
    logLevel: 'warning',
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  });
  return outfile;
}
