import type { Edit, Program, Step } from '../../../scripts/explorer.ts';
import { instrument, Machine, Violation } from '../../../scripts/explorer.ts';
import type * as Replay from '../src/index.ts';
import { Verdict } from '../src/layout.ts';
import { ICV, Rows } from './rows.ts';

/** The one plain read of shared memory, made a step. */
const PEEK: Edit = { file: 'peek.ts', find: 'words[at]!', replace: 'Atomics.load(words, at)' };

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

/** What a worker has shown: sets of numbers are masks over the scene's numbers, in ascending order. */
interface Facts {
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
}

/** The window as its workers use it, on a machine that explores them. */
export class ExploredWindow {
  readonly scene: Scene;
  readonly #machine = new Machine();
  readonly #module: typeof Replay;
  readonly #memory: SharedArrayBuffer;
  readonly #numbers: number[];
  /** Where each number's bit lies, found by committing it to an empty window: word of the image, tag << 8 | bit. */
  readonly #at: { word: number; value: number }[];
  readonly #base: number;
  readonly #programs: Map<string, Program<Facts>> = new Map();
  readonly #tops: Map<number, number> = new Map();
  states = 0;
  schedules = 0;
  scenarios = 0;

  static async create(scene: Scene, edits: readonly Edit[] = []): Promise<ExploredWindow> {
    const machine = new Machine();
    const entry = new URL('../src/index.ts', import.meta.url).pathname;
    return new ExploredWindow(scene, machine, await instrument<typeof Replay>(machine, entry, [PEEK, ...edits]));
  }

  private constructor(scene: Scene, machine: Machine, module: typeof Replay) {
    const { size, esn, limit, before, offered } = scene;
    this.scene = scene;
    this.#machine = machine;
    this.#module = module;
    const options = { size, esn, ...(limit === undefined ? {} : { limit }) };
    this.#numbers = [...new Set([...before, ...offered])].sort((a, b) => a - b);
    const window = module.ReplayWindow.create(options);
    this.#memory = window.memory;
    // Line 0 is written once, by create (layout.ts).
    machine.share(window.memory, 64);
    this.#at = this.#numbers.map((s) => this.#place(options, s));
    for (const s of before) if (window.commit(s) !== Verdict.ACCEPT) throw new Error(`${s} is not fresh`);
    this.#base = this.#claimedIn(machine.start());
    machine.ghost = (step, was, is) => this.#ghost(step, was, is);
  }

  /** Explores the workers, each with its bursts, as any of them may be scheduled. */
  explore(workers: readonly (readonly (readonly number[])[])[]): void {
    const { size, before } = this.scene;
    const base = this.#base;
    const first = before.at(-1) ?? 0;
    const visit = this.#machine.explore(
      workers.map((bursts) => this.#program(bursts)),
      (facts, memory, done) => {
        let claimed = base;
        let begun = first;
        for (const f of facts) {
          if ((f.claimed & claimed) !== 0) throw new Violation(`claimed twice: ${this.#list(f.claimed & claimed)}`);
          claimed |= f.claimed;
          if (f.begun > begun) begun = f.begun;
        }
        for (let i = 0; i < facts.length; i++) {
          const f = facts[i]!;
          if ((f.replayed & ~claimed) !== 0)
            throw new Violation(`refused as replayed, but fresh: ${this.#list(f.replayed & ~claimed)}`);
          for (let j = 0; j < i; j++)
            if ((f.accepted & facts[j]!.accepted) !== 0)
              throw new Violation(`accepted twice: ${this.#list(f.accepted & facts[j]!.accepted)}`);
          if (f.refused > 0) {
            let reach = first;
            for (let j = 0; j < facts.length; j++) if (j !== i) reach = Math.max(reach, facts[j]!.begun);
            if (f.refused > reach - size)
              throw new Violation(`refused as stale inside the window: ${f.refused}, greatest announced ${reach}`);
          }
        }
        // Whoever looks, whoever died: no top below what was taken or above what was announced.
        const greatest = claimed === 0 ? 0 : this.#numbers[31 - Math.clz32(claimed)]!;
        const shown = this.#top(memory);
        if (shown < greatest || shown > Math.max(begun, greatest))
          throw new Violation(`top is ${shown}, claimed ${greatest}, announced ${begun}`);
        if (done && shown !== greatest) throw new Violation(`at rest top is ${shown}, want ${greatest}`);
      },
    );
    this.states += visit.states;
    this.schedules += visit.schedules;
    this.scenarios++;
  }

