/** `pnpm bench`: proves and measures every scenario, prints a table, keeps the raw rounds. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { bundle, scenarioNames } from './frame/bundle.ts';
import { runCommand } from './frame/command.ts';
import { environment } from './frame/environment.ts';
import type { Held } from './frame/limits.ts';
import { readOptions, UsageError } from './frame/options.ts';
import { progress } from './frame/progress.ts';
import { ask, measure, type Outcome } from './frame/rounds.ts';
import { headline, limitLine, report } from './frame/table.ts';

async function main(): Promise<number> {
  const root = process.cwd();
  const options = readOptions(process.argv.slice(2));
  const all = scenarioNames(root);
  // A filter is of variants; the smoke run knows scenarios only.
  const { filters } = options;
  const names = options.smoke && filters.length > 0 ? all.filter((n) => filters.some((f) => n.includes(f))) : all;
  if (options.list) {
    process.stdout.write(`${names.join('\n')}\n`);
    return 0;
  }
  const env = environment();
  process.stdout.write(`${headline(env)}\n\n`);
  const programs = await bundle(root, root, names, join(root, 'build', 'bench', 'here'));

  if (options.smoke) {
    let failed = 0;
    for (const program of programs) {
      const began = performance.now();
      try {
        const { tried } = await ask<{ tried: number }>(program, { do: 'try' });
        const seconds = ((performance.now() - began) / 1000).toFixed(1);
        process.stdout.write(`${program.name}: contenders agree, ${tried} variants run, ${seconds} s\n`);
        const { held } = await ask<{ held: readonly Held[] }>(program, { do: 'hold' });
        for (const one of held) process.stdout.write(`  ${limitLine(one)}\n`);
        const broken = held.filter(({ limit, ns, anchorNs }) => ns > limit.most * anchorNs);
        if (broken.length > 0) throw new Error(`${program.name}: ${broken.length} limits broken`);
      } catch (error) {
        failed++;
        process.stdout.write(`${program.name}: FAILED\n${(error as Error).message}\n`);
      }
    }
    process.stdout.write(`${programs.length - failed} passed, ${failed} failed, 0 skipped\n`);
    return failed === 0 ? 0 : 1;
  }

  const outcomes: Outcome[] = [];
  for (const program of programs) {
    const [outcome] = await measure([program], { ...options, progress });
    progress('');
    if (outcome!.figures.length === 0) continue;
    outcomes.push(outcome!);
    process.stdout.write(`${report(outcome!)}\n`);
  }
  if (outcomes.length === 0) throw new UsageError(`nothing matches ${options.filters.join(' or ')}`);
  const { rounds, milliseconds } = options;
  const out = options.out ?? join('bench', 'results', `${env.date.slice(0, 19).replaceAll(':', '')}.json`);
  mkdirSync(join(root, 'bench', 'results'), { recursive: true });
  const kept = {
    environment: { ...env, loadAfter: loadavg() },
    options: { rounds, milliseconds, filters },
    unit: 'ns per packet',
    outcomes: outcomes.map(({ figures, ...outcome }) => ({
      ...outcome,
      figures: figures.filter((f) => f.rounds.length > 0),
    })),
  };
  writeFileSync(out, `${JSON.stringify(kept, null, 1)}\n`);
  process.stdout.write(`raw rounds: ${out}\n`);
  return 0;
}

runCommand(main);
