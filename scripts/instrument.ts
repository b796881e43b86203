import { readFile } from 'node:fs/promises';
import { build } from 'esbuild';
import type { Machine } from './explorer.ts';

/** One change to a source file, for a deliberately broken build. */
export interface Edit {
  /** End of the file's path. */
  readonly file: string;
  /** Must occur exactly once. */
  readonly find: string;
  readonly replace: string;
}

/** The module at `entry` with its Atomics replaced, and with edits made to its sources. */
export async function instrument<M>(machine: Machine, entry: string, edits: readonly Edit[] = []): Promise<M> {
  const made = new Set<Edit>();
  const result = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: 'iife',
    globalName: 'module',
    target: 'node20',
    conditions: ['@espalier/source'],
    define: { Atomics: '__atomics' },
    logLevel: 'warning',
    plugins: [
      {
        name: 'edits',
        setup({ onLoad }) {
          onLoad({ filter: /\.ts$/ }, async ({ path }) => {
            let contents = await readFile(path, 'utf8');
            for (const edit of edits) {
              if (!path.endsWith(edit.file)) continue;
              const parts = contents.split(edit.find);
              if (parts.length !== 2)
                throw new Error(
                  `${edit.file}: "${edit.find}" occurs ${parts.length - 1} times, not once: bring the edit up to date`,
                );
              contents = parts.join(edit.replace);
              made.add(edit);
            }
            return { contents, loader: 'ts' };
          });
        },
      },
    ],
  });
  for (const edit of edits) if (!made.has(edit)) throw new Error(`no file ${edit.file} to edit`);
  return new Function('__atomics', `${result.outputFiles[0]!.text}; return module;`)(machine.atomics) as M;
}
