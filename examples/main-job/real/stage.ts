/** The main job for real: namespaces, veth, TUN, AF_PACKET; gateways, streams and observer are processes of their own. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { GatewayStats } from 'espalier';
import { inner, LINKS, PAIRS } from '../plans.ts';
import { KEEP_BYTES, type Seen, type Side, type Stage, type StageOptions, type Traffic } from '../stage.ts';
import { iperf } from './iperf.ts';
import { Namespaces } from './namespaces.ts';
import { Remote } from './remote.ts';

/** Where the bundles lie; what is compiled and recorded lies beside them. */
const HERE = dirname(fileURLToPath(import.meta.url));
const WATCH_SOURCE = join(HERE, '..', '..', 'examples', 'main-job', 'real', 'watch.c');
/** Every so many frames one is sent again. */
const REPLAY_EVERY = '100';
const PING = ['-c', '10', '-i', '0.2', '-w', '5'];

/** Builds the observer with one compiler call; throws with what the compiler said. */
function compileWatch(): string {
  const program = join(HERE, 'watch');
  if (existsSync(program) && statSync(program).mtimeMs > statSync(WATCH_SOURCE).mtimeMs) return program;
  mkdirSync(HERE, { recursive: true });
  const compiled = spawnSync(process.env.CC || 'cc', ['-O2', '-o', program, WATCH_SOURCE], { encoding: 'utf8' });
  if (compiled.status !== 0) throw new Error(`watch.c: ${compiled.stderr}`);
  return program;
}

export class RealStage implements Stage {
  readonly traffic = 'kernel TCP';
  readonly observer: Stage['observer'];
  readonly #options: StageOptions;
  readonly #spaces: Namespaces;
  readonly #children: ChildProcess[] = [];
  readonly #remotes: Remote[] = [];
  readonly #recording: string = join(HERE, `recording-${process.pid}`);
  #watch!: ChildProcess;
  #watched = '';
  /** Who waits for the answer to an order, in their order. */
  readonly #ordered: { resolve(moved: number): void; reject(error: Error): void }[] = [];
  #client: ChildProcess | null = null;
  #traffic: Traffic = { sent: 0, outcome: null };
  #pinged: Promise<string | null> = Promise.resolve(null);
  #closing: Promise<void> | null = null;

