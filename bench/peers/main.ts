/** `pnpm bench:peers`: this project beside others, on this machine, in one run. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runCommand } from '../frame/command.ts';
import { environment } from '../frame/environment.ts';
import { UsageError } from '../frame/options.ts';
import { progress } from '../frame/progress.ts';
import { headline } from '../frame/table.ts';
import { type Contest, type Outcome, report } from './contest.ts';
import { dpdk, libipsec } from './esp.ts';
import { howToGet, install } from './packages.ts';
import { tunnel } from './tunnel.ts';
import { afXdp } from './xdp.ts';

const CONTESTS: readonly Contest[] = [dpdk, libipsec, afXdp, tunnel];

const USAGE = `usage: pnpm bench:peers [--install] [--only ${CONTESTS.map((c) => c.name).join(' | ')}]... [--rounds N] [--ms N] [--out FILE]
       --install  installs what is missing from Debian, as root, and says what`;

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  const contests = CONTESTS.filter((c) => options.only.length === 0 || options.only.includes(c.name));
  const wanted = contests.flatMap((c) => [...c.needs, ...c.peers]);
  if (options.install) install(wanted, say);
  const env = environment();
  say(`${headline(env)}\n`);
  const outcomes: Outcome[] = [];
  let failed = 0;
  for (const contest of contests) {
    const obstacles = howToGet(contest.needs);
    if (obstacles.length > 0) {
      say(`${contest.name}: not held\n${obstacles.map((o) => `  ${o}`).join('\n')}\n`);
      continue;
    }
    try {
      const outcome = await contest.run({ ...options, progress });
      progress('');
      outcomes.push(outcome);
      say(report(outcome));
    } catch (error) {
      failed++;
      progress('');
      say(`${contest.name}: FAILED\n${(error as Error).message}\n`);
    }
  }
  const out = options.out ?? join('bench', 'results', `peers-${env.date.slice(0, 19).replaceAll(':', '')}.json`);
  mkdirSync(join('bench', 'results'), { recursive: true });
  writeFileSync(out, `${JSON.stringify({ environment: { ...env, loadAfter: loadavg() }, outcomes }, null, 1)}\n`);
  say(`raw rounds: ${out}`);
  return failed === 0 ? 0 : 1;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function readOptions(args: string[]) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        install: { type: 'boolean', default: false },
        only: { type: 'string', multiple: true, default: [] },
        rounds: { type: 'string', default: '5' },
        ms: { type: 'string', default: '300' },
        out: { type: 'string' },
      },
    });
    for (const name of values.only) if (!CONTESTS.some((c) => c.name === name)) throw new Error(`no contest "${name}"`);
    const [rounds, milliseconds] = [Number(values.rounds), Number(values.ms)];
    if (!(rounds >= 1) || !(milliseconds >= 1)) throw new Error('--rounds and --ms want positive numbers');
    return { install: values.install, only: values.only, rounds, milliseconds, out: values.out ?? null };
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n${USAGE}`);
  }
}

runCommand(main);