  #program(bursts: readonly (readonly number[])[]): Program<Facts> {
    const name = bursts.map((burst) => `[${burst.join(' ')}]`).join(' ');
    let program = this.#programs.get(name);
    if (!program) {
      program = {
        name,
        facts: () => ({ accepted: 0, claimed: 0, taking: 0, replayed: 0, begun: 0, refused: 0, top: 0 }),
        run: (facts) => this.#work(bursts, facts),
        seen: (facts, step, { ghost }) => {
          // A ghost is what the step claimed, or the mark of a commit's first step: the top at that moment.
          if (step.label === 'commit') facts.top = ghost < 0 ? 0 : this.#numbers[ghost]!;
          else {
            if ((facts.claimed & ghost) !== 0)
              throw new Violation(`claimed twice: ${this.#list(facts.claimed & ghost)}`);
            facts.claimed |= ghost;
            facts.taking |= ghost;
          }
        },
      };
      this.#programs.set(name, program);
    }
    return program;
  }

  #work(bursts: readonly (readonly number[])[], facts: Facts): void {
    const { size, esn } = this.scene;
    const window = this.#module.ReplayWindow.attach(this.#memory, 0);
    for (const burst of bursts) {
      const rows = new Rows(burst.length);
      rows.fill(burst, esn);
      window.checkBurst(rows.rows, rows.list, 0, burst.length);
      let greatest = 0;
      for (let i = 0; i < burst.length; i++) {
        const s = burst[i]!;
        if (rows.fate(i) === Verdict.ACCEPT && rows.number(i) !== s) rows.setFate(i, ICV);
        this.#judge(facts, s, rows.fate(i), facts.begun);
        if (rows.fate(i) === Verdict.ACCEPT) greatest = Math.max(greatest, s);
      }
      const open = burst.map((_, i) => rows.fate(i) === Verdict.ACCEPT);
      const before = facts.begun;
      facts.begun = Math.max(before, greatest);
      facts.taking = 0;
      this.#machine.label = 'commit';
      window.commitBurst(rows.rows, rows.list, 0, burst.length);
      this.#machine.label = '';
      let run = 0;
      let won = 0;
      burst.forEach((s, i) => {
        if (!open[i]) return;
        run = Math.max(run, s);
        const fate = rows.fate(i);
        this.#judge(facts, s, fate, Math.max(before, run));
        if (fate !== Verdict.ACCEPT) return;
        const bit = 1 << this.#numbers.indexOf(s);
        if (((facts.accepted | won) & bit) !== 0) throw new Violation(`accepted twice: ${s}`);
        won |= bit;
        if (s <= Math.max(facts.top, run) - size)
          throw new Violation(`accepted left of the window: ${s}, top was ${Math.max(facts.top, run)}`);
      });
      if (won !== facts.taking) throw new Violation(`claimed ${this.#list(facts.taking)}, accepted ${this.#list(won)}`);
      facts.accepted |= won;
    }
  }

  /** What a refusal needs to be right; `own` is the greatest number of its own that the worker may refer to. */
  #judge(facts: Facts, s: number, fate: number, own: number): void {
    const { size } = this.scene;
    const invalid = s < 1;
    const exhausted = s > this.#limit;
    if (invalid || exhausted) {
      if (fate !== (invalid ? Verdict.INVALID : Verdict.EXHAUSTED)) throw new Violation(`${s} gave fate ${fate}`);
    } else if (fate === Verdict.REPLAYED) facts.replayed |= 1 << this.#numbers.indexOf(s);
    else if (fate !== Verdict.ACCEPT && s > own - size) {
      // STALE, or a number too old to be inferred, which then fails as another one.
      if (fate === Verdict.INVALID) throw new Violation(`${s} is INVALID`);
      facts.refused = Math.max(facts.refused, s);
    }
  }

  get #limit(): number {
    return this.scene.limit ?? this.#module.ReplayWindow.attach(this.#memory, 0).limit;
  }

  #ghost(step: Step, was: Int32Array, is: Int32Array): number {
    if (step.label === 'commit') return 31 - Math.clz32(this.#claimedIn(was));
    return was === is ? 0 : this.#claimedIn(is) & ~this.#claimedIn(was);
  }

  #claimedIn(image: Int32Array): number {
    let set = 0;
    this.#at.forEach(({ word, value }, i) => {
      const found = image[word]!;
      if (found >>> 8 === value >>> 8 && (found & value & 0xff) !== 0) set |= 1 << i;
    });
    return set;
  }

  #place(options: Replay.WindowOptions, s: number): { word: number; value: number } {
    const window = this.#module.ReplayWindow.create(options);
    if (s < 1 || s > window.limit) return { word: 0, value: 0 };
    const was = new Int32Array(window.memory.slice(0));
    if (window.commit(s) !== Verdict.ACCEPT) throw new Error(`an empty window refuses ${s}`);
    const is = new Int32Array(window.memory);
    // The edge's word changes too; the ring comes last.
    let word = is.length - 1;
    while (is[word] === was[word]) word--;
    const value = is[word]! >>> 8 === was[word]! >>> 8 ? is[word]! & ~was[word]! : is[word]!;
    return { word, value: (is[word]! & ~0xff) | (value & 0xff) };
  }

  #top(memory: number): number {
    let top = this.#tops.get(memory);
    if (top === undefined) {
      const window = this.#module.ReplayWindow.attach(this.#memory, 0);
      top = this.#machine.look(memory, () => window.top());
      this.#tops.set(memory, top);
    }
    return top;
  }

  #list(mask: number): string {
    return this.#numbers.filter((_, i) => ((mask >>> i) & 1) !== 0).join(' ') || 'none';
  }
}

/** All bursts of `length` numbers. */
export function burstsOf(numbers: readonly number[], length: number): number[][] {
  return length === 0 ? [[]] : burstsOf(numbers, length - 1).flatMap((burst) => numbers.map((s) => [...burst, s]));
}

/** All ways to give `workers` workers one item each, whoever gets which. */
export function* dealt<T>(items: readonly T[], workers: number, from = 0): Generator<T[]> {
  if (workers === 0) yield [];
  else
    for (let i = from; i < items.length; i++)
      for (const rest of dealt(items, workers - 1, i)) yield [items[i]!, ...rest];
}
