// Compiles the addon with one compiler call and headers from npm; never throws on a machine that cannot.
// Leaves build/status.json: why the addon is absent and what would mend it.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, 'build', 'espalier.node');
const sources = readdirSync(join(here, 'c')).map((f) => join(here, 'c', f));
const compiler = process.env.CC || 'cc';

function finish(ok, reason, mend) {
  mkdirSync(join(here, 'build'), { recursive: true });
  writeFileSync(join(here, 'build', 'status.json'), JSON.stringify({ ok, reason, mend }));
  if (!ok) process.stdout.write(`The native addon is absent: ${reason}. To mend that: ${mend}\n`);
  process.exit(0);
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
mkdirSync(dirname(out), { recursive: true });
const flags = ['-O2', '-shared', '-fPIC', '-std=gnu11', '-Wall', '-Wextra', '-fvisibility=hidden', '-Wl,-z,nodelete', `-I${headers}`];
const result = spawnSync(
  compiler,
  [...flags, '-o', out, ...sources.filter((s) => s.endsWith('.c')), '-ldl', '-lpthread'],
  {
    encoding: 'utf8',
  },
);
if (result.status !== 0)
  finish(false, `${compiler} failed: ${result.stderr.split('\n')[0]}`, 'apt-get install gcc libc6-dev');
if (result.stderr) process.stdout.write(result.stderr);
finish(true, '', '');
