// Whether our own ICV comparison tells by its time where two ICVs differ. Budget: 5 s.
import { describe, expect, it } from 'vitest';
import { equalBytes } from '../src/constant-time.ts';
import { random } from './bench-rows.ts';

type Compare = typeof equalBytes;

/** What equalBytes must not be: gone at the first difference. */
const earlyExit: Compare = (a, aAt, b, bAt, length) => {
  for (let i = 0; i < length; i++) if (a[aAt + i] !== b[bAt + i]) return false;
  return true;
};

const SAMPLES = 1_000_000;
/** Calls in one sample: the clock alone takes as long as a few. */
const CALLS = 12;
const ICV = 16;
/** Samples above this quantile of all are interrupts, collections and the like. */
const KEEP = 0.9;

/** Nanoseconds of every sample, and which class it is of: 0 differs in the first byte, 1 in the last. */
function measure(compare: Compare, seed: number): { times: Float64Array; classes: Uint8Array } {
  const next = random(seed);
  const icv = Uint8Array.from({ length: ICV }, () => next(256));
  const forged = [0, ICV - 1].map((at) => icv.map((b, i) => (i === at ? b ^ 0x55 : b)));
  // Both classes are compared from the same place in memory, behind a packet that is in none of it.
  const place = new Uint8Array(64);
  const times = new Float64Array(SAMPLES);
  const classes = new Uint8Array(SAMPLES);
  let wrong = 0;
  for (let i = 0; i < SAMPLES; i++) {
    const of = next(2);
    const from = forged[of]!;
    for (let k = 0; k < ICV; k++) place[20 + k] = from[k]!;
    const began = performance.now();
    for (let k = 0; k < CALLS; k++) if (compare(icv, 0, place, 20, ICV)) wrong++;
    times[i] = (performance.now() - began) * 1e6;
    classes[i] = of;
  }
  expect(wrong).toBe(0);
  return { times, classes };
}

/** Welch's t between the classes, over what lies below the quantile KEEP of both together. */
function welch({ times, classes }: { times: Float64Array; classes: Uint8Array }): number {
  const limit = Float64Array.from(times).sort()[Math.floor(times.length * KEEP)]!;
  const n = [0, 0];
  const mean = [0, 0];
  const squares = [0, 0];
  for (let i = 0; i < times.length; i++) {
    if (times[i]! > limit) continue;
    const c = classes[i]!;
    n[c]!++;
    const d = times[i]! - mean[c]!;
    mean[c]! += d / n[c]!;
    squares[c]! += d * (times[i]! - mean[c]!);
  }
  const variance = (c: number): number => squares[c]! / (n[c]! - 1) / n[c]!;
  return (mean[0]! - mean[1]!) / Math.sqrt(variance(0) + variance(1));
}

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;
const runs = process.env.ESPALIER_LONG ? 9 : 3;

/** With their sign: a leak leans the same way in every run, what the machine does meanwhile does not. */
function runsOf(compare: Compare): number[] {
  measure(compare, 99); // until it is compiled for good
  return Array.from({ length: runs }, (_, i) => welch(measure(compare, i + 1)));
}

describe('the comparison of ICVs', () => {
  it('takes a time that does not depend on where they differ', () => {
    const ours = runsOf(equalBytes);
    const leaky = runsOf(earlyExit);
    const text = (values: number[]): string => values.map((t) => t.toFixed(2)).join(' ');
    console.log(`t over ${SAMPLES} samples: ours ${text(ours)}; one that exits early ${text(leaky)}`);
    expect(Math.abs(median(leaky))).toBeGreaterThan(10);
    expect(Math.abs(median(ours))).toBeLessThan(4.5);
  });
});
