/** One process of a run: proves a scenario, or measures one variant for one round, or tries every variant once. */
import { isMainThread, workerData } from 'node:worker_threads';
import { Bench } from 'tinybench';
import { type CrewData, runLaps } from './crew.ts';
import { type Held, hold } from './limits.ts';
import type { Race, Scenario, Trial, Variant } from './scenario.ts';

export type Task =
  | { readonly do: 'describe' }
  | { readonly do: 'prove' }
  | { readonly do: 'measure'; readonly variant: Variant; readonly milliseconds: number }
  | { readonly do: 'try' }
  | { readonly do: 'hold' };

/** Nanoseconds per packet of one process. */
export interface Round {
  readonly min: number;
  readonly median: number;
  readonly mean: number;
  readonly samples: number;
}

export type Answer =
  | { readonly name: string; readonly about: string; readonly variants: readonly Variant[]; readonly anchors: number[] }
  | { readonly proved: true }
  | Round
  | { readonly tried: number }
  | { readonly held: readonly Held[] }
  | { readonly error: string };

/** Milliseconds until V8 has compiled the whole way of a packet for good: less gives figures several times too high. */
const WARM_UP = 500;

/** The last line of the process's output is its Answer. */
export async function serve(scenario: Scenario): Promise<void> {
  if (!isMainThread) {
    const { index, gate, data } = workerData as CrewData;
    runLaps(gate, index, scenario.worker!(data, index));
    return;
  }
  let answer: Answer;
  try {
    answer = await perform(scenario, JSON.parse(process.argv[2]!) as Task);
  } catch (error) {
    answer = { error: (error as Error).stack ?? String(error) };
  }
  process.stdout.write(`\n${JSON.stringify(answer)}\n`, () => process.exit('error' in answer ? 1 : 0));
}

async function perform(scenario: Scenario, task: Task): Promise<Answer> {
  const { name, about, variants } = scenario;
  switch (task.do) {
    case 'describe': {
      const keys = variants.map((v) => JSON.stringify(v));
      const anchors = variants.map((v) => {
        const anchor = scenario.anchor?.(v) ?? null;
        const at = anchor === null ? -1 : keys.indexOf(JSON.stringify(anchor));
        if (anchor !== null && at < 0) throw new Error(`${name}: the anchor ${JSON.stringify(anchor)} is no variant`);
        return at;
      });
      return { name, about, variants, anchors };
    }
    case 'prove':
      await scenario.prove();
      return { proved: true };
    case 'measure':
      return measure(await scenario.run(task.variant), task.milliseconds);
    case 'try':
      await scenario.prove();
      for (const variant of variants) {
        const work = await scenario.run(variant);
        if ('lap' in work) await work.lap();
        else {
          work.prepare?.();
          work.step();
        }
        work.close?.();
      }
      return { tried: variants.length };
    case 'hold':
      return { held: await hold(scenario) };
  }
}

async function measure(work: Trial | Race, milliseconds: number): Promise<Round> {
  const bench = new Bench({ time: milliseconds, iterations: 8, warmupTime: WARM_UP, warmupIterations: 4 });
  if ('lap' in work) {
    bench.add('', async () => ({ overriddenDuration: (await work.lap()) / 1e6 }));
    await bench.run();
  } else {
    bench.add('', () => work.step(), work.prepare ? { beforeEach: () => work.prepare!() } : {});
    bench.runSync();
  }
  work.close?.();
  const result = bench.tasks[0]!.result;
  if (result.state !== 'completed') throw 'error' in result ? result.error : new Error(`measuring ${result.state}`);
  const { min, p50, mean, samplesCount } = result.latency;
  const perPacket = 1e6 / work.packets;
  return { min: min * perPacket, median: p50 * perPacket, mean: mean * perPacket, samples: samplesCount };
}
