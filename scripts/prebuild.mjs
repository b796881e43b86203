// The addon for the tarball of @espalier/native: one file per processor, by the machine's compiler and Debian's cross
// compilers, into packages/native/prebuilds/. A file may need nothing but libc and Node-API: then one serves every Node.
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const native = fileURLToPath(new URL('../packages/native/', import.meta.url));
const TARGETS = [
  { name: 'linux-x64', arch: 'x64', compiler: 'x86_64-linux-gnu-gcc', machine: 'X86-64' },
  { name: 'linux-arm64', arch: 'arm64', compiler: 'aarch64-linux-gnu-gcc', machine: 'AArch64' },
];
const say = (text) => process.stdout.write(`${text}\n`);
const output = (command, ...args) => spawnSync(command, args, { encoding: 'utf8' }).stdout ?? '';

function compilerOf({ compiler, arch }) {
  if (output(compiler, '--version')) return compiler;
  return process.arch === arch && output('cc', '--version') ? 'cc' : null;
}

/** What of another library or of V8 and libuv the file would need, and the newest glibc. */
function needs(file, compiler) {
  const nm = output(compiler, '-print-prog-name=nm').trim();
  const symbols = output(nm, '-D', '--undefined-only', file).trim().split('\n');
  const names = symbols.map((line) => line.trim().split(/\s+/));
  const foreign = names.filter(([kind, name]) => kind === 'U' && !/@GLIBC_|^napi_/.test(name)).map(([, name]) => name);
  const versions = names.flatMap(([, name]) => /@GLIBC_2\.(\d+)/.exec(name)?.[1] ?? []).map(Number);
  return { foreign, glibc: `2.${Math.max(...versions)}`, api: names.filter(([, n]) => n.startsWith('napi_')).length };
}

rmSync(join(native, 'prebuilds'), { recursive: true, force: true });
let failed = 0;
for (const target of TARGETS) {
  const compiler = compilerOf(target);
  if (compiler === null) {
    say(
      `${target.name}: left out, no ${target.compiler} (apt-get install gcc-${target.compiler.replace(/-gcc$/, '').replace('_', '-')})`,
    );
    continue;
  }
  const file = join(native, 'prebuilds', target.name, 'espalier.glibc.node');
  mkdirSync(join(file, '..'), { recursive: true });
  const env = { ...process.env, CC: compiler };
  const built = spawnSync(process.execPath, [join(native, 'build.mjs'), '--out', file], { env, encoding: 'utf8' });
  const { foreign, glibc, api } = built.status === 0 ? needs(file, compiler) : { foreign: [] };
  const machine = built.status === 0 ? output(output(compiler, '-print-prog-name=readelf').trim(), '-h', file) : '';
  if (built.status !== 0 || foreign.length > 0 || !machine.includes(target.machine)) {
    failed++;
    rmSync(file, { force: true });
    say(`${target.name}: FAILED ${built.stdout}${foreign.join(' ')}`);
  } else {
    say(
      `${target.name}: ${(statSync(file).size / 1024).toFixed(0)} KiB, glibc ${glibc}, ${api} functions of Node-API and libc's, no other`,
    );
  }
}
process.exit(failed === 0 ? 0 : 1);
