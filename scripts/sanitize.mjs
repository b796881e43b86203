// The addon under the address and undefined behaviour sanitizers (gcc's): its fuzz and its package's other tests, in a Node
// into which their runtime is preloaded. Leaks are not looked for: V8 and Node leave memory to the end of the process.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';

const addon = resolve('packages/native/build/sanitized/espalier.node');
const skip = (reason) => {
  process.stdout.write(`skipped the sanitizers: ${reason}\n0 passed, 0 failed, 1 skipped\n`);
  process.exit(0);
};

const { stdout = '' } = spawnSync(process.env.CC || 'cc', ['-print-file-name=libasan.so'], { encoding: 'utf8' });
const runtime = stdout?.trim() ?? '';
if (!existsSync(runtime)) skip('no gcc with libasan (apt-get install gcc)');
const built = spawnSync(process.execPath, ['packages/native/build.mjs', '--sanitize'], { encoding: 'utf8' });
if (built.stdout.trim()) process.stdout.write(built.stdout);
if (!existsSync(addon)) skip('the addon could not be compiled with them');

const files = process.argv.slice(2);
const { status } = spawnSync(
  process.execPath,
  ['scripts/run-tests.mjs', ...(files.length > 0 ? files : ['packages/native/test'])],
  {
    stdio: 'inherit',
    env: {
      ...process.env,
      LD_PRELOAD: runtime,
      ESPALIER_ADDON: addon,
      ESPALIER_FUZZ_CALLS: process.env.ESPALIER_LONG === '1' ? '200000' : '40000',
      // Any finding ends the process, and the test with it.
      ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1:allocator_may_return_null=1',
      UBSAN_OPTIONS: 'print_stacktrace=1',
    },
  },
);
process.exit(status ?? 1);
