#!/usr/bin/env node
/** The `espalier` command. Exit codes: 0 done, 1 failed while running, 2 could not be done as asked. */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { XskDevice } from '@espalier/af-xdp';
import { UdpDevice } from '@espalier/udp';
import { XfrmError } from '@espalier/xfrm';
import { loadConfig } from './config.ts';
import { openDevices } from './devices.ts';
import { describeEngine } from './engine.ts';
import { onEvents } from './events.ts';
import { Gateway } from './gateway.ts';
import { type MetricsServer, serveMetrics } from './metrics.ts';
import type { GatewayPlan } from './plan.ts';
import { capabilities, describeCapabilities } from './probe.ts';
import { successorsIn } from './reload.ts';
import { counters, status, summary } from './status.ts';

const USAGE = `usage: espalier run CONFIG [--check] [--stats SECONDS [--json]]
       espalier probe [--json]
       espalier --help | --version

run      a gateway from a YAML or JSON file, until SIGINT or SIGTERM; a second signal does not wait.
         SIGHUP reads the file again: SAs that say which one they replace come in its place. SIGUSR2 prints everything
         that is counted: slaves, SAs, drops
         --check    only read the file and say what is in it
         --stats    print counters every so many seconds, with --json all of them as a line of JSON
probe    what this machine can do, and why not`;

const FAILED = 1;
const REFUSED = 2;
const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

/** What a person asked for cannot be done: no stack, one sentence. */
class UsageError extends Error {}

async function main(): Promise<number> {
  const { values, positionals } = read();
  if (values.help) {
    say(USAGE);
    return 0;
  }
  if (values.version) {
    say(version());
    return 0;
  }
  const [command, ...rest] = positionals;
  if (command === 'probe' && rest.length === 0) {
    const list = capabilities();
    say(
      values.json ? JSON.stringify(Object.fromEntries(list.map((c) => [c.name, c.state]))) : describeCapabilities(list),
    );
    return 0;
  }
  if (command === 'run' && rest.length === 1) {
    const plan = loadConfig(rest[0]!);
    if (!values.check) return run(rest[0]!, plan, seconds(values.stats), values.json ?? false);
    say(summary(plan));
    return 0;
  }
  throw new UsageError(
    command === undefined ? 'expected a command' : `cannot make sense of "${positionals.join(' ')}"`,
  );
}

function read() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        help: { type: 'boolean', short: 'h' },
        version: { type: 'boolean', short: 'V' },
        check: { type: 'boolean' },
        json: { type: 'boolean' },
        stats: { type: 'string' },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function seconds(text: string | undefined): number {
  if (text === undefined) return 0;
  const value = Number(text);
  if (!(value > 0 && value <= 86_400)) throw new UsageError(`--stats takes seconds from 0 to 86400, got "${text}"`);
  return value;
}

function version(): string {
  // One folder above this file, as source and as built.
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

async function run(file: string, plan: GatewayPlan, every: number, json: boolean): Promise<number> {
  let end: (code: number) => void = () => undefined;
  const ended = new Promise<number>((resolve) => {
    end = resolve;
  });
  let signals = 0;
  const signalled = (signal: NodeJS.Signals): void => {
    // The first asks, the second insists: 130 and 143, as a shell counts signals.
    if (++signals > 1) process.exit(signal === 'SIGINT' ? 130 : 143);
    end(0);
  };
  process.on('SIGINT', signalled);
  process.on('SIGTERM', signalled);
  // From the first moment to the last: either would end the process by default.
  let running: Gateway | null = null;
  process.on('SIGHUP', () => {
    if (running === null) return;
    rekey(running, file, plan).catch((error: Error) => process.stderr.write(`espalier: ${sentence(error)}\n`));
  });
  process.on('SIGUSR2', () => {
    if (running !== null) say(status(running.stats()));
  });
  const devices = await openDevices(plan);
  const gateway = await Gateway.start({
    plan,
    ...devices,
    onFailure: (error) => {
      process.stderr.write(`espalier: ${sentence(error)}\n`);
      end(FAILED);
    },
  });
  let metrics: MetricsServer | null = null;
  try {
    if (plan.metricsPort !== undefined) metrics = await serveMetrics(plan.metricsPort, () => gateway.stats());
  } catch (error) {
    await gateway.stop();
    throw error;
  }
  const deafen = onEvents((event) => say(JSON.stringify(event)));
  running = gateway;
  const line = (): string => (json ? statsLine(gateway) : counters(gateway.stats()));
  const ticker = every > 0 ? setInterval(() => say(line()), every * 1000) : null;
  say(`running: ${summary(plan)}`);
  say(`engine: ${describeEngine(plan.engine)}`);
  for (const lower of devices.lowers)
    if (lower instanceof XskDevice || lower instanceof UdpDevice) say(`${lower.name}: ${lower.describe()}`);
  const code = await ended;
  if (ticker !== null) clearInterval(ticker);
  running = null;
  metrics?.close();
  deafen();
  const last = gateway.stats();
  await gateway.stop();
  say(`stopped: ${counters(last)}`);
  return code;
}

function statsLine(gateway: Gateway): string {
  return JSON.stringify({
    type: 'stats',
    gateway: gateway.bond.name,
    time: new Date().toISOString(),
    ...gateway.stats(),
  });
}

/** The file again: SAs that are new in it take the places of those that they name. */
async function rekey(gateway: Gateway, file: string, plan: GatewayPlan): Promise<void> {
  const next = loadConfig(file);
  const sas = successorsIn(plan, next, gateway.current);
  if (sas.length > 0) await gateway.rekey(sas, next.rekey);
}

function sentence(error: Error): string {
  return error instanceof XfrmError ? `${error.code}: ${error.message}` : (error.stack ?? error.message);
}

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    if (error instanceof UsageError) process.stderr.write(`espalier: ${error.message}\n${USAGE}\n`);
    else process.stderr.write(`espalier: ${sentence(error)}\n`);
    process.exit(error instanceof UsageError || error instanceof XfrmError ? REFUSED : FAILED);
  },
);
