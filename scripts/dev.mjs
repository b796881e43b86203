// The two commands: `npm start` runs the main job, `npm test` the tests. Plain JavaScript, nothing beyond Node.
// Installs what is missing, compiles the addon where there is a compiler, then does the job, and says what it did not do.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const PNPM = '12.21.0';
const [job = 'help', ...args] = process.argv.slice(2);
process.chdir(ROOT);

const say = (text) => process.stdout.write(`${text}\n`);

/** Runs a command with its output shown only when it fails; prints a dot a second so that nobody wonders. */
async function quietly(title, command, commandArgs, env = {}) {
  const began = Date.now();
  let output = '';
  const child = spawn(command, commandArgs, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.on('data', (d) => {
    output += d;
  });
  child.stderr.on('data', (d) => {
    output += d;
  });
  process.stdout.write(`${title} `);
  const ticker = setInterval(() => process.stdout.write('.'), 1000);
  const code = await new Promise((resolve) => {
    child.on('error', (error) => {
      output += error.message;
      resolve(127);
    });
    child.on('close', resolve);
  });
  clearInterval(ticker);
  say(code === 0 ? ` done in ${((Date.now() - began) / 1000).toFixed(1)} s` : ` failed (${code})`);
  if (code !== 0) say(output.trimEnd());
  return code ?? 1;
}

/** Runs a command in the foreground, passing signals on; resolves to its exit code. */
function foreground(command, commandArgs, env = {}) {
  const child = spawn(command, commandArgs, { env: { ...process.env, ...env }, stdio: 'inherit' });
  const pass = (signal) => child.kill(signal);
  process.on('SIGINT', pass);
  process.on('SIGTERM', pass);
  return new Promise((resolve) => {
    child.on('error', () => resolve(127));
    child.on('close', (code, signal) => resolve(code ?? (signal ? 130 : 1)));
  });
}

async function install() {
  const stampFile = join(ROOT, 'node_modules', '.espalier-stamp');
  const stamp = createHash('sha256').update(readFileSync('pnpm-lock.yaml')).update(process.version).digest('hex');
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return;
  const code = await quietly('Installing dependencies', 'npx', ['-y', `pnpm@${PNPM}`, 'install', '--frozen-lockfile']);
  if (code !== 0) {
    say('The dependencies could not be installed: is the npm registry reachable, and this folder writable?');
    process.exit(1);
  }
  writeFileSync(stampFile, stamp);
}

/** Compiles the addon; a machine without a compiler runs everything that does not need it. */
async function addon() {
  if (!existsSync('packages/native/build.mjs')) return;
  const result = spawnSync(process.execPath, ['packages/native/build.mjs'], { encoding: 'utf8' });
  const text = `${result.stdout}${result.stderr}`.trim();
  if (text) say(text);
}

/** Bundles TypeScript from source; name of the output -> entry. */
async function bundle(outdir, entryPoints) {
  const { buildSync } = await import('esbuild');
  mkdirSync(outdir, { recursive: true });
  buildSync({
    entryPoints,
    outdir,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    conditions: ['@espalier/source'],
    sourcemap: 'inline',
    logLevel: 'warning',
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
  });
}

const WORKER = 'packages/gateway/src/worker.ts';
const MAIN_JOB = {
  main: 'examples/main-job/main.ts',
  worker: WORKER,
  'leaky-worker': 'examples/main-job/leaky-worker.ts',
  gateway: 'examples/main-job/real/gateway.ts',
  traffic: 'examples/main-job/real/traffic.ts',
  'mock-host': 'examples/main-job/mock/host.ts',
  'mock-observer': 'examples/main-job/mock/observer.ts',
};
const COMMAND = { cli: 'packages/gateway/src/cli.ts', worker: WORKER };
const ADDON = { ESPALIER_ADDON: join(ROOT, 'packages/native/build/espalier.node') };

const major = Number(process.versions.node.split('.')[0]);
if (major < 20) {
  say(`espalier needs Node 20.19 or later; this is ${process.version}.`);
  process.exit(1);
}

switch (job) {
  case 'start': {
    await install();
    await addon();
    await bundle('build/main-job', MAIN_JOB);
    process.exit(await foreground(process.execPath, ['build/main-job/main.mjs', ...args], ADDON));
    break;
  }
  case 'espalier': {
    await install();
    await addon();
    await bundle('packages/gateway/build', COMMAND);
    process.exit(await foreground(process.execPath, ['packages/gateway/build/cli.mjs', ...args], ADDON));
    break;
  }
  case 'test': {
    await install();
    await addon();
    process.exit(await foreground(process.execPath, ['scripts/run-tests.mjs', ...args]));
    break;
  }
  case 'bench':
  case 'model': {
    await install();
    await addon();
    process.exit(await foreground(process.execPath, [`scripts/${job}.mjs`, ...args]));
    break;
  }
  default:
    say('usage: node scripts/dev.mjs start | test | bench | model | espalier');
    process.exit(2);
}
