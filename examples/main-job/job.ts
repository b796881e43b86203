/** The course of the main job: traffic, a cut, a withdrawal, replays; what came of it is one JobResult. */
import type { GatewayStats } from 'espalier';
import { LINKS, slaveOf } from './plans.ts';
import type { Seen, Side, Stage, StageOptions, Traffic } from './stage.ts';

/** Everything the report and its promises are made from. */
export interface JobResult {
  readonly bytes: number;
  readonly seconds: number;
  readonly outcome: NonNullable<Traffic['outcome']>;
  /** Packets sent per slave of A before the cut, and bytes per second until then. */
  readonly before: { readonly shares: readonly number[]; readonly rate: number };
  readonly cut: number;
  /** Packets refused for want of a handle while one replica was away. */
  readonly withdrawn: { readonly sa: string; readonly slave: string; readonly refused: number; readonly ms: number };
  /** Every SA of both sides replaced under traffic; milliseconds, packets by the new SAs, and packets that met no SA or handle meanwhile. */
  readonly rekeyed: {
    readonly installed: number;
    readonly switched: number;
    readonly gone: number;
    readonly packets: number;
    readonly lost: number;
  };
  readonly seen: Seen;
  readonly sides: readonly [GatewayStats, GatewayStats];
  readonly echoes: { readonly answered: number; readonly sent: number } | null;
  readonly extra: string | null;
}

/** Raised inside a job that somebody ended. */
export class Interrupted extends Error {}

const CUT_MS = 500;
const CUT_MOST_MS = 5000;
const WITHDRAWN_MS = 200;
const WITHDRAWN_MOST_MS = 5000;
/** Frames under way have arrived after this long. */
const QUIET_MS = 150;
const LIMIT_MS = 45_000;
const WITHDRAWN_PAIR = 0;
/** Packets of a worker's burst, at most. */
const BURST_MOST = 64;
/** What every slave carries before the cut, at least. */
export const LEAST_SHARE = 0.1;
/** How long the streams may take to get there: what is written may lie in a socket's buffer yet. */
const EVEN_MOST_MS = 8000;
/** Frames that have leaked when the self-test has seen enough, and how long it waits for them. */
const LEAKS = 16;
const SELF_TEST_MS = 3000;

export async function runJob(
  stage: Stage,
  options: StageOptions,
  bytes: number,
  signal: AbortSignal,
  live: (line: string | null) => void,
): Promise<JobResult> {
  const began = performance.now();
  const sleep = async (ms: number): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, ms));
    if (signal.aborted) throw new Interrupted();
    if (performance.now() - began > LIMIT_MS) throw new Error(`not done after ${LIMIT_MS / 1000} s`);
  };
  const until = async (there: () => boolean | Promise<boolean>): Promise<void> => {
    while (!(await there())) await sleep(5);
  };
  const passed = (part: number) => (): boolean =>
    stage.progress().sent >= bytes * part || stage.progress().outcome !== null;

  await stage.start(bytes);
  const started = performance.now();
  const stopLive = watchProgress(stage, live);
  try {
    // Streams abreast: what each slave carries is what the hash gives it.
    await until(passed(0.2));
    let early = await stage.stats(0);
    let shares = early.slaves.map((s) => s.sent);
    // On a busy machine some streams begin late: the hash shows once all of them run.
    await until(async () => {
      early = await stage.stats(0);
      shares = early.slaves.map((s) => s.sent);
      const total = shares.reduce((sum, n) => sum + n, 0);
      return shares.every((n) => n >= LEAST_SHARE * total) || performance.now() - started > EVEN_MOST_MS;
    });
    const rate = (stage.progress().sent / (performance.now() - started)) * 1000;
    stage.release();

    // The replays rest meanwhile: a copy of a frame that the cut loses would be no replay.
    await stage.observer.replay(false);
    await sleep(QUIET_MS);
    const cut = shares.indexOf(Math.max(...shares));
    await stage.observer.keep();
    await stage.observer.follow(cut);
    await stage.cut(cut);
    const gone = performance.now();
    await sleep(CUT_MS);
    // A stream that lost its last packets goes on when its sender's timer ends.
    await until(async () => (await stage.observer.moved()) > 0 || performance.now() - gone > CUT_MOST_MS);
    await stage.observer.follow(-1);
    await stage.mend(cut);
    await until(async () => (await stage.stats(0)).slaves.every((s) => s.usable));
    await until(async () => (await stage.stats(1)).slaves.every((s) => s.usable));
    await sleep(QUIET_MS);
    await stage.observer.replay(true);

    // One replica is withdrawn: its SA is hashed to that slave still, has no handle there, and goes nowhere.
    await until(passed(0.5));
    const sa = options.plans[0].sas.find((s) => s.name === `out${WITHDRAWN_PAIR}`)!;
    const slave = slaveOf(0, sa.spi) % LINKS;
    await stage.observer.keep();
    const refused = async (): Promise<number> => (await stage.stats(0)).drops.NO_LOWER_HANDLE ?? 0;
    const plain = await refused();
    await stage.withdraw(0, sa.name, slave);
    const away = performance.now();
    await sleep(WITHDRAWN_MS);
    // A stream that rests after the cut has not met it yet.
    await until(async () => (await refused()) > plain || performance.now() - away > WITHDRAWN_MOST_MS);
    const ms = performance.now() - away;
    await stage.restore(0, sa.name, slave);
    // A worker may be in the middle of a burst that still knows of no replica: once more have gone out it counts no more.
    const sent = async (): Promise<number> => (await stage.stats(0)).sas.find(({ name }) => name === sa.name)!.packets;
    const restored = await sent();
    await until(async () => (await sent()) > restored + BURST_MOST);
    const withdrawn = { sa: sa.name, slave: early.slaves[slave]!.name, refused: (await refused()) - plain, ms };

    const rekeyed = await rekeyAll(stage, until);

    // Time for the replays of what comes after, then the end.
    await sleep(QUIET_MS);
    stage.finish();
    await until(() => stage.progress().outcome !== null);
    const seconds = (performance.now() - started) / 1000;
    stopLive();
    const outcome = stage.progress().outcome!;
    const extra = await stage.extra();
    const echoes = await stage.echoes();
    await stage.observer.replay(false);
    await sleep(2 * QUIET_MS);
    const sides = [await stage.stats(0), await stage.stats(1)] as const;
    const seen = await stage.observer.finish();
    return {
      bytes: outcome.bytes,
      seconds,
      outcome,
      before: { shares, rate },
      cut,
      withdrawn,
      rekeyed,
      seen,
      sides,
      echoes,
      extra,
    };
  } finally {
    stopLive();
  }
}

