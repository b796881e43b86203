import { random } from '../../../../scripts/random.ts';
import { Lifetime, LifetimeEvent } from '../../src/index.ts';
import { Column } from '../../src/layout.ts';
import { NaiveLifetime } from '../naive-lifetime.ts';
import { BURST, type LifetimeJob, LONGEST, Record, STOP, Tally } from './job.ts';
import { awaitOthers, furthest } from './places.ts';

const ROWS = 4096;

/**
 * Uses one lifetime after the other up, in bursts of 1 to 32 packets, together with all others. What it is granted it uses
 * at once: it adds it to the round's record. A victim goes to the round where the others are.
 */
export function use(job: LifetimeJob): void {
  const { memory, what, rounds, worker, workers, victim } = job;
  const places = new Int32Array(job.places);
  const record = new Int32Array(job.record);
  const tally = new Float64Array(job.tally, worker * 64, 8);
  const next = random(job.seed + worker * 7919);
  const rows = new Int32Array(ROWS * Column.WORDS);
  for (let i = 0; i < ROWS; i++) rows[i * Column.WORDS + Column.END] = 40 + next(LONGEST - 39);
  const list = Int32Array.from({ length: ROWS }, (_, i) => i);

  for (let round = 0; round < rounds; round++) {
    if (victim) round = furthest(places, workers);
    else {
      // All begin a round together, so that they also end it together.
      Atomics.store(places, worker * 16, round);
      if (job.pause > 0 && round % 4 === 0) Atomics.wait(places, worker * 16 + 1, 0, job.pause);
      awaitOthers(places, worker, workers, round - 1);
    }
    const at = round * Record.WORDS;
    const life = (what === 'naive' ? NaiveLifetime : Lifetime).attach(memory, round * Lifetime.byteLength());
    for (;;) {
      const length = 1 + next(BURST);
      const from = next(ROWS - length);
      const over = life.spent();
      const granted = life.grant(rows, list, from, from + length);
      if (granted > 0) {
        let bytes = 0;
        for (let i = from; i < from + granted; i++) bytes += rows[i * Column.WORDS + Column.END]!;
        const packets = Atomics.add(record, at + Record.PACKETS, granted) + granted;
        const all = Atomics.add(record, at + Record.BYTES, bytes) + bytes;
        Atomics.or(record, at + Record.WHO, 1 << worker);
        // Nothing is used that was not reserved before, and nothing after the end.
        if (packets > life.packets() || all > life.bytes() || over) tally[Tally.WRONG]!++;
      }
      const events = life.events();
      if ((events & LifetimeEvent.SOFT) !== 0) {
        Atomics.add(record, at + Record.SOFTS, 1);
        if (life.packets() < life.softPackets && life.bytes() < life.softBytes) tally[Tally.WRONG]!++;
      }
      if ((events & LifetimeEvent.HARD) !== 0) {
        Atomics.add(record, at + Record.HARDS, 1);
        if (!life.spent()) tally[Tally.WRONG]!++;
      }
      tally[Tally.OFFERED] = tally[Tally.OFFERED]! + length;
      if (granted < length) break;
    }
    if (!victim && Atomics.load(places, STOP) === 1) return;
  }
}
