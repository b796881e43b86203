// Checks the Promela models of packages/*/model with spin. The head of each model lists its variants, one a line:
//
//     good  NAME  what it is     -Dflags        a complete search without an error
//     bad   NAME  what it shows  -Dflags        a deliberate mistake: must yield a counterexample
//     long  NAME  ...                           as good, with ESPALIER_LONG=1 only
//
//   node scripts/dev.mjs model [WORD ...]              those whose model/variant contains a word
//   node scripts/dev.mjs model --trail MODEL/VARIANT   the shortest counterexample, step by step
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

const JOBS = 2;
/** Seconds and MiB for one search; a search that needs more is a failure, not a result. */
const PATIENCE = process.env.ESPALIER_LONG === '1' ? 1800 : 240;
const MEMORY = process.env.ESPALIER_LONG === '1' ? 12_000 : 4000;
const DEPTH = 1_000_000;

const say = (text) => process.stdout.write(`${text}\n`);

/** Variants of a model, from its head. */
function variantsOf(path, source) {
  const head = source.slice(0, source.indexOf('*/'));
  const found = [];
  for (const m of head.matchAll(/^ \* {3}(good|bad|long) +(\S+) +(.*?)((?: -D\S+)*)$/gm))
    found.push({
      path,
      model: basename(path, '.pml'),
      expected: m[1] === 'bad' ? 'counterexample' : 'clean',
      long: m[1] === 'long',
      name: m[2],
      what: m[3].trim(),
      flags: m[4].trim().split(' ').filter(Boolean),
    });
  return found;
}

function run(command, args, cwd, seconds) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (d) => (output += d));
    const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
    child.on('error', (error) => resolve({ code: 127, output: error.message }));
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 137, output });
    });
  });
}

/** Builds and runs one variant. */
async function check(variant, { shortest = false } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'espalier-model-'));
  const began = Date.now();
  try {
    copyFileSync(variant.path, join(dir, 'm.pml'));
    const made = await run('spin', ['-a', ...variant.flags, 'm.pml'], dir, 60);
    // A broken variant ends within a blink: building it is what takes time. -O2 takes longer to build than it saves.
    const cc = [
      variant.expected === 'clean' ? '-O1' : '-O0',
      '-w',
      '-DSAFETY',
      '-DCOLLAPSE',
      '-DVECTORSZ=2048',
      `-DMEMLIM=${MEMORY}`,
    ];
    if (shortest) cc.push('-DBFS');
    const built = made.code === 0 ? await run('cc', [...cc, '-o', 'pan', 'pan.c'], dir, 120) : made;
    if (built.code !== 0) return { ...variant, result: `does not build: ${built.output.trim().split('\n')[0]}` };
    const { code, output } = await run('./pan', [`-m${DEPTH}`], dir, PATIENCE);
    const number = (pattern) => Number(pattern.exec(output)?.[1] ?? -1);
    const errors = number(/errors: (\d+)/);
    const complete = code === 0 && !/max search depth too small|Search not completed|out of memory/.test(output);
    const clean = errors === 0 && complete ? 'clean' : 'incomplete';
    let trail = '';
    if (shortest && errors > 0)
      trail = spawnSync('spin', ['-t', '-p', '-g', '-l', ...variant.flags, 'm.pml'], {
        cwd: dir,
        encoding: 'utf8',
      }).stdout;
    return {
      ...variant,
      result: errors > 0 ? 'counterexample' : clean,
      why: /pan:\d+: (.*?) \(at depth/.exec(output)?.[1] ?? '',
      states: number(/(\d+) states, stored/),
      depth: number(/depth reached (\d+)/),
      seconds: (Date.now() - began) / 1000,
      trail,
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

for (const [tool, debian] of [
  ['spin', 'spin'],
  ['cc', 'gcc libc6-dev'],
])
  if (spawnSync(tool, [tool === 'spin' ? '-V' : '--version']).error) {
    say(`The models need ${tool}: apt-get install ${debian} (or from https://spinroot.com). None was checked.`);
    process.exit(2);
  }

const paths = readdirSync('packages')
  .map((p) => join('packages', p, 'model'))
  .flatMap((dir) => {
    try {
      return readdirSync(dir)
        .filter((f) => f.endsWith('.pml'))
        .map((f) => join(dir, f));
    } catch {
      return [];
    }
  });
const all = paths.flatMap((path) => variantsOf(path, readFileSync(path, 'utf8')));
const args = process.argv.slice(2);

if (args[0] === '--trail') {
  const variant = all.find((v) => `${v.model}/${v.name}` === args[1]);
  if (!variant) {
    say(`no variant ${args[1]}; there are ${all.map((v) => `${v.model}/${v.name}`).join(', ')}`);
    process.exit(2);
  }
  const { result, why, trail } = await check(variant, { shortest: true });
  say(trail?.trimEnd() || 'no counterexample');
  say(`${result}: ${why}`);
  process.exit(result === variant.expected ? 0 : 1);
}

const chosen = all.filter(
  (v) =>
    (!v.long || process.env.ESPALIER_LONG === '1') &&
    (args.length === 0 || args.some((word) => `${v.model}/${v.name}`.includes(word))),
);
const began = Date.now();
// The long searches first, so that they do not end alone.
const queue = [...chosen.entries()].sort(([, a], [, b]) => a.expected.localeCompare(b.expected));
const results = [];
let shown = 0;
const row = (r) =>
  [
    r.model.padEnd(10),
    r.name.padEnd(15),
    String(r.states ?? '-').padStart(10),
    String(r.depth ?? '-').padStart(6),
    r.expected.padEnd(14),
    (r.result === r.expected ? r.result : `NOT SO: ${r.result}`).padEnd(14),
    (r.seconds ?? 0).toFixed(1).padStart(7),
    ` ${r.what}`,
  ].join(' ');
say(
  `${'model'.padEnd(10)} ${'variant'.padEnd(15)} ${'states'.padStart(10)} ${'depth'.padStart(6)} ${'expected'.padEnd(14)} ${'result'.padEnd(14)} ${'seconds'.padStart(7)}  what it is, or what the mistake leads to`,
);
await Promise.all(
  Array.from({ length: JOBS }, async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [i, variant] = next;
      results[i] = await check(variant);
      while (results[shown]) say(row(results[shown++]));
    }
  }),
);
const wrong = results.filter((r) => r.result !== r.expected);
const states = results.reduce((sum, r) => sum + Math.max(0, r.states ?? 0), 0);
const good = results.filter((r) => r.expected === 'clean').length;
say(
  `${results.length} variants of ${new Set(results.map((r) => r.path)).size} models: ${good} searched to the end, ${results.length - good} broken on purpose; ` +
    `${states} states in ${((Date.now() - began) / 1000).toFixed(0)} s; ${wrong.length} not as expected`,
);
if (results.length === 0) say('nothing was checked');
process.exit(wrong.length === 0 && results.length > 0 ? 0 : 1);
