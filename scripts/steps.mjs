// Steps of a check: each says how it went, and the end says how all did.
import { spawn } from 'node:child_process';

const NETWORK = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ERR_SOCKET_TIMEOUT|ENETUNREACH|network/i;

let passed = 0;
let failed = 0;
let skipped = 0;

export const say = (text) => process.stdout.write(`${text}\n`);

/** Runs a command; resolves to its output or rejects with it, and says so when it was the network that failed. */
export function run(command, args, { cwd = '.', seconds = 120, env = {} } = {}) {
  return new Promise((done, reject) => {
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (d) => {
        output += d;
      });
    const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
    child.on('error', (error) => reject(new Error(`${command}: ${error.message}`)));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) return done(output);
      const what = `${command} ${args.join(' ')}`;
      if (/^(npx|npm)$/.test(command) && NETWORK.test(output))
        return reject(new Error(`the npm registry could not be reached, so this was not checked: ${what}\n${output}`));
      reject(new Error(`${what}: ${signal ? `killed after ${seconds} s` : `exit code ${code}`}\n${output.trimEnd()}`));
    });
  });
}

/** Path of a Node of this version, from npm. */
export async function nodeOf(version) {
  return (await run('npx', ['-y', '-p', `node@${version}`, 'node', '-p', 'process.execPath'])).trim();
}

/** Runs a step and says how it went; steps that depend on it look at what it returns. */
export async function step(name, work) {
  const began = performance.now();
  try {
    const note = await work();
    passed++;
    say(
      `ok      ${name}${typeof note === 'string' ? `: ${note}` : ''} (${((performance.now() - began) / 1000).toFixed(1)} s)`,
    );
    return true;
  } catch (error) {
    failed++;
    say(`FAILED  ${name}\n${error.message.replace(/^/gm, '        ')}`);
    return false;
  }
}

export function skip(name, reason) {
  skipped++;
  say(`skipped ${name}: ${reason}`);
}

/** Two at a time. */
export async function each(items, work) {
  const queue = [...items];
  await Promise.all(
    [0, 1].map(async () => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
    }),
  );
}

/** Says how many passed and ends the process: 1 when a step failed. */
export function end() {
  say(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  process.exit(failed === 0 ? 0 : 1);
}
