import { random } from '../../../../scripts/random.ts';
import { ReplayWindow } from '../../src/index.ts';
import { Column } from '../../src/layout.ts';
import { Naive6479 } from '../naive-6479.ts';
import { ICV } from '../rows.ts';
import { BURST, STOP, Tally, type WindowJob } from './job.ts';
import { awaitOthers, ENDED, furthest } from './places.ts';

const { WORDS, SEQ_LO, SEQ_HI, FATE } = Column;
const TWO_32 = 2 ** 32;

/**
 * Offers numbers first + 1 .. first + count in order, each stretch of 64 shuffled, and marks what is accepted in a bitmap
 * of its own. All workers offer the same numbers; who gets ahead waits a little, so that they race for them. A victim
 * does not go through all: it stays where the others are, and its first burst is as good a moment to die as its last.
 */
export function offer(job: WindowJob): void {
  const { memory, size, first, count, worker, workers, what, victim } = job;
  const window = what === 'naive' ? new Naive6479(memory, size) : ReplayWindow.attach(memory, 0, worker);
  const places = new Int32Array(job.places);
  const accepted = new Int32Array(job.accepted);
  const tally = new Float64Array(job.tally, worker * 64, 8);
  const rows = new Int32Array(BURST * WORDS);
  const list = Int32Array.from({ length: BURST }, (_, i) => i);
  const offsets = new Int32Array(BURST);
  const before = tally[Tally.FAILURES]!;
  const next = random(job.seed + worker * 7919);
  const pattern = new Int32Array(64 * 64);
  for (let p = 0; p < 64; p++) {
    for (let i = 0; i < 64; i++) pattern[p * 64 + i] = i;
    for (let i = 63; i > 0; i--) {
      const j = next(i + 1);
      const kept = pattern[p * 64 + i]!;
      pattern[p * 64 + i] = pattern[p * 64 + j]!;
      pattern[p * 64 + j] = kept;
    }
  }
  const stretches = count / 64;
  let other = 0;
  for (let stretch = 0; stretch < stretches; stretch++) {
    if (victim) {
      stretch = Math.min(stretches - 1, Math.max(0, furthest(places, workers) + next(8) - 4));
    } else {
      other = awaitOthers(places, worker, workers, stretch - 8);
      Atomics.store(places, worker * 16, stretch);
      if (job.pause > 0 && stretch % 32 === 0) {
        Atomics.wait(places, worker * 16 + 1, 0, job.pause);
        if (Atomics.load(places, STOP) === 1) break;
      }
    }
    const order = next(64) * 64;
    for (let half = 0; half < 64; half += BURST) {
      for (let i = 0; i < BURST; i++) {
        const offset = stretch * 64 + pattern[order + half + i]!;
        offsets[i] = offset;
        rows[i * WORDS + SEQ_LO] = (first + 1 + offset) | 0;
        rows[i * WORDS + SEQ_HI] = -1;
        rows[i * WORDS + FATE] = 0;
      }
      window.checkBurst(rows, list, 0, BURST);
      // The ICV: a number inferred wrong is not the number that was sealed.
      if (what !== 'naive')
        for (let i = 0; i < BURST; i++)
          if (rows[i * WORDS + FATE] === 0) {
            const s = rows[i * WORDS + SEQ_HI]! * TWO_32 + (rows[i * WORDS + SEQ_LO]! >>> 0);
            if (s !== first + 1 + offsets[i]!) rows[i * WORDS + FATE] = ICV;
          }
      window.commitBurst(rows, list, 0, BURST);
      for (let i = 0; i < BURST; i++) {
        if (rows[i * WORDS + FATE] !== 0) continue;
        const bit = 1 << (offsets[i]! & 31);
        const at = offsets[i]! >>> 5;
        if (victim) {
          if ((Atomics.or(accepted, at, bit) & bit) !== 0) tally[Tally.DOUBLE]!++;
        } else {
          if ((accepted[at]! & bit) !== 0) tally[Tally.DOUBLE]!++;
          accepted[at] = accepted[at]! | bit;
        }
      }
      tally[Tally.OFFERED] = tally[Tally.OFFERED]! + BURST;
      if (Math.abs(stretch - other) * 64 < size) tally[Tally.NEAR] = tally[Tally.NEAR]! + BURST;
    }
    if (window instanceof ReplayWindow) tally[Tally.FAILURES] = before + window.swapFailures;
  }
  if (!victim) Atomics.store(places, worker * 16, ENDED);
}
