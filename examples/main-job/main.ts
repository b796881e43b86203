/** The main job: two gateways, two workers each, four links, real TCP and ICMP, cuts, replays and an observer. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { EngineName, GatewayStats } from 'espalier';
import type { Command } from './gateway.ts';
import { Namespaces, obstacle } from './namespaces.ts';
import { inner, LINKS, makePlans, PAIRS } from './plans.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const SOURCES = join(HERE, '..', '..', 'examples', 'main-job');
const { values: options } = parseArgs({
  options: {
    engine: { type: 'string', default: 'auto' },
    bytes: { type: 'string', default: String(200_000_000) },
    json: { type: 'string' },
  },
});
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

/** A gateway process and its questions. */
class Remote {
  readonly #child: ChildProcess;
  readonly #waiting: Map<number, { resolve(value: unknown): void; reject(error: Error): void }> = new Map();
  #next = 1;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (m: { id: number; result?: unknown; error?: string }) => {
      const waiter = this.#waiting.get(m.id);
      this.#waiting.delete(m.id);
      if (m.error === undefined) waiter?.resolve(m.result);
      else waiter?.reject(new Error(m.error));
    });
    child.on('exit', (code) => {
      for (const waiter of this.#waiting.values()) waiter.reject(new Error(`a gateway ended (${code})`));
    });
  }

  ask(command: Record<string, unknown> & { type: Command['type'] }): Promise<unknown> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ ...command, id });
    });
  }

  stats(): Promise<GatewayStats> {
    return this.ask({ type: 'stats' }) as Promise<GatewayStats>;
  }

  end(): void {
    if (this.#child.connected) this.#child.disconnect();
  }
}

interface Watched {
  frames: number;
  esp: number;
  plaintext: number;
  marked: number;
  replayed: number;
  replayFailed: number;
  lost: number;
}

const broken: string[] = [];
const promise = (holds: boolean, sentence: string): void => {
  if (!holds) broken.push(sentence);
};

