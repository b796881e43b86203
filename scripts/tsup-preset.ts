import type { Options } from 'tsup';

/** One build shape for every package: ESM, declarations, source maps, nothing bundled from other packages. */
export function preset(entry: Record<string, string>): Options {
  return {
    entry,
    format: ['esm'],
    target: 'node20',
    dts: { compilerOptions: { ignoreDeprecations: '6.0', customConditions: [] } },
    sourcemap: true,
    clean: true,
    splitting: true,
    treeshake: true,
  };
}
