import { defineConfig, type Plugin } from 'vitest/config';

/** One deliberate mistake, put into one file as it is loaded: scripts/mutants.mjs. */
function mutant(): Plugin[] {
  const text = process.env.ESPALIER_MUTANT;
  if (!text) return [];
  const { path, find, replace } = JSON.parse(text) as { path: string; find: string; replace: string };
  const transform = (code: string, id: string): string | null =>
    id.endsWith(path) ? code.replace(find, () => replace) : null;
  return [{ name: 'mutant', enforce: 'pre', transform }];
}

export default defineConfig({
  plugins: mutant(),
  resolve: { conditions: ['@espalier/source'] },
  ssr: { resolve: { conditions: ['@espalier/source'] } },
  test: {
    include: ['packages/**/test/**/*.test.ts', 'bench/**/*.test.ts', 'examples/**/*.test.ts'],
    exclude: ['**/node_modules/**', '**/dist/**'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
  },
});
