// Deliberate mistakes, each made in a copy of the sources and each to be caught by the test that is named beside it.
// `node scripts/mutants.mjs [package]`; the tables are packages/*/test/mutants.json.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');
const only = process.argv[2];
const tables = readdirSync(join(ROOT, 'packages'))
  .filter((name) => only === undefined || name === only)
  .filter((name) => existsSync(join(ROOT, 'packages', name, 'test/mutants.json')));

let killed = 0;
let survived = 0;
for (const name of tables) {
  const folder = join(ROOT, 'packages', name);
  // The copy lies beside the package, so that everything that it imports is found as before.
  const copy = join(ROOT, 'packages', `.mutant-${name}-${process.pid}`);
  try {
    for (const { what, file, from, to, test } of JSON.parse(readFileSync(join(folder, 'test/mutants.json'), 'utf8'))) {
      rmSync(copy, { recursive: true, force: true });
      mkdirSync(copy);
      for (const part of ['src', 'test', 'package.json', 'node_modules'])
        cpSync(join(folder, part), join(copy, part), { recursive: true, verbatimSymlinks: true });
      const source = readFileSync(join(copy, 'src', file), 'utf8');
      if (source.split(from).length !== 2) {
        process.stdout.write(`STALE     ${what}: its text is not in ${file} exactly once\n`);
        survived++;
        continue;
      }
      writeFileSync(
        join(copy, 'src', file),
        source.replace(from, () => to),
      );
      const began = Date.now();
      const [testFile, title] = test.split(' > ');
      const run = spawnSync(
        process.execPath,
        ['node_modules/vitest/vitest.mjs', 'run', join(copy, 'test', testFile), '-t', title, '--bail=1'],
        { cwd: ROOT, encoding: 'utf8', timeout: 60_000, env: { ...process.env, ESPALIER_STEPS: '20000' } },
      );
      const failed = run.status !== 0 && /Tests .*[1-9]\d* failed/.test(run.stdout);
      const hung = run.status === null;
      if (failed || hung) killed++;
      else survived++;
      const verdict = failed ? 'killed   ' : hung ? 'hung     ' : 'SURVIVED ';
      process.stdout.write(`${verdict} ${what} (${((Date.now() - began) / 1000).toFixed(1)} s, ${test})\n`);
    }
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}
process.stdout.write(
  `${killed} mutants killed, ${survived} survived\n${killed} passed, ${survived} failed, 0 skipped\n`,
);
process.exit(survived === 0 ? 0 : 1);