async function main(): Promise<number> {
  const why = obstacle();
  if (why !== null) {
    say(`The main job needs namespaces, TUN and a compiler: ${why.reason}. To mend that: ${why.mend}.`);
    return 3;
  }
  const began = performance.now();
  const work = mkdtempSync(join(tmpdir(), 'espalier-'));
  const watcher = join(work, 'watch');
  const compiled = spawnSync('cc', ['-O2', '-o', watcher, join(SOURCES, 'watch.c')], { encoding: 'utf8' });
  if (compiled.status !== 0) throw new Error(`watch.c: ${compiled.stderr}`);
  const spaces = await Namespaces.create();
  const children: ChildProcess[] = [];
  const remotes: Remote[] = [];
  let interrupted = false;
  const stop = (): void => {
    interrupted = true;
    for (const child of children) child.kill('SIGKILL');
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  try {
    spaces.link(LINKS);
    const plans = makePlans(options.engine as EngineName);
    for (const side of [0, 1] as const) {
      const child = spaces.spawn(side, [process.execPath, join(HERE, 'gateway.mjs')], {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
        serialization: 'advanced',
      });
      children.push(child);
      remotes.push(new Remote(child));
      await remotes[side]!.ask({ type: 'start', plan: plans[side], workerFile: join(HERE, 'worker.mjs') });
      for (let pair = 0; pair < PAIRS; pair++)
        spaces.run(side, 'ip', 'addr', 'add', `${inner(side, pair)}/32`, 'dev', 'tun0');
      spaces.run(side, 'ip', 'route', 'add', `10.${2 - side}.0.0/24`, 'dev', 'tun0');
    }
    const [a, b] = remotes as [Remote, Remote];
    const marker = randomBytes(16);

    const ends = Array.from({ length: LINKS }, (_, i) => [
      String(spaces.pid(0)),
      `a${i}`,
      String(spaces.pid(1)),
      `b${i}`,
    ]).flat();
    const [watchProgram, watchArgs] = spaces.wrap(0, [watcher, marker.toString('hex'), '100', ...ends]);
    const watch = spawn(watchProgram, watchArgs, { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
    children.push(watch);
    let watched = '';
    watch.stdout.on('data', (d) => {
      watched += d;
    });
    while (!watched.includes('ready')) await sleep(10);

    const ping = spaces.spawn(0, ['ping', '-c', '10', '-i', '0.2', '-w', '10', '-I', inner(0, 0), inner(1, 0)], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let pinged = '';
    ping.stdout?.on('data', (d) => {
      pinged += d;
    });
    ping.on('error', () => {
      pinged = 'absent';
    });

    const addresses = Array.from({ length: PAIRS }, (_, i) => inner(1, i));
    const server = spaces.spawn(1, [process.execPath, join(HERE, 'traffic.mjs'), 'server', ...addresses], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    children.push(server);
    await new Promise<void>((resolve) => {
      let listening = 0;
      server.on('message', () => ++listening === PAIRS && resolve());
    });
    const each = Math.ceil(Number(options.bytes) / PAIRS);
    const pairs = addresses.flatMap((to, i) => [inner(0, i), to]);
    const client = spaces.spawn(
      0,
      [process.execPath, join(HERE, 'traffic.mjs'), 'client', String(each), marker.toString('hex'), ...pairs],
      { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
    );
    children.push(client);
    const started = performance.now();
    let sent = 0;
    let outcome: { same?: number; streams?: number; error?: string } | null = null;
    let finished = 0;
    client.on('message', (m: { sent?: number; same?: number; streams?: number; error?: string }) => {
      if (m.sent !== undefined) sent = m.sent;
      if (m.same !== undefined || m.error !== undefined) {
        outcome = m;
        finished = performance.now();
      }
    });
    client.on('exit', () => {
      outcome ??= { error: 'the sender ended early' };
    });

    let last = 0;
    const live = setInterval(() => {
      a.stats().then(
        (s) => {
          const rate = ((sent - last) * 8) / 1e9;
          last = sent;
          const drops = Object.entries(s.drops)
            .map(([n, c]) => `${n} ${c}`)
            .join(', ');
          const line = `${(sent / 1e6).toFixed(0)} MB, ${rate.toFixed(2)} Gb/s, sent per slave ${s.slaves.map((x) => x.sent).join(' ')}${drops ? `, drops: ${drops}` : ''}`;
          if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${line}`);
          else say(line);
        },
        () => undefined,
      );
    }, 1000);

    const total = each * PAIRS;
    const until = async (part: number): Promise<void> => {
      while (sent < total * part && outcome === null && !interrupted) await sleep(5);
    };
    // Some traffic first, then its shares.
    await until(0.15);
    const before = await a.stats();
    const shares = before.slaves.map((s) => s.sent);
    const sum = shares.reduce((x, y) => x + y, 0);

    // The busiest link is cut, for a while, with the replays resting: what is on the link then is lost for good.
    watch.stdin.write('p\n');
    await sleep(100);
    const busiest = shares.indexOf(Math.max(...shares));
    const moved = a.ask({ type: 'failover' }) as Promise<number>;
    await sleep(20);
    spaces.run(0, 'ip', 'link', 'set', `a${busiest}`, 'down');
    const cutAt = performance.timeOrigin + performance.now();
    const gap = Math.max(0, (await moved) - cutAt);
    await sleep(500);
    spaces.run(0, 'ip', 'link', 'set', `a${busiest}`, 'up');
    await sleep(300);
    watch.stdin.write('r\n');

    // One replica is withdrawn for 200 ms: what is hashed to its slave has no handle and goes nowhere.
    await until(0.5);
    const plain = (await a.stats()).drops.NO_LOWER_HANDLE ?? 0;
    for (let lower = 0; lower < LINKS; lower++)
      for (let pair = 0; pair < 1; pair++) await a.ask({ type: 'withdraw', sa: `out${pair}`, lower });
    await sleep(200);
    for (let lower = 0; lower < LINKS; lower++) await a.ask({ type: 'restore', sa: 'out0', lower });
    const refused = ((await a.stats()).drops.NO_LOWER_HANDLE ?? 0) - plain;

    while (outcome === null && !interrupted && performance.now() - started < 50_000) await sleep(20);
    clearInterval(live);
    if (process.stdout.isTTY) process.stdout.write('\r\x1b[K');
    if (interrupted) return 130;
    watch.stdin.write('p\n');
    await sleep(400);
    const [sa, sb] = [await a.stats(), await b.stats()];
    watch.stdin.end();
    await new Promise((resolve) => watch.on('close', resolve));
    const seen = JSON.parse(watched.slice(watched.indexOf('{'))) as Watched;
    const result = outcome as { same?: number; streams?: number; error?: string } | null;

    const seconds = ((finished || performance.now()) - started) / 1000;
    const replays = (sb.drops.REPLAYED ?? 0) + (sb.drops.STALE ?? 0);
    say(
      `engine ${options.engine}: ${(total / 1e6).toFixed(0)} MB over ${PAIRS} streams in ${seconds.toFixed(2)} s, ${((total * 8) / seconds / 1e9).toFixed(3)} Gb/s; SHA-256 equal on ${result?.same ?? 0} of ${PAIRS}${result?.error ? ` (${result.error})` : ''}`,
    );
    say('slave  handles    sealed      sent   clear    opened  no-handle  share before the cut');
    sa.slaves.forEach((s, i) => {
      say(
        `${s.name.padEnd(6)} ${String(s.replicas).padStart(7)} ${String(s.sealed).padStart(9)} ${String(s.sent).padStart(9)} ${String(s.clear).padStart(7)} ${String(s.opened).padStart(9)} ${String(s.noHandle).padStart(10)} ${((100 * shares[i]!) / sum).toFixed(1).padStart(8)} %`,
      );
    });
    say(`failover: ${gap.toFixed(1)} ms from the cut of ${sa.slaves[busiest]!.name} to traffic on the others`);
    say(`replica withdrawn: ${refused} packets refused with NO_LOWER_HANDLE`);
    say(`replays: ${seen.replayed} injected, ${replays} refused`);
    say(
      `observer: ${seen.frames} frames, ${seen.esp} ESP, ${seen.plaintext} plaintext, ${seen.marked} with the marker, ${seen.lost} not seen`,
    );
    const summary = pinged.match(/(\d+) packets transmitted, (\d+) received/);
    say(`ICMP: ${summary ? `${summary[2]} of ${summary[1]} echo replies` : 'no ping here'}`);
    for (const [name, s] of [
      ['A', sa],
      ['B', sb],
    ] as const)
      say(
        `drops at ${name}: ${
          Object.entries(s.drops)
            .map(([n, c]) => `${n} ${c}`)
            .join(', ') || 'none'
        }`,
      );

    promise(result?.same === PAIRS, 'every stream arrives whole');
    promise(seen.plaintext === 0 && seen.marked === 0, 'no plaintext on any link');
    promise(seen.lost === 0, 'the observer sees every frame');
    promise(replays === seen.replayed && seen.replayed > 0, 'replays refused equal those injected');
    promise(refused > 0, 'no handle, no packet');
    promise(
      sa.slaves.every((s) => s.sealed >= s.sent && s.clear === 0),
      'whatever was sent had been sealed',
    );
    promise(
      shares.every((s) => s >= 0.1 * sum),
      'each slave carries at least a tenth',
    );
    if (options.json)
      writeFileSync(
        options.json,
        JSON.stringify({ total, seconds, gap, refused, replays, seen, a: sa, b: sb, shares, broken }),
      );
    say(`done in ${((performance.now() - began) / 1000).toFixed(1)} s`);
    for (const sentence of broken) say(`BROKEN: ${sentence}`);
    return broken.length === 0 ? 0 : 1;
  } finally {
    await Promise.race([Promise.all(remotes.map((r) => r.ask({ type: 'stop' }).catch(() => undefined))), sleep(3000)]);
    for (const r of remotes) r.end();
    for (const child of children) child.kill('SIGKILL');
    spaces.close();
    rmSync(work, { recursive: true, force: true });
  }
}

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    say(`The main job failed: ${error.message}`);
    process.exit(1);
  },
);
