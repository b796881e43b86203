/** C contenders from `c/` and TypeScript ones from here, into build/peers. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { bundleProgram } from '../frame/bundle.ts';

const OUT = join('build', 'peers');

/** How to start a program: its file and the arguments before its own. */
export interface Command {
  readonly file: string;
  readonly args: readonly string[];
}

/** Compiles c/NAME.c for this very CPU. `flags` come behind the source. Throws with the compiler's words. */
export function compileC(name: string, flags: readonly string[]): Command {
  mkdirSync(OUT, { recursive: true });
  const file = join(OUT, name);
  const source = join('bench', 'peers', 'c', `${name}.c`);
  execFileSync('cc', ['-O3', '-march=native', '-Wno-address-of-packed-member', '-o', file, source, ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  return { file, args: [] };
}

/** What pkg-config says of a library, without its choice of a CPU. */
export function pkgConfig(...args: string[]): string[] {
  const said = execFileSync('pkg-config', args, { encoding: 'utf8' }).trim();
  return said.split(/\s+/).filter((flag) => !flag.startsWith('-march='));
}

/** Bundles a TypeScript file, by default NAME.ts of this folder, against this tree's packages. */
export async function bundleOurs(name: string, from: string = join('bench', 'peers', `${name}.ts`)): Promise<Command> {
  const file = join(OUT, `${name}.mjs`);
  await bundleProgram(process.cwd(), process.cwd(), { file: from }, file);
  return { file: process.execPath, args: [file] };
}
