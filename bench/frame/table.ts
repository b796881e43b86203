import type { Environment } from './environment.ts';
import type { Held } from './limits.ts';
import { type Figures, least, median, type Outcome } from './rounds.ts';
import { label } from './scenario.ts';

/** Columns as wide as what is in them; the first `words` to the left, figures to the right. */
export function table(words: number, rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, c) => Math.max(...rows.map((row) => row[c]!.length)));
  return rows
    .map((row) => row.map((cell, c) => (c < words ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!))).join('  '))
    .map((line) => line.trimEnd())
    .join('\n');
}

export function ns(value: number): string {
  return value < 100 ? value.toFixed(1) : value.toFixed(0);
}

/** One scenario: nanoseconds per packet, and the ratio of minima to the anchor's. */
export function report(outcome: Outcome): string {
  const measured = outcome.figures.filter((f) => f.rounds.length > 0);
  if (measured.length === 0) return '';
  const axes = Object.keys(measured[0]!.variant);
  const anchored = measured.some((f) => f.anchor !== null);
  const rows = measured.map((f) => [
    ...axes.map((axis) => String(f.variant[axis])),
    ns(least(f)),
    ns(median(f)),
    ...(anchored ? [ratio(f, outcome.figures)] : []),
  ]);
  const head = [...axes, 'min', 'median', ...(anchored ? ['ratio'] : [])];
  return `${outcome.scenario}: ${outcome.about}; ns per packet\n${table(axes.length, [head, ...rows])}\n`;
}

/** Least over least; '' for a variant without an anchor. */
function ratio(figures: Figures, all: readonly Figures[]): string {
  const key = JSON.stringify(figures.anchor);
  const anchor = all.find((f) => JSON.stringify(f.variant) === key && f.rounds.length > 0);
  return anchor === undefined ? '' : (least(figures) / least(anchor)).toFixed(3);
}

/** 'xmit-hash layer3+4, ipv4: 8.1 ns, 2.1 x the 3.9 ns of bare, ipv4; at most 4: 15 ns'. */
export function limitLine({ limit, ns: mine, anchorNs }: Held): string {
  const broken = mine > limit.most * anchorNs ? 'BROKEN: ' : '';
  const times = (mine / anchorNs).toFixed(3);
  return `${broken}${label(limit.variant)}: ${ns(mine)} ns, ${times} x the ${ns(anchorNs)} ns of ${label(limit.to)}, at most ${limit.most} x: ${limit.goal}`;
}

export function headline(e: Environment): string {
  const load = e.loadBefore.map((l) => l.toFixed(2)).join(' ');
  return `${e.commit}${e.dirty ? ' with changes' : ''}; ${e.cpu}, ${e.cores} cores, ${e.kernel}, Node ${e.node}, load ${load}`;
}
