/** Workers use up one lifetime after the other, and some are killed: every packet, byte and event is counted. */
import { random } from '../../../../scripts/random.ts';
import { Lifetime, LifetimeEvent, type LifetimeOptions } from '../../src/index.ts';
import { BURST, type LifetimeJob, LONGEST, Record, Tally } from './job.ts';
import { killAmong, LANES, OPEN, ones, start, sum } from './threads.ts';

export interface LifetimeReport {
  /** Lifetimes that were used up, and those of them that two workers and more had a part in. */
  readonly rounds: number;
  readonly shared: number;
  /** Packets used. */
  readonly used: number;
  /** Lifetimes of which more was used than their hard limit. */
  readonly overshot: number;
  /** Events told more than once, or without their reason. */
  readonly twice: number;
  /** Events that were due and that nobody shows. */
  readonly untold: number;
  /** Grants beyond what was reserved, or after the end, and events before their time, as workers saw them. */
  readonly wrong: number;
  /** How many workers must have died for use to end where it did: 0 within the bound. */
  readonly buried: number;
  readonly killed: number;
  readonly seconds: number;
}

/** Limits in packets, in bytes, or in both; quotas from none to what is the default. */
function limitsOf(next: (below: number) => number): Required<LifetimeOptions> {
  const packets = 2000 + next(6000);
  const bytes = packets * (LONGEST >> 1);
  const kind = next(3);
  const hardPackets = kind === 1 ? Infinity : packets;
  const hardBytes = kind === 0 ? Infinity : bytes;
  return {
    ...{ hardPackets, softPackets: hardPackets - next(packets >> 1), quotaPackets: next(65) },
    ...{ hardBytes, softBytes: hardBytes - next(bytes >> 1), quotaBytes: next(4001) },
  } as Required<LifetimeOptions>;
}

/** How many dead workers it takes to explain that `used` of `hard` were used: each takes a burst and a quota with it. */
function dead(used: number, hard: number, bound: number, burst: number): number {
  return hard === Infinity ? Infinity : Math.max(0, Math.ceil((hard - used - bound) / burst));
}

export async function raceLifetime(
  what: 'shipped' | 'naive',
  rounds: number,
  workers: number,
  kills = 0,
  seed = 1,
): Promise<LifetimeReport> {
  const began = performance.now();
  const next = random(seed);
  const lanes = kills > 0 ? LANES : 0;
  const size = Lifetime.byteLength();
  const memory = new SharedArrayBuffer(rounds * size);
  const limits = Array.from({ length: rounds }, () => limitsOf(next));
  for (const [r, limit] of limits.entries()) Lifetime.create({ ...limit, memory, offset: r * size });
  const places = new SharedArrayBuffer((workers + lanes) * 64);
  const tally = new SharedArrayBuffer((workers + lanes) * 64);
  const record = new SharedArrayBuffer(rounds * Record.WORDS * 4);
  const gate = { come: new SharedArrayBuffer(4), all: workers };
  const job = (worker: number, victim: boolean, salt = 0): LifetimeJob => ({
    ...{ kind: 'lifetime', what, memory, rounds, worker, workers, victim, places, tally, record },
    ...{ seed: seed + 1 + salt, pause: kills > 0 ? 1 : 0, gate: victim ? OPEN : gate },
  });
  const all = Array.from({ length: workers }, (_, w) => start(job(w, false)));
  const killed = kills > 0 ? await killAmong(places, workers, kills, (l, salt) => job(workers + l, true, salt)) : 0;
  await Promise.all(all.map(({ gone }) => gone));

  const words = new Int32Array(record);
  const report = { rounds: 0, shared: 0, used: 0, overshot: 0, twice: 0, untold: 0, buried: 0 };
  for (const [r, limit] of limits.entries()) {
    const of = (field: number): number => words[r * Record.WORDS + field]!;
    const [packets, bytes] = [of(Record.PACKETS), of(Record.BYTES)];
    if (packets === 0) break;
    report.rounds++;
    report.used += packets;
    if (ones(of(Record.WHO)) > 1) report.shared++;
    if (packets > limit.hardPackets || bytes > limit.hardBytes) report.overshot++;
    // At the end both events are due, but for a soft limit that the other's hard one has forestalled.
    const life = Lifetime.attach(memory, r * size);
    const soft = life.packets() >= limit.softPackets || life.bytes() >= limit.softBytes;
    const due = life.events();
    const softs = of(Record.SOFTS) + ((due & LifetimeEvent.SOFT) !== 0 ? 1 : 0);
    const hards = of(Record.HARDS) + ((due & LifetimeEvent.HARD) !== 0 ? 1 : 0);
    if (softs > (soft ? 1 : 0)) report.twice++;
    if (hards > 1) report.twice++;
    if (soft && softs === 0) report.untold++;
    if (hards === 0) report.untold++;
    const all = workers + lanes;
    const { quotaPackets, quotaBytes } = limit;
    report.buried += Math.min(
      dead(packets, limit.hardPackets, all * quotaPackets, BURST + quotaPackets),
      dead(bytes, limit.hardBytes, all * quotaBytes + LONGEST - 1, BURST * LONGEST + quotaBytes),
    );
  }
  return { ...report, wrong: sum(tally, Tally.WRONG), killed, seconds: (performance.now() - began) / 1000 };
}