/** Make before break, on both sides: the new SAs in, then the switch, then the old ones out; the streams go on meanwhile. */
async function rekeyAll(
  stage: Stage,
  until: (there: () => boolean | Promise<boolean>) => Promise<void>,
): Promise<JobResult['rekeyed']> {
  const both = (act: (side: Side) => Promise<void>): Promise<unknown> => Promise.all([act(0), act(1)]);
  const homeless = async (): Promise<number> => {
    const drops = await Promise.all([stage.stats(0), stage.stats(1)]);
    return drops.reduce((sum, s) => sum + (s.drops.NO_STATE ?? 0) + (s.drops.NO_LOWER_HANDLE ?? 0), 0);
  };
  const before = await homeless();
  const times = [performance.now()];
  const lap = (): number => times.push(performance.now());
  await stage.observer.keep();
  await both((side) => stage.rekey(side));
  lap();
  await both((side) => stage.switchOver(side));
  lap();
  let gone = false;
  const old = both((side) => stage.rekeyed(side)).then(() => {
    gone = true;
  });
  // Whatever goes wrong is thrown below.
  old.catch(() => {
    gone = true;
  });
  await until(() => gone);
  await old;
  lap();
  const sas = (await stage.stats(0)).sas.filter((sa) => sa.direction === 'out');
  const packets = sas.reduce((sum, sa) => sum + sa.packets, 0);
  const [installed, switched, ended] = times.slice(1).map((t, i) => t - times[i]!) as [number, number, number];
  return { installed, switched, gone: ended, packets, lost: (await homeless()) - before };
}

/** A line a second: throughput, packets per slave, drops by reason. */
function watchProgress(stage: Stage, live: (line: string | null) => void): () => void {
  let last = 0;
  const timer = setInterval(() => {
    stage.stats(0).then(
      ({ slaves, drops }) => {
        const { sent } = stage.progress();
        const rate = ((sent - last) * 8) / 1e9;
        last = sent;
        const lost = Object.entries(drops).map(([name, count]) => `${name} ${count}`);
        const each = slaves.map((s) => `${s.name} ${s.sent}`).join('  ');
        if (!stopped)
          live(`${(sent / 1e6).toFixed(0)} MB  ${rate.toFixed(2)} Gb/s  ${each}  drops: ${lost.join(', ') || 'none'}`);
      },
      () => undefined,
    );
  }, 1000);
  let stopped = false;
  return () => {
    stopped = true;
    clearInterval(timer);
    live(null);
  };
}

/** Whether the observer sees what leaking lowers let out: the proof that its zero means something. */
export async function selfTest(stage: Stage, signal: AbortSignal): Promise<Seen> {
  await stage.start(1 << 30);
  const began = performance.now();
  const leaked = async (): Promise<number> => (await stage.stats(0)).slaves.reduce((sum, s) => sum + s.clear, 0);
  while ((await leaked()) < LEAKS && performance.now() - began < SELF_TEST_MS && !signal.aborted)
    await new Promise((resolve) => setTimeout(resolve, 20));
  await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
  if (signal.aborted) throw new Interrupted();
  return stage.observer.finish();
}
