/** Contenders in processes of their own, in turn; what a contest found, and its table. */
import { spawn } from 'node:child_process';
import { least, median } from '../frame/rounds.ts';
import { label, type Variant } from '../frame/scenario.ts';
import { ns, table } from '../frame/table.ts';
import type { Command } from './build.ts';
import type { Peer } from './packages.ts';

/** One process's figures, in the contest's unit. */
export interface Round {
  readonly min: number;
  readonly median: number;
  readonly mean: number;
  readonly samples: number;
  /** CPU of what is measured, microseconds per packet, where that is another figure. */
  readonly cpu?: number;
}

/** One contender at one variant. */
export interface Row {
  readonly variant: Variant;
  readonly contender: string;
  readonly rounds: Round[];
}

/** Ours against a peer, as the contest counts: costs below, rates above the goal are good. */
export interface Ratio {
  readonly variant: Variant;
  readonly ours: string;
  readonly peer: string;
  readonly ratio: number;
  /** The bound that was set, and whether it is held. */
  readonly goal: string;
  readonly held: boolean;
}

export interface Outcome {
  readonly contest: string;
  readonly about: string;
  readonly unit: string;
  /** Of costs the least round counts, of rates the greatest. */
  readonly better: 'less' | 'more';
  readonly rows: readonly Row[];
  readonly ratios: readonly Ratio[];
  /** Who was missing, and how to get them. */
  readonly missing: readonly string[];
  readonly notes: readonly string[];
}

export interface ContestOptions {
  readonly rounds: number;
  /** Of measuring, per process. */
  readonly milliseconds: number;
  readonly progress: (text: string) => void;
}

/** One file of this folder each. */
export interface Contest {
  readonly name: string;
  readonly about: string;
  /** Without these there is no contest. */
  readonly needs: readonly Peer[];
  /** Contenders that may be missing. */
  readonly peers: readonly Peer[];
  run(options: ContestOptions): Promise<Outcome>;
}

/** Runs a program to its end. Its last line is JSON; anything else is an error with what it printed. */
export async function ask<T>({ file, args }: Command, ...more: string[]): Promise<T> {
  const child = spawn(file, [...args, ...more], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.on('data', (d) => {
    out += d;
  });
  child.stderr.on('data', (d) => {
    err += d;
  });
  const code = await new Promise((resolve) => child.on('close', resolve));
  if (code === 0)
    try {
      return JSON.parse(out.trimEnd().split('\n').at(-1)!) as T;
    } catch {
      // Said below.
    }
  throw new Error(`${[file, ...args, ...more].join(' ')} ended with ${code}\n${out}${err}`);
}

/** Every turn a round, the order reversed each time, so that a slow drift of the machine meets all alike. */
export async function takeTurns(
  rows: readonly Row[],
  { rounds, progress }: ContestOptions,
  measure: (row: Row) => Promise<Round>,
): Promise<void> {
  for (let round = 0; round < rounds; round++)
    for (const row of round % 2 === 0 ? rows : [...rows].reverse()) {
      progress(`round ${round + 1} of ${rounds}: ${row.contender}, ${label(row.variant)}`);
      row.rounds.push(await measure(row));
    }
}

/** Least over least, for a cost. */
export function costRatio(rows: readonly Row[], variant: Variant, ours: string, peer: string, most: number): Ratio[] {
  const find = (contender: string): Row | undefined =>
    rows.find((r) => r.variant === variant && r.contender === contender && r.rounds.length > 0);
  const [a, b] = [find(ours), find(peer)];
  if (a === undefined || b === undefined) return [];
  const ratio = bestOf(a, 'less') / bestOf(b, 'less');
  return [{ variant, ours, peer, ratio, goal: `<= ${Number(most.toFixed(3))}`, held: ratio <= most }];
}

/** The figure that counts. */
export function bestOf(row: Row, better: Outcome['better']): number {
  return better === 'less' ? least({ ...row, anchor: null }) : Math.max(...row.rounds.map((r) => r.median));
}

/** The outcome as text. */
export function report({ contest, about, unit, better, rows, ratios, missing, notes }: Outcome): string {
  const lines = [`${contest}: ${about}; ${unit}`];
  const measured = rows.filter((r) => r.rounds.length > 0);
  if (measured.length > 0) {
    const axes = Object.keys(measured[0]!.variant);
    const cells = measured.flatMap((r) => {
      const figures = [bestOf(r, better), median({ ...r, anchor: null })].map((f) => (f < 10 ? f.toFixed(2) : ns(f)));
      const verdicts = ratios
        .filter((q) => q.variant === r.variant && q.ours === r.contender)
        .map((q) => [q.ratio.toFixed(2), `${q.goal} of ${q.peer}`, q.held ? '' : 'missed']);
      const row = [...axes.map((axis) => String(r.variant[axis])), r.contender, ...figures];
      const [first = ['', '', ''], ...more] = verdicts;
      return [[...row, ...first], ...more.map((verdict) => [...row.map(() => ''), ...verdict])];
    });
    const head = [...axes, 'contender', better === 'less' ? 'min' : 'max', 'median', 'ratio', 'goal', ''];
    lines.push(table(axes.length + 1, [head, ...cells]));
  }
  return [...lines, ...notes, ...missing, ''].join('\n');
}