  private constructor(options: StageOptions, spaces: Namespaces) {
    this.#options = options;
    this.#spaces = spaces;
    this.observer = {
      replay: async (on) => void (await this.#order(on ? 'r' : 'p')),
      follow: async (link) => void (await this.#order(link < 0 ? 'e' : String(link))),
      moved: () => this.#order('m'),
      keep: async () => void (await this.#order('k')),
      finish: () => this.#finishWatch(),
      recording: () => readFileSync(this.#recording),
    };
  }

  static async open(options: StageOptions): Promise<RealStage> {
    const stage = new RealStage(options, await Namespaces.create());
    try {
      stage.#spaces.link(LINKS);
      await Promise.all(([0, 1] as const).map((side) => stage.#startGateway(side)));
      await stage.#startWatch();
      return stage;
    } catch (error) {
      await stage.close();
      throw error;
    }
  }

  stats(side: Side): Promise<GatewayStats> {
    return this.#remotes[side]!.ask<GatewayStats>({ type: 'stats' });
  }

  withdraw(side: Side, sa: string, lower: number): Promise<void> {
    return this.#remotes[side]!.ask({ type: 'withdraw', sa, lower });
  }

  restore(side: Side, sa: string, lower: number): Promise<void> {
    return this.#remotes[side]!.ask({ type: 'restore', sa, lower });
  }

  rekey(side: Side): Promise<void> {
    return this.#remotes[side]!.ask({ type: 'rekey', sas: this.#options.successors[side] });
  }

  switchOver(side: Side): Promise<void> {
    return this.#remotes[side]!.ask({ type: 'switch' });
  }

  rekeyed(side: Side): Promise<void> {
    return this.#remotes[side]!.ask({ type: 'rekeyed' });
  }

  async cut(link: number): Promise<void> {
    this.#spaces.run(0, 'ip', 'link', 'set', `a${link}`, 'down');
  }

  async mend(link: number): Promise<void> {
    this.#spaces.run(0, 'ip', 'link', 'set', `a${link}`, 'up');
  }

  async start(bytes: number): Promise<void> {
    const ping = this.#run(0, ['ping', ...PING, '-I', inner(0, 1), inner(1, 1)], ['ignore', 'pipe', 'ignore']);
    let said = '';
    ping.stdout!.on('data', (d) => {
      said += d;
    });
    this.#pinged = new Promise((resolve) => ping.on('close', () => resolve(said === '' ? null : said)));
    const addresses = Array.from({ length: PAIRS }, (_, i) => inner(1, i));
    const traffic = [process.execPath, join(HERE, 'traffic.mjs')];
    const server = this.#run(1, [...traffic, 'server', ...addresses], ['ignore', 'inherit', 'inherit', 'ipc']);
    await new Promise<void>((resolve, reject) => {
      let listening = 0;
      server.on('message', () => ++listening === PAIRS && resolve());
      server.on('exit', () => reject(new Error('the receiver of the streams ended early')));
    });
    const each = String(Math.ceil(bytes / PAIRS));
    const marker = Buffer.from(this.#options.marker).toString('hex');
    const pairs = addresses.flatMap((to, i) => [inner(0, i), to]);
    const client = this.#run(
      0,
      [...traffic, 'client', each, marker, ...pairs],
      ['ignore', 'inherit', 'inherit', 'ipc'],
    );
    this.#client = client;
    const fail = (error: string): void => {
      this.#traffic = {
        ...this.#traffic,
        outcome: this.#traffic.outcome ?? { same: 0, bytes: this.#traffic.sent, error },
      };
    };
    client.on('message', ({ sent, same, error }: { sent?: number; same?: number; error?: string }) => {
      if (error !== undefined) fail(error);
      else this.#traffic = { sent: sent!, outcome: same === undefined ? null : { same, bytes: sent! } };
    });
    client.on('exit', () => fail('the sender of the streams ended early'));
  }

  progress(): Traffic {
    return this.#traffic;
  }

  release(): void {
    this.#tellClient('release');
  }

  finish(): void {
    this.#tellClient('finish');
  }

  async echoes(): Promise<{ answered: number; sent: number } | null> {
    const found = (await this.#pinged)?.match(/(\d+) packets transmitted, (\d+) received/);
    return found ? { sent: Number(found[1]), answered: Number(found[2]) } : null;
  }

  extra(): Promise<string | null> {
    return iperf(this.#spaces, this.#children);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #startGateway(side: Side): Promise<void> {
    const { plans, leaky } = this.#options;
    const child = this.#spaces.spawn(side, [process.execPath, join(HERE, 'gateway.mjs')], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      serialization: 'advanced',
    });
    this.#children.push(child);
    const remote = new Remote(child);
    this.#remotes[side] = remote;
    const workerFile = join(HERE, leaky ? 'leaky-worker.mjs' : 'worker.mjs');
    await remote.ask({ type: 'start', plan: plans[side], workerFile });
    const addresses = Array.from({ length: PAIRS }, (_, i) => `ip addr add ${inner(side, i)}/32 dev tun0`);
    this.#spaces.run(side, 'sh', '-ec', [...addresses, `ip route add 10.${2 - side}.0.0/24 dev tun0`].join('; '));
  }

  async #startWatch(): Promise<void> {
    const ends = Array.from({ length: LINKS }, (_, i) => [
      String(this.#spaces.pid(0)),
      `a${i}`,
      String(this.#spaces.pid(1)),
      `b${i}`,
    ]).flat();
    const { marker, leaky } = this.#options;
    const [program, args] = this.#spaces.wrap(0, [
      compileWatch(),
      Buffer.from(marker).toString('hex'),
      REPLAY_EVERY,
      this.#recording,
      String(KEEP_BYTES),
      leaky ? '1' : '0',
      ...ends,
    ]);
    this.#watch = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
    this.#children.push(this.#watch);
    this.#watch.stdin!.on('error', () => undefined);
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: this.#watch.stdout! }).on('line', (line) => {
        if (line === 'ready') resolve();
        else if (line.startsWith('{')) this.#watched = line;
        else this.#ordered.shift()?.resolve(Number(line));
      });
      this.#watch.on('close', () => {
        reject(new Error('the observer could not begin'));
        for (const order of this.#ordered) order.reject(new Error('the observer ended early'));
      });
    });
  }

  /** How many SAs have come up elsewhere, once the order is followed. */
  #order(letter: string): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#watch.exitCode !== null) reject(new Error('the observer ended early'));
      this.#ordered.push({ resolve, reject });
      this.#watch.stdin!.write(letter);
    });
  }

  async #finishWatch(): Promise<Seen> {
    const closed = new Promise((resolve) => this.#watch.on('close', resolve));
    this.#watch.stdin!.end();
    await closed;
    return JSON.parse(this.#watched) as Seen;
  }

  #run(side: Side, command: readonly string[], stdio: ('ignore' | 'inherit' | 'pipe' | 'ipc')[]): ChildProcess {
    const child = this.#spaces.spawn(side, command, { stdio });
    child.on('error', () => undefined);
    this.#children.push(child);
    return child;
  }

  #tellClient(word: string): void {
    if (this.#client?.connected) this.#client.send(word, () => undefined);
  }

  async #close(): Promise<void> {
    const nicely = Promise.all(this.#remotes.map((r) => r.ask({ type: 'stop' }).catch(() => undefined)));
    await Promise.race([nicely, new Promise((resolve) => setTimeout(resolve, 3000))]);
    const gone = this.#children.map((child) => {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return Promise.resolve();
      const exit = new Promise<void>((resolve) => child.on('exit', () => resolve()));
      child.kill('SIGKILL');
      return exit;
    });
    await Promise.all(gone);
    this.#spaces.close();
    const { rm } = await import('node:fs/promises');
    await rm(this.#recording, { force: true });
  }
}
