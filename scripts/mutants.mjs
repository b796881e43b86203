// Deliberate mistakes, one at a time: each must fail the test that is named for it. Reads packages/**/test/mutants.json:
// [{ name, file, find, replace, test, fails }]. `find` stands once in `file`, a path in the package; `fails` is part of the
// name of a test in `test` that must go red. vitest.config.ts puts the mistake in as it loads the file: nothing on disk changes.
//   node scripts/mutants.mjs [TEXT IN THE NAME | packages/PACKAGE]
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const wanted = process.argv[2] ?? '';
/** One test file, with what a walk of it is cut down to by ESPALIER_STEPS. */
const MOST_MS = 60_000;
const mutants = readdirSync('packages', { recursive: true })
  .filter((file) => file.endsWith(join('test', 'mutants.json')) && !file.includes('node_modules'))
  .flatMap((file) => {
    const folder = join('packages', file, '..', '..');
    return JSON.parse(readFileSync(join('packages', file), 'utf8')).map((m) => ({ ...m, folder }));
  })
  .filter((m) => m.name.includes(wanted) || m.folder === wanted);
const scratch = mkdtempSync(join(tmpdir(), 'espalier-mutants-'));

/** What became of one mutant: '' when the named test failed, otherwise a complaint. */
async function run({ folder, file, find, replace, test, fails }, number) {
  const path = join(folder, file);
  const count = readFileSync(path, 'utf8').split(find).length - 1;
  if (count !== 1) return `the text to change stands ${count} times in ${path}`;
  const report = join(scratch, `${number}.json`);
  const args = ['run', '--reporter=json', `--outputFile=${report}`, join(folder, test)];
  const env = { ...process.env, ESPALIER_STEPS: '20000', ESPALIER_MUTANT: JSON.stringify({ path, find, replace }) };
  const child = spawn(process.execPath, ['node_modules/vitest/vitest.mjs', ...args], { env, stdio: 'ignore' });
  const timer = setTimeout(() => child.kill('SIGKILL'), MOST_MS);
  await new Promise((resolve) => child.on('close', resolve));
  clearTimeout(timer);
  // A mistake may also show as a test that never ends.
  if (!existsSync(report)) return child.signalCode === 'SIGKILL' ? '' : 'no report';
  const tests = JSON.parse(readFileSync(report, 'utf8')).testResults.flatMap((f) => f.assertionResults);
  const failed = tests.filter((t) => t.status === 'failed').map((t) => t.fullName);
  if (failed.some((name) => name.includes(fails))) return '';
  if (tests.length === 0) return 'the changed file does not load';
  return failed.length === 0 ? 'survived' : `failed other tests only: ${failed.slice(0, 3).join('; ')}`;
}

let next = 0;
let survivors = 0;
async function worker() {
  while (next < mutants.length) {
    const number = next++;
    const complaint = await run(mutants[number], number);
    if (complaint) survivors++;
    process.stdout.write(
      `${complaint ? 'ALIVE ' : 'killed'} ${mutants[number].name}${complaint ? `: ${complaint}` : ''}\n`,
    );
  }
}
try {
  await Promise.all([worker(), worker()]);
} finally {
  rmSync(scratch, { recursive: true });
}
process.stdout.write(`${mutants.length - survivors} passed, ${survivors} failed, 0 skipped\n`);
process.exit(survivors === 0 && mutants.length > 0 ? 0 : 1);
