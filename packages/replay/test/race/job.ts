/** What a racing worker is told. All memory is shared, so that a worker may be killed at any step and still has shown what it did. */

interface Racer {
  readonly what: 'shipped' | 'naive';
  readonly memory: SharedArrayBuffer;
  readonly worker: number;
  readonly seed: number;
  /** A line of Float64 per worker: TALLY. */
  readonly tally: SharedArrayBuffer;
  readonly gate: Gate;
}

/** Those who begin together: who has come, and how many are waited for. */
export interface Gate {
  readonly come: SharedArrayBuffer;
  readonly all: number;
}

/** How a worker that goes through stretches keeps to the others. */
interface Walker {
  readonly workers: number;
  /** Goes where the others are, for as long as it lives. */
  readonly victim: boolean;
  /** Milliseconds of sleep now and then, where time is to pass. */
  readonly pause: number;
  /** A line of Int32 per worker: the stretch it is at. Word STOP tells all to stop. */
  readonly places: SharedArrayBuffer;
}

export interface WindowJob extends Racer, Walker {
  readonly kind: 'window';
  readonly size: number;
  /** Numbers first + 1 .. first + count. */
  readonly first: number;
  readonly count: number;
  readonly accepted: SharedArrayBuffer;
}

export interface AllocatorJob extends Racer {
  readonly kind: 'allocator';
  readonly count: number;
  /** Survivors leave numbers to the victims: milliseconds of sleep per 64 bursts, until word STOP ends them. */
  readonly pause: number;
  readonly places: SharedArrayBuffer;
  readonly given: SharedArrayBuffer;
}

export interface LifetimeJob extends Racer, Walker {
  readonly kind: 'lifetime';
  readonly rounds: number;
  /** A line of Int32 per round: RECORD. */
  readonly record: SharedArrayBuffer;
}

export type Job = WindowJob | AllocatorJob | LifetimeJob;

/** Float64 of a worker's line of tallies. */
export const Tally = { OFFERED: 0, DOUBLE: 1, FAILURES: 2, NEAR: 3, WRONG: 4 } as const;

/** Int32 of a round's line: packets and bytes used, how often each event was told, a bit for each worker that used any. */
export const Record = { WORDS: 16, PACKETS: 0, BYTES: 1, SOFTS: 2, HARDS: 3, WHO: 4 } as const;

/** Int32 of `places` that tells all to stop. */
export const STOP = 15;
/** Rows of a burst. */
export const BURST = 32;
/** Bytes of the longest packet of a lifetime's race. */
export const LONGEST = 1500;
