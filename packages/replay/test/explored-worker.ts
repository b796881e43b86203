import { type Machine, type Program, Violation } from '../../../scripts/explorer.ts';
import type * as Replay from '../src/index.ts';
import { exportMark, importState, ReplayWindow } from '../src/index.ts';
import { Verdict } from '../src/layout.ts';
import { ICV, Rows } from './rows.ts';

/** A window in the state in which an exploration begins, and the numbers that its workers offer. */
export interface Scene {
  readonly name: string;
  readonly size: number;
  readonly esn: boolean;
  readonly limit?: number;
  /** Accepted before, in this order; the last of them is the greatest. */
  readonly before: readonly number[];
  /** What workers offer, the most telling first. */
  readonly offered: readonly number[];
}

/** One thing that a worker does. */
export type Deed =
  /** Check, ICV and commit of a burst. */
  | readonly number[]
  /** The same for one packet of a sender that may be subspaces ahead; it is resynchronised at the first failed ICV. */
  | { readonly resync: number; readonly attempts: number }
  | { readonly acceptUpTo: number }
  /** A copy of the window is made while others go on, by its mark or by its state, and then offered all numbers. */
  | { readonly mark: number }
  | { readonly copy: true };

/** What a worker has shown: sets of numbers are masks over the world's numbers. */
export interface Facts {
  /** Accepted by bursts that have ended. */
  accepted: number;
  /** Turned on by its swaps. */
  claimed: number;
  /** Turned on since its burst's commit began. */
  taking: number;
  /** Refused as REPLAYED: somebody must have claimed them. */
  replayed: number;
  /** Greatest number of its own whose commit has begun. */
  begun: number;
  /** Greatest number that it refused as STALE with nothing of its own to show for it. */
  refused: number;
  /** Greatest number claimed by anybody when its commit began. */
  top: number;
  /** What its account says that it has accepted. */
  accounted: number;
  /** All up to this must count as seen. */
  closed: number;
  /** Accepted by the copy that it made. */
  copied: number;
  /** A number within reach that its resynchronisation has not found. */
  missed: number;
}

/** What all workers of an exploration have in common. */
export interface World {
  readonly scene: Scene;
  readonly machine: Machine;
  readonly module: typeof Replay;
  readonly memory: SharedArrayBuffer;
  /** All numbers of the scene, ascending. */
  readonly numbers: readonly number[];
  readonly limit: number;
}

/** The numbers of a set, for people. */
export function listOf(numbers: readonly number[], mask: number): string {
  return numbers.filter((_, i) => ((mask >>> i) & 1) !== 0).join(' ') || 'none';
}

/** A worker that does these deeds, one after the other. */
export function programOf(world: World, deeds: readonly Deed[]): Program<Facts> {
  const { numbers } = world;
  return {
    name: deeds.map((deed) => JSON.stringify(deed)).join(' '),
    facts: () => ({
      ...{ accepted: 0, claimed: 0, taking: 0, replayed: 0, begun: 0, refused: 0, top: 0 },
      ...{ accounted: 0, closed: 0, copied: 0, missed: 0 },
    }),
    run: (facts) => new Worker(world, facts).work(deeds),
    seen: (facts, step, { ghost }) => {
      // A ghost is what the step claimed, or the mark of a commit's first step: the top at that moment.
      if (step.label === 'commit') facts.top = ghost < 0 ? 0 : numbers[ghost]!;
      else {
        if ((facts.claimed & ghost) !== 0)
          throw new Violation(`claimed twice: ${listOf(numbers, facts.claimed & ghost)}`);
        facts.claimed |= ghost;
        facts.taking |= ghost;
      }
    },
  };
}

class Worker {
  readonly #world: World;
  readonly #facts: Facts;
  readonly #window: Replay.ReplayWindow;

  constructor(world: World, facts: Facts) {
    this.#world = world;
    this.#facts = facts;
    this.#window = world.module.ReplayWindow.attach(world.memory, 0);
  }

  work(deeds: readonly Deed[]): void {
    const before = this.#window.accepted();
    try {
      for (const deed of deeds) {
        if ('acceptUpTo' in deed) this.#acceptUpTo(deed.acceptUpTo);
        else if ('resync' in deed) this.#offer([deed.resync], deed.attempts);
        else if ('mark' in deed || 'copy' in deed) this.#takeOver(deed);
        else this.#offer(deed, 0);
      }
    } finally {
      this.#facts.accounted = this.#window.accepted() - before;
    }
  }

