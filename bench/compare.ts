/** `pnpm bench compare REF`: the same scenarios on this tree and on a git ref, interleaved, in one run. */
import { execFileSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { bundle, scenarioNames } from './frame/bundle.ts';
import { environment } from './frame/environment.ts';
import { readOptions, UsageError } from './frame/options.ts';
import { progress } from './frame/progress.ts';
import { least, measure, median } from './frame/rounds.ts';
import { headline, ns, table } from './frame/table.ts';

async function main(): Promise<void> {
  const root = process.cwd();
  const options = readOptions(process.argv.slice(2));
  const [ref] = options.rest;
  if (ref === undefined || options.rest.length > 1)
    throw new UsageError('compare wants one git ref: bench compare main');
  const git = (...args: string[]): string => execFileSync('git', args, { encoding: 'utf8' }).trim();
  let commit: string;
  try {
    commit = git('rev-parse', '--verify', '--short=12', `${ref}^{commit}`);
  } catch {
    throw new UsageError(`no commit "${ref}" here`);
  }
  const tree = join(root, 'build', 'bench', `tree-${commit}`);
  const remove = (): void => {
    git('worktree', 'remove', '--force', tree);
    rmSync(tree, { recursive: true, force: true });
  };
  if (existsSync(tree)) remove();
  git('worktree', 'add', '--quiet', '--detach', tree, commit);
  for (const signal of ['SIGINT', 'SIGTERM'])
    process.once(signal, () => {
      remove();
      process.exit(130);
    });
  try {
    process.stdout.write(`${headline(environment())}\nagainst ${ref} = ${commit}\n\n`);
    for (const name of scenarioNames(root)) {
      const [here] = await bundle(root, root, [name], join(root, 'build', 'bench', 'here'));
      const there = await bundle(root, tree, [name], join(root, 'build', 'bench', commit)).catch((error: Error) => {
        process.stdout.write(`${name}: does not run on ${ref} (${error.message.split('\n')[1] ?? error.message})\n\n`);
        return null;
      });
      if (there === null) continue;
      const [now, before] = await measure([here!, there[0]!], { ...options, progress });
      progress('');
      if (now!.figures.length === 0) continue;
      const axes = Object.keys(now!.figures[0]!.variant);
      const rows = now!.figures.flatMap((f, i) => {
        const b = before!.figures[i]!;
        if (f.rounds.length === 0) return [];
        return [
          [
            ...axes.map((axis) => String(f.variant[axis])),
            ns(least(b)),
            ns(least(f)),
            (least(f) / least(b)).toFixed(3),
            (median(f) / median(b)).toFixed(3),
          ],
        ];
      });
      process.stdout.write(
        `${name}: ${now!.about}; least ns per packet\n${table(axes.length, [[...axes, 'before', 'now', 'now/before', 'of medians'], ...rows])}\n\n`,
      );
    }
  } finally {
    remove();
  }
}

main().catch((error: Error) => {
  progress('');
  process.stderr.write(`${error instanceof UsageError ? error.message : error.stack}\n`);
  process.exit(error instanceof UsageError ? 2 : 1);
});
