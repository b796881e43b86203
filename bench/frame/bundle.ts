import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { build, type Plugin } from 'esbuild';

/** A scenario, bundled against the packages of one tree: `node file TASK` answers. */
export interface Program {
  readonly name: string;
  readonly file: string;
}

/**
 * Bundles scenarios from source, each with its own copy of everything: no call site is shared between scenarios. `tree`
 * is the checkout whose packages they run on.
 */
export async function bundle(root: string, tree: string, names: readonly string[], outdir: string): Promise<Program[]> {
  return Promise.all(
    names.map(async (name) => {
      const contents = `import scenario from './scenarios/${name}.ts'; import { serve } from './frame/child.ts'; serve(scenario);`;
      const file = join(outdir, `${name}.mjs`);
      await bundleProgram(root, tree, { contents }, file);
      return { name, file };
    }),
  );
}

/** Bundles one program, a file or text in `bench/`, against the packages of `tree`. */
export async function bundleProgram(
  root: string,
  tree: string,
  source: { readonly file: string } | { readonly contents: string },
  outfile: string,
): Promise<void> {
  mkdirSync(dirname(outfile), { recursive: true });
  await build({
    ...('file' in source
      ? { entryPoints: [source.file] }
      : { stdin: { contents: source.contents, resolveDir: join(root, 'bench'), loader: 'ts' } }),
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    sourcemap: 'inline',
    logLevel: 'silent',
    // A second tree has no node_modules of its own.
    nodePaths: [join(root, 'bench', 'node_modules'), join(root, 'packages', 'esp', 'node_modules')],
    plugins: [packagesOf(tree)],
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
  });
}

/** Names of all scenarios. */
export function scenarioNames(root: string): string[] {
  return readdirSync(join(root, 'bench', 'scenarios'))
    .filter((f) => f.endsWith('.ts'))
    .map((f) => basename(f, '.ts'))
    .sort();
}

/** Resolves the workspace's packages to the sources in `tree`. */
function packagesOf(tree: string): Plugin {
  const entries = new Map<string, string>();
  for (const under of ['packages', 'packages/backends'])
    for (const folder of readdirSync(join(tree, under))) {
      const manifest = join(tree, under, folder, 'package.json');
      if (!existsSync(manifest)) continue;
      const { name, exports } = JSON.parse(readFileSync(manifest, 'utf8'));
      for (const [path, conditions] of Object.entries<Record<string, string>>(exports ?? {}))
        if (conditions['@espalier/source'])
          entries.set(join(name, path), join(tree, under, folder, conditions['@espalier/source']));
    }
  return {
    name: 'packages of a tree',
    setup: (b) => {
      b.onResolve({ filter: /^(@espalier\/|espalier(\/|$))/ }, ({ path }) => {
        const at = entries.get(path);
        return at ? { path: at, sideEffects: false } : { errors: [{ text: `${tree} has no package ${path}` }] };
      });
    },
  };
}
