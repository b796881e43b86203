// Compiles the addon with one compiler call and headers from npm; never throws on a machine that cannot.
//   node build.mjs                        build/espalier.node, where it is not newer than its sources already
//   node build.mjs --sanitize             build/sanitized/espalier.node, with the address and undefined behaviour sanitizers
//   node build.mjs --out FILE             another file; CC=aarch64-linux-gnu-gcc compiles for another machine
// Leaves status.json beside it: why the addon is absent and what would mend it.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const args = process.argv.slice(2);
const sanitize = args.includes('--sanitize');
const named = args[args.indexOf('--out') + 1];
const out = args.includes('--out')
  ? resolve(named)
  : join(here, 'build', sanitize ? 'sanitized' : '.', 'espalier.node');
const sources = readdirSync(join(here, 'c')).map((f) => join(here, 'c', f));
const compiler = process.env.CC || 'cc';

function finish(ok, reason, mend) {
  try {
    mkdirSync(dirname(out), { recursive: true });
    if (!args.includes('--out')) writeFileSync(join(dirname(out), 'status.json'), JSON.stringify({ ok, reason, mend }));
  } catch {
    // A folder of somebody else's: what is printed has to do.
  }
  if (!ok) process.stdout.write(`The native addon is absent: ${reason}. To mend that: ${mend}\n`);
  process.exit(ok || !args.includes('--out') ? 0 : 1);
}

/** From the npm package, of this project or of the one that depends on it; else what came with this Node. */
function findHeaders() {
  for (const from of [join(here, 'package.json'), join(here, '..', '..', 'package.json')]) {
    try {
      return join(dirname(createRequire(from).resolve('node-api-headers/package.json')), 'include');
    } catch {
      // not there
    }
  }
  const own = join(dirname(process.execPath), '..', 'include', 'node');
  return existsSync(join(own, 'node_api.h')) ? own : null;
}

if (process.platform !== 'linux') finish(false, `no TUN or AF_PACKET on ${process.platform}`, 'run on Linux');
const probe = spawnSync(compiler, ['--version']);
if (probe.error || probe.status !== 0) finish(false, `no C compiler ("${compiler}")`, 'apt-get install gcc libc6-dev');
if (existsSync(out) && sources.every((s) => statSync(s).mtimeMs < statSync(out).mtimeMs)) finish(true, '', '');

const headers = findHeaders();
if (headers === null)
  finish(
    false,
    'no headers of Node-API: neither the npm package node-api-headers nor this Node has them',
    'npm install node-api-headers',
  );
try {
  mkdirSync(dirname(out), { recursive: true });
} catch (error) {
  finish(false, `cannot write to ${dirname(out)} (${error.code})`, 'run it as the owner of that folder');
}
const flags = ['-shared', '-fPIC', '-std=gnu11', '-Wall', '-Wextra', '-fvisibility=hidden', `-I${headers}`];
const how = sanitize
  ? ['-O1', '-g', '-fno-omit-frame-pointer', '-fsanitize=address,undefined', '-fno-sanitize-recover=all']
  : ['-O2', ...(args.includes('--out') ? ['-s'] : [])];
// Stays loaded when the last worker that used it ends: what it shares between threads must not begin anew.
const link = ['-Wl,-z,nodelete', '-ldl', '-lpthread'];
const files = sources.filter((s) => s.endsWith('.c'));
// Beside and renamed: nobody ever loads half a file, and who has the old one keeps it whole.
const half = `${out}.${process.pid}`;
const result = spawnSync(compiler, [...how, ...flags, '-o', half, ...files, ...link], { encoding: 'utf8' });
if (result.status !== 0)
  finish(
    false,
    `${compiler} failed: ${result.stderr.split('\n').find((line) => line.includes('error')) ?? result.stderr.split('\n')[0]}`,
    'apt-get install gcc libc6-dev',
  );
if (result.stderr) process.stdout.write(result.stderr);
renameSync(half, out);
finish(true, '', '');
