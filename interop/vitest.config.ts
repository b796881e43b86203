import { defineConfig } from 'vitest/config';

/** Apart from `npm test`: these need other implementations, and skip with the reason where there are none. */
export default defineConfig({
  resolve: { conditions: ['@espalier/source'] },
  ssr: { resolve: { conditions: ['@espalier/source'] } },
  test: {
    include: ['interop/test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