  /** Check, ICV and commit. `attempts`: where the ICV fails, the number is tried in so many subspaces ahead. */
  #offer(burst: readonly number[], attempts: number): void {
    const { scene, machine, numbers } = this.#world;
    const facts = this.#facts;
    const rows = new Rows(burst.length);
    rows.fill(burst, scene.esn);
    this.#window.checkBurst(rows.rows, rows.list, 0, burst.length);
    let greatest = 0;
    burst.forEach((s, i) => {
      if (
        rows.fate(i) === Verdict.ACCEPT &&
        rows.number(i) !== s &&
        !(attempts > 0 && this.#resync(rows, i, s, attempts))
      )
        rows.setFate(i, ICV);
      if (attempts === 0) this.#judge(s, rows.fate(i), facts.begun);
      if (rows.fate(i) === Verdict.ACCEPT) greatest = Math.max(greatest, s);
    });
    const open = burst.map((_, i) => rows.fate(i) === Verdict.ACCEPT);
    const before = facts.begun;
    facts.begun = Math.max(before, greatest);
    facts.taking = 0;
    machine.label = 'commit';
    this.#window.commitBurst(rows.rows, rows.list, 0, burst.length);
    machine.label = '';
    let run = 0;
    let won = 0;
    burst.forEach((s, i) => {
      if (!open[i]) return;
      run = Math.max(run, s);
      const fate = rows.fate(i);
      this.#judge(s, fate, Math.max(before, run));
      if (fate !== Verdict.ACCEPT) return;
      const bit = this.#bit(s);
      if (((facts.accepted | won) & bit) !== 0) throw new Violation(`accepted twice: ${s}`);
      won |= bit;
      if (s <= Math.max(facts.top, run) - scene.size)
        throw new Violation(`accepted left of the window: ${s}, top was ${Math.max(facts.top, run)}`);
    });
    if (won !== facts.taking)
      throw new Violation(`claimed ${listOf(numbers, facts.taking)}, accepted ${listOf(numbers, won)}`);
    facts.accepted |= won;
  }

  /** Appendix A3 with a threshold of one failure; whether a candidate's ICV holds. */
  #resync(rows: Rows, i: number, truth: number, attempts: number): boolean {
    const resync = new this.#world.module.Resync(this.#window, { threshold: 1, attempts });
    if (!resync.failed()) return false;
    for (let attempt = 1; ; attempt++) {
      const number = resync.candidate(truth >>> 0, attempt);
      if (number < 0) break;
      if (attempt > attempts) throw new Violation(`${attempt} candidates, not ${attempts}`);
      if (number > this.#world.limit) throw new Violation(`candidate ${number} is beyond LIMIT`);
      if (number === truth) {
        rows.setNumber(i, truth);
        return true;
      }
    }
    const ahead = truth - (this.#world.scene.before.at(-1) ?? 0);
    if (truth <= this.#world.limit && ahead < attempts * 2 ** 32) this.#facts.missed = truth;
    return false;
  }

  #acceptUpTo(seq: number): void {
    this.#facts.begun = Math.max(this.#facts.begun, seq);
    this.#window.acceptUpTo(seq);
    this.#facts.closed = Math.max(this.#facts.closed, seq);
  }

  /** The copy is nobody's but this worker's, so that it may be any window. */
  #takeOver(deed: { readonly mark: number } | { readonly copy: true }): void {
    const { scene, module, numbers, limit } = this.#world;
    const copy = ReplayWindow.create({ size: scene.size, esn: scene.esn, limit });
    if ('mark' in deed) copy.acceptUpTo(exportMark(this.#window, deed.mark));
    else importState(copy, module.exportState(this.#window));
    for (const s of numbers) if (copy.commit(s) === Verdict.ACCEPT) this.#facts.copied |= this.#bit(s);
  }

  /** What a refusal needs to be right; `own` is the greatest number of its own that the worker may refer to. */
  #judge(s: number, fate: number, own: number): void {
    const facts = this.#facts;
    const invalid = s < 1;
    const exhausted = s > this.#world.limit;
    if (invalid || exhausted) {
      if (fate !== (invalid ? Verdict.INVALID : Verdict.EXHAUSTED)) throw new Violation(`${s} gave fate ${fate}`);
    } else if (fate === Verdict.REPLAYED) facts.replayed |= this.#bit(s);
    else if (fate !== Verdict.ACCEPT && s > own - this.#world.scene.size) {
      // STALE, or a number too old to be inferred, which then fails as another one.
      if (fate === Verdict.INVALID) throw new Violation(`${s} is INVALID`);
      facts.refused = Math.max(facts.refused, s);
    }
  }

  #bit(s: number): number {
    return 1 << this.#world.numbers.indexOf(s);
  }
}
