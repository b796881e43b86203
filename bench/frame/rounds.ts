import { spawn } from 'node:child_process';
import type { Program } from './bundle.ts';
import type { Answer, Round, Task } from './child.ts';
import { label, type Variant } from './scenario.ts';

/** Figures of one variant on one tree, in nanoseconds per packet. */
export interface Figures {
  readonly variant: Variant;
  /** The variant it is quoted against. */
  readonly anchor: Variant | null;
  /** In the order they were run. */
  readonly rounds: Round[];
}

export interface Outcome {
  readonly scenario: string;
  readonly about: string;
  readonly figures: Figures[];
}

/** Runs one task in a process of its own. Throws with what it printed when it fails. */
export async function ask<T extends Answer>(program: Program, task: Task): Promise<T> {
  const child = spawn(process.execPath, ['--expose-gc', program.file, JSON.stringify(task)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (d) => {
      output += d;
    });
  const code = await new Promise((resolve) => child.on('close', resolve));
  let answer: Answer;
  try {
    answer = JSON.parse(output.trimEnd().split('\n').at(-1)!) as Answer;
  } catch {
    throw new Error(`${program.name}: the process ended with ${code} and no answer\n${output}`);
  }
  if ('error' in answer) throw new Error(`${program.name}: ${answer.error}`);
  return answer as T;
}

export interface RoundsOptions {
  readonly rounds: number;
  /** Of measuring, per variant and round. */
  readonly milliseconds: number;
  /** Keeps variants whose `scenario label` holds one of these; empty = all. */
  readonly filters: readonly string[];
  readonly progress: (text: string) => void;
}

export type Described = Extract<Answer, { about: string }>;

/**
 * Proves and measures one scenario on one or more trees at once: a process per tree, variant and round, order reversed
 * every round, so that a slow drift of the machine meets all alike.
 */
export async function measure(programs: readonly Program[], options: RoundsOptions): Promise<Outcome[]> {
  const { rounds, milliseconds, filters, progress } = options;
  const described = await Promise.all(programs.map((p) => ask<Described>(p, { do: 'describe' })));
  const { name, about, variants } = described[0]!;
  const chosen = variants.map((v) => filters.length === 0 || filters.some((f) => `${name} ${label(v)}`.includes(f)));
  // What is quoted against something takes that along.
  variants.forEach((_, i) => {
    const anchor = described[0]!.anchors[i]!;
    if (chosen[i] && anchor >= 0) chosen[anchor] = true;
  });
  const outcomes = described.map((d) => ({
    scenario: name,
    about,
    figures: variants.map((variant, i) => ({
      variant,
      anchor: variants[d.anchors[i]!] ?? null,
      rounds: [] as Round[],
    })),
  }));
  if (!chosen.includes(true)) return outcomes.map((o) => ({ ...o, figures: [] }));
  for (const program of programs) {
    progress(`${name}: proving`);
    await ask(program, { do: 'prove' });
  }
  const turns = variants.flatMap((_, i) => (chosen[i] ? programs.map((_p, tree) => ({ i, tree })) : []));
  for (let round = 0; round < rounds; round++) {
    for (const { i, tree } of round % 2 === 0 ? turns : [...turns].reverse()) {
      progress(`${name}: round ${round + 1} of ${rounds}, ${label(variants[i]!)}`);
      const task: Task = { do: 'measure', variant: variants[i]!, milliseconds };
      outcomes[tree]!.figures[i]!.rounds.push(await ask<Round>(programs[tree]!, task));
    }
  }
  return outcomes;
}

/** The least of the rounds' minima. */
export function least(figures: Figures): number {
  return Math.min(...figures.rounds.map((r) => r.min));
}

/** The median of the rounds' medians. */
export function median(figures: Figures): number {
  const sorted = figures.rounds.map((r) => r.median).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
