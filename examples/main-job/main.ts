/**
 * The main job: two gateways, two workers each, four links, real streams, a cut, a withdrawal, replays and an observer.
 * Exit codes: 0 every promise held, 1 one broke or the job failed, 2 it was asked for in a way it does not know, 130 and 143
 * it was ended.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { dirname, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { describeEngine, ENGINE_NAMES, type EngineName } from 'espalier';
import { Interrupted, runJob, selfTest } from './job.ts';
import { MockStage } from './mock/stage.ts';
import { kernelCould, obstacle } from './obstacle.ts';
import { makePlans } from './plans.ts';
import { RealStage } from './real/stage.ts';
import { writeFiles } from './recording.ts';
import { broken, reportLines, selfTestHolds, selfTestLine } from './report.ts';
import type { Stage, StageOptions } from './stage.ts';

const USAGE = `usage: npm start -- [--engine ${ENGINE_NAMES.join('|')}] [--bytes N] [--mock] [--json FILE]`;
const HERE = dirname(fileURLToPath(import.meta.url));
const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

interface Options {
  readonly engine: EngineName;
  readonly bytes: number;
  readonly mock: boolean;
  readonly json: string | undefined;
}

function read(): Options | null {
  try {
    const { values } = parseArgs({
      options: {
        engine: { type: 'string', default: 'auto' },
        bytes: { type: 'string', default: '200000000' },
        mock: { type: 'boolean', default: false },
        json: { type: 'string' },
      },
    });
    const bytes = Number(values.bytes);
    const engine = ENGINE_NAMES.find((name) => name === values.engine);
    if (engine === undefined) throw new Error(`no engine "${values.engine}"`);
    if (!(bytes >= 1_000_000 && bytes <= 1e11)) throw new Error('--bytes takes a number from 1000000 to 1e11');
    return { engine, bytes, mock: values.mock, json: values.json };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n${USAGE}\n`);
    return null;
  }
}

/** Whether the job plays on the mock wire; says why. A CI machine that could do better fails instead. */
function onMock(forced: boolean): boolean | 'refused' {
  if (forced) {
    say('On the mock wire, as --mock asks; without it the job runs on real links where it can.');
    return true;
  }
  const why = obstacle();
  if (why === null) return false;
  say(`On the mock wire, because ${why.reason}; for real links: ${why.mend}.`);
  if (process.env.CI !== 'true' || !kernelCould()) return true;
  say('BROKEN: CI=true, and the kernel here could run the real thing');
  return 'refused';
}

/** A line that replaces itself on a terminal. */
function live(line: string | null): void {
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${line ?? ''}`);
  else if (line !== null) say(line);
}

async function play<T>(mock: boolean, options: StageOptions, act: (stage: Stage) => Promise<T>): Promise<T> {
  const stage = mock ? await MockStage.open(options) : await RealStage.open(options);
  stages.add(stage);
  try {
    return await act(stage);
  } finally {
    await stage.close();
    stages.delete(stage);
  }
}

const stages: Set<Stage> = new Set();
const ending = new AbortController();

async function main(): Promise<number> {
  const options = read();
  if (options === null) return 2;
  const began = performance.now();
  const { engine, bytes, json } = options;
  const name = describeEngine(engine);
  const mock = onMock(options.mock);
  if (mock === 'refused') return 1;
  const { plans, successors } = makePlans(engine, mock ? 'mock' : 'real');
  const marker = new Uint8Array(randomBytes(16));

  const leaked = await play(mock, { plans, successors, engine, marker, leaky: true }, (stage) =>
    selfTest(stage, ending.signal),
  );
  say(selfTestLine(leaked));
  const job = { plans, successors, engine, marker, leaky: false };
  const { result, files, traffic } = await play(mock, job, async (stage) => {
    const result = await runJob(stage, job, bytes, ending.signal, live);
    return {
      result,
      files: writeFiles(HERE, stage.observer.recording(), [...plans[0].sas, ...successors[0]]),
      traffic: stage.traffic,
    };
  });
  for (const line of reportLines(name, traffic, result)) say(line);
  const here = (file: string): string => relative(process.cwd(), file);
  say(
    `capture: ${here(files.capture)}, ${files.frames} frames, ${(files.captureBytes / 2 ** 20).toFixed(1)} MiB; keys of this run: ${here(files.keys)}`,
  );
  say(
    `  to read it: copy the keys to ~/.config/wireshark/esp_sa and open it with "Attempt to detect/decode encrypted ESP`,
  );
  say(
    `  payloads" on; or WIRESHARK_CONFIG_DIR=${here(HERE)} tshark -o esp.enable_encryption_decode:TRUE -r ${here(files.capture)}`,
  );
  const sentences = broken(result);
  if (!selfTestHolds(leaked)) sentences.push('the observer sees what leaking lowers let out');
  if (json !== undefined)
    writeFileSync(json, JSON.stringify({ engine: name, mock, ...result, leaked, broken: sentences }));
  for (const sentence of sentences) say(`BROKEN: ${sentence}`);
  say(
    `${sentences.length === 0 ? 'every promise held' : `${sentences.length} broken`}; ${((performance.now() - began) / 1000).toFixed(1)} s`,
  );
  return sentences.length === 0 ? 0 : 1;
}

let exitCode = 0;
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)
  process.on(signal, () => {
    // npm and a terminal may both deliver it: once is enough.
    if (exitCode !== 0) return;
    exitCode = code;
    ending.abort();
    Promise.all([...stages].map((stage) => stage.close())).finally(() => process.exit(code));
  });

main().then(
  (code) => {
    if (exitCode === 0) process.exit(code);
  },
  (error: Error) => {
    if (error instanceof Interrupted || exitCode !== 0) return;
    say(`The main job failed: ${error.message}`);
    process.exit(1);
  },
);
