// Draws a run of the scenario `window` as SVG: nanoseconds per packet, dealing subtracted, against threads and window sizes.
//   node bench/plot-window.mjs bench/results/RUN.json out.svg
import { readFileSync, writeFileSync } from 'node:fs';

const [from, to] = process.argv.slice(2);
if (!from || !to) {
  process.stderr.write('usage: node bench/plot-window.mjs RUN.json OUT.svg\n');
  process.exit(2);
}
const run = JSON.parse(readFileSync(from, 'utf8'));
const { figures } = run.outcomes.find((o) => o.scenario === 'window');
const least = (f) => Math.min(...f.rounds.map((r) => r.min ?? Math.min(...[r].flat())));
const cost = (want) => {
  const found = figures.find((f) => Object.entries(want).every(([k, v]) => f.variant[k] === v));
  if (!found) return null;
  const { deal, threads, window } = found.variant;
  if (window.startsWith('C,')) return least(found);
  const dealing = figures.find(
    (f) => f.variant.window === 'none: dealing alone' && f.variant.deal === deal && f.variant.threads === threads,
  );
  return least(found) - (dealing ? least(dealing) : 0);
};

const bars = [];
for (const window of [
  'shipped',
  'plain bitmap',
  'spin lock per burst',
  'spin lock per packet',
  'CAS per packet',
  'C, spin lock per packet',
])
  for (const threads of [1, 2])
    bars.push([`${window}, ${threads}`, cost({ window, threads, deal: 'runs of 32', size: 1024 }), threads]);
for (const deal of ['odd and even', 'same stream', 'reordered in 64', 'replayed'])
  for (const threads of [1, 2])
    bars.push([`shipped, ${deal}, ${threads}`, cost({ window: 'shipped', threads, deal, size: 1024 }), threads]);
for (const size of [64, 256, 4096, 65_536])
  for (const threads of [1, 2])
    bars.push([
      `shipped, W=${size}, ${threads}`,
      cost({ window: 'shipped', threads, deal: 'runs of 32', size }),
      threads,
    ]);

const rows = bars.filter(([, ns]) => ns !== null);
const most = Math.max(...rows.map(([, ns]) => ns));
const height = 18 * rows.length + 46;
const text = (x, y, anchor, what) => `<text x="${x}" y="${y}" text-anchor="${anchor}">${what}</text>`;
const svg = [
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 ${height}" font-family="sans-serif" font-size="11">`,
  `<title>Nanoseconds per packet of check and commit, by window and threads</title>
<rect width="640" height="${height}" fill="#fff"/>`,
  text(
    10,
    18,
    'start',
    `check and commit, ns of CPU per packet (bursts of 32; W = 1024 unless said; threads: 1 light, 2 dark)`,
  ),
  ...rows.flatMap(([name, ns, threads], i) => {
    const y = 32 + 18 * i;
    const width = Math.max(1, (ns / most) * 340);
    return [
      text(232, y + 10, 'end', name),
      `<rect x="240" y="${y}" width="${width.toFixed(1)}" height="13" fill="${threads === 1 ? '#8fb8de' : '#2f5d8a'}"/>`,
      text(246 + width, y + 10, 'start', ns.toFixed(1)),
    ];
  }),
  text(
    10,
    height - 4,
    'start',
    `${run.environment.cpu}, Node ${run.environment.node}, ${run.environment.date.slice(0, 10)}, ${run.environment.commit}`,
  ),
  '</svg>',
];
writeFileSync(to, `${svg.join('\n')}\n`);
