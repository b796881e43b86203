/** What a wire does to frames, per link and direction; each a probability from 0 to 1. Seeded: same frames, same faults. */
export interface MockFaults {
  /** The frame vanishes. */
  readonly loss?: number;
  /** The frame arrives up to `reorderBy` polls later, so later frames overtake it. */
  readonly reorder?: number;
  /** Polls of the receiver that a reordered frame is held back at most; default 2. */
  readonly reorderBy?: number;
  /** The frame arrives twice. */
  readonly duplicate?: number;
  /** One bit of the frame is flipped. */
  readonly corrupt?: number;
  /** Polls of the receiver that every frame takes: virtual time, there is no clock. */
  readonly delay?: number;
  /** Every n-th frame is put a second time on another link, in the same direction; 0 = never. */
  readonly replayEvery?: number;
  /** The link on which it is put again. */
  readonly replayOn?: number;
}

/** How often the wire did what, one direction of one link. Absolute. */
export interface MockFaultCounts {
  lost: number;
  reordered: number;
  duplicated: number;
  corrupted: number;
  /** Frames put again on another link. */
  replayed: number;
}

/** Words of the faults of one direction in shared memory. */
export const FaultWord = {
  LOSS: 0,
  REORDER: 1,
  REORDER_BY: 2,
  DUPLICATE: 3,
  CORRUPT: 4,
  DELAY: 5,
  REPLAY_EVERY: 6,
  REPLAY_ON: 7,
  /** Any of the above is set: the fast path looks here only. */
  ANY: 8,
  WORDS: 16,
} as const;

/** Writes faults where the ports of that direction see them from their next burst on. Throws RangeError on nonsense. */
export function storeFaults(words: Int32Array, at: number, faults: MockFaults, links: number): void {
  const { reorderBy = 2, delay = 0, replayEvery = 0, replayOn = 0 } = faults;
  const counts = { reorderBy, delay, replayEvery, replayOn };
  for (const [name, value] of Object.entries(counts))
    if (!Number.isInteger(value) || value < 0 || value > 1 << 20)
      throw new RangeError(`"${name}" must be an integer from 0 to 2^20, got ${value}`);
  if (replayOn >= links) throw new RangeError(`"replayOn" is link ${replayOn} of ${links}`);
  const loss = threshold('loss', faults.loss);
  const reorder = threshold('reorder', faults.reorder);
  const duplicate = threshold('duplicate', faults.duplicate);
  const corrupt = threshold('corrupt', faults.corrupt);
  const values: [number, number][] = [
    [FaultWord.LOSS, loss],
    [FaultWord.REORDER, reorder],
    [FaultWord.REORDER_BY, reorderBy],
    [FaultWord.DUPLICATE, duplicate],
    [FaultWord.CORRUPT, corrupt],
    [FaultWord.DELAY, delay],
    [FaultWord.REPLAY_EVERY, replayEvery],
    [FaultWord.REPLAY_ON, replayOn],
    [FaultWord.ANY, loss | reorder | duplicate | corrupt | delay | replayEvery],
  ];
  for (const [word, value] of values) Atomics.store(words, at + word, value);
}

/** A probability as a number that 30 random bits are compared with. */
function threshold(name: string, probability = 0): number {
  if (!(probability >= 0 && probability <= 1))
    throw new RangeError(`"${name}" must be a probability from 0 to 1, got ${probability}`);
  return Math.round(probability * 2 ** 30);
}

/** Marsaglia's xorshift: one word of state, good enough to lose frames with. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    let s = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b);
    s = Math.imul(s ^ (s >>> 13), 0xc2b2ae35);
    this.#state = s ^ (s >>> 16) || 1;
  }

  /** Whether an event of this threshold happens now. A threshold of 0 draws nothing. */
  hits(threshold: number): boolean {
    return threshold !== 0 && this.below(2 ** 30) < threshold;
  }

  /** An integer from 0 to `limit - 1`; `limit` at most 2^30. */
  below(limit: number): number {
    let s = this.#state;
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    this.#state = s;
    return (s >>> 2) % limit;
  }
}
