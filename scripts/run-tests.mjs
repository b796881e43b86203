// Runs vitest, prints every skipped test with its reason, and ends with `N passed, N failed, N skipped`.
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';

mkdirSync('build', { recursive: true });
const report = 'build/vitest.json';
const args = [
  'node_modules/vitest/vitest.mjs',
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${report}`,
];
const child = spawn(process.execPath, [...args, ...process.argv.slice(2)], { stdio: 'inherit' });
const code = await new Promise((resolve) => child.on('close', resolve));

let results;
try {
  results = JSON.parse(readFileSync(report, 'utf8'));
} catch {
  process.stdout.write('0 passed, 1 failed, 0 skipped\n');
  process.exit(code || 1);
}
const skipped = results.testResults.flatMap((file) =>
  file.assertionResults.filter((t) => t.status === 'pending' || t.status === 'skipped' || t.status === 'todo'),
);
if (skipped.length > 0) {
  process.stdout.write('\nSkipped:\n');
  for (const t of skipped) process.stdout.write(`  - ${t.fullName}\n`);
}
const broken = results.testResults.filter((f) => f.status === 'failed' && f.assertionResults.length === 0).length;
process.stdout.write(
  `${results.numPassedTests} passed, ${results.numFailedTests + broken} failed, ${skipped.length} skipped\n`,
);
process.exit(code);
