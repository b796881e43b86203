import type { Program, Step } from '../../../scripts/explorer.ts';
import { Machine, Violation } from '../../../scripts/explorer.ts';
import { type Edit, instrument } from '../../../scripts/instrument.ts';
import type * as Replay from '../src/index.ts';
import { exportState, importState, ReplayWindow } from '../src/index.ts';
import { Verdict, WindowWord } from '../src/layout.ts';
import { type Deed, type Facts, listOf, programOf, type Scene, type World } from './explored-worker.ts';

/** The one plain read of shared memory, made a step; or as old as it can be, which is before all else. */
const PEEK: Edit = { file: 'peek.ts', find: 'words[at]!', replace: 'Atomics.load(words, at)' };
export const OLDEST: Edit = { ...PEEK, replace: '0' };

const WORKERS = 4;
const ACCOUNTS = { from: WindowWord.WORKER * 4, to: (WindowWord.WORKER + WORKERS * WindowWord.WORDS_PER_WORKER) * 4 };

/** The window as its workers use it, on a machine that explores them, and the rules that hold in every state. */
export class ExploredWindow {
  readonly scene: Scene;
  readonly #world: World;
  /** Whether who looks sees the words as they are. */
  readonly #current: boolean;
  /** Where each number's bit lies, found by committing it to an empty window: word of the image, tag << 8 | bit. */
  readonly #at: { word: number; value: number }[];
  readonly #base: number;
  readonly #programs: Map<string, Program<Facts>> = new Map();
  readonly #tops: Map<number, number> = new Map();
  /** `lost()` by memory and by how many numbers are accounted for. */
  readonly #losses: Map<number, number> = new Map();
  readonly #open: Map<number, number> = new Map();
  readonly #exported: Set<number> = new Set();
  states = 0;
  schedules = 0;
  scenarios = 0;

  static async create(scene: Scene, edits: readonly Edit[] = [], peek = PEEK): Promise<ExploredWindow> {
    const machine = new Machine();
    const entry = new URL('../src/index.ts', import.meta.url).pathname;
    const module = await instrument<typeof Replay>(machine, entry, [peek, ...edits]);
    return new ExploredWindow(scene, machine, module, peek === PEEK);
  }

  private constructor(scene: Scene, machine: Machine, module: typeof Replay, current: boolean) {
    this.#current = current;
    const { size, esn, before, offered } = scene;
    this.scene = scene;
    const options = { size, esn, workers: WORKERS, ...(scene.limit === undefined ? {} : { limit: scene.limit }) };
    const numbers = [...new Set([...before, ...offered])].sort((a, b) => a - b);
    const window = module.ReplayWindow.create(options);
    this.#world = { scene, machine, module, memory: window.memory, numbers, limit: window.limit };
    // Line 0 is written once, by create, and a worker's account by itself (layout.ts). All take the first: each has its own.
    machine.share(window.memory, 64, ACCOUNTS);
    this.#at = numbers.map((s) => this.#place(options, s));
    for (const s of before) if (window.commit(s) !== Verdict.ACCEPT) throw new Error(`${s} is not fresh`);
    this.#base = this.#claimedIn(machine.start());
    machine.ghost = (step, was, is) => this.#ghost(step, was, is);
  }

  /** Explores the workers, each with its deeds, as any of them may be scheduled. */
  explore(workers: readonly (readonly Deed[])[]): void {
    const { machine, numbers } = this.#world;
    // The accounts are exact but for what an import closes meanwhile.
    const exact = this.#current && !workers.flat().some((deed) => 'acceptUpTo' in deed);
    const visit = machine.explore(
      workers.map((deeds) => this.#program(deeds)),
      (facts, memory, done) => {
        let claimed = this.#base;
        let accounted = this.scene.before.length;
        let hidden = 0;
        for (const f of facts) {
          if ((f.claimed & claimed) !== 0)
            throw new Violation(`claimed twice: ${listOf(numbers, f.claimed & claimed)}`);
          claimed |= f.claimed;
          accounted += f.accounted;
          hidden += ones(f.claimed) - f.accounted;
        }
        this.#reasons(facts, claimed);
        const top = this.#rightTop(facts, memory, claimed, done);
        this.#nothingReopened(facts, memory, claimed);
        if (exact) this.#rightAccounts(memory, claimed, top, accounted, hidden);
        if (exact && done && hidden !== 0) throw new Violation(`at rest ${hidden} are not accounted for`);
        if (done) this.#exact(memory, top);
      },
    );
    this.states += visit.states;
    this.schedules += visit.schedules;
    this.scenarios++;
  }

  /** Nothing accepted twice, and no refusal without its reason. */
  #reasons(facts: readonly Facts[], claimed: number): void {
    const { numbers } = this.#world;
    const first = this.scene.before.at(-1) ?? 0;
    for (let i = 0; i < facts.length; i++) {
      const f = facts[i]!;
      if ((f.replayed & ~claimed) !== 0)
        throw new Violation(`refused as replayed, but fresh: ${listOf(numbers, f.replayed & ~claimed)}`);
      if ((f.copied & claimed) !== 0)
        throw new Violation(`accepted here and by the copy: ${listOf(numbers, f.copied & claimed)}`);
      for (let j = 0; j < i; j++)
        if ((f.accepted & facts[j]!.accepted) !== 0)
          throw new Violation(`accepted twice: ${listOf(numbers, f.accepted & facts[j]!.accepted)}`);
      if (f.refused > 0) {
        let reach = first;
        for (let j = 0; j < facts.length; j++) if (j !== i) reach = Math.max(reach, facts[j]!.begun);
        if (f.refused > reach - this.scene.size)
          throw new Violation(`refused as stale inside the window: ${f.refused}, greatest announced ${reach}`);
      }
      if (f.missed > 0 && facts.every((g, j) => j === i || g.begun < first + 2 ** 31))
        throw new Violation(`no resynchronisation reaches ${f.missed}`);
    }
  }

  /** Whoever looks, whoever died: no top below what was taken or above what was announced. */
  #rightTop(facts: readonly Facts[], memory: number, claimed: number, done: boolean): number {
    const greatest = claimed === 0 ? 0 : this.#world.numbers[31 - Math.clz32(claimed)]!;
    let begun = greatest;
    for (const f of facts) if (f.begun > begun) begun = f.begun;
    const top = this.#cached(this.#tops, memory, memory, (window) => window.top());
    if (top < greatest || top > begun) throw new Violation(`top is ${top}, claimed ${greatest}, announced ${begun}`);
    if (done && top !== greatest) throw new Violation(`at rest top is ${top}, want ${greatest}`);
    return top;
  }

  /** What has been taken is never told to be fresh, nor is anything behind an import that has ended. */
  #nothingReopened(facts: readonly Facts[], memory: number, claimed: number): void {
    let closed = 0;
    for (const f of facts) if (f.closed > closed) closed = f.closed;
    if (closed === 0) return;
    const { numbers } = this.#world;
    const open = this.#cached(this.#open, memory, memory, (window) =>
      numbers.reduce((set, s, i) => (window.check(s) === Verdict.ACCEPT ? set | (1 << i) : set), 0),
    );
    for (let i = 0; i < numbers.length; i++)
      if (((open >>> i) & 1) !== 0 && (numbers[i]! <= closed || ((claimed >>> i) & 1) !== 0))
        throw new Violation(`open after all up to ${closed} was closed: ${numbers[i]}`);
  }

  /** The losses are what left the window unseen, plus what bursts under way (or dead) have claimed and not accounted for. */
  #rightAccounts(memory: number, claimed: number, top: number, accounted: number, hidden: number): void {
    const lost = this.#cached(this.#losses, memory * 64 + accounted, memory, (window) => {
      new Float64Array(window.memory)[ACCOUNTS.from / 8] = accounted;
      return window.lost();
    });
    const { numbers } = this.#world;
    let left = Math.max(0, top - this.scene.size);
    for (let i = 0; i < numbers.length && numbers[i]! <= top - this.scene.size; i++) left -= (claimed >>> i) & 1;
    if (lost !== left + hidden)
      throw new Violation(`lost is ${lost}, want ${left}, and ${hidden} are not accounted for`);
  }

  /** At rest a copy by state is the same window. */
  #exact(memory: number, top: number): void {
    if (this.#exported.has(memory)) return;
    this.#exported.add(memory);
    const { machine, numbers, limit } = this.#world;
    const { size, esn } = this.scene;
    machine.look(memory, () => {
      const window = ReplayWindow.attach(this.#world.memory, 0);
      const copy = ReplayWindow.create({ size, esn, limit });
      importState(copy, exportState(window));
      if (copy.top() !== top) throw new Violation(`the copy's top is ${copy.top()}, want ${top}`);
      for (const s of numbers)
        if (copy.check(s) !== window.check(s)) throw new Violation(`the copy says ${copy.check(s)} of ${s}`);
    });
  }

  #program(deeds: readonly Deed[]): Program<Facts> {
    const name = JSON.stringify(deeds);
    let program = this.#programs.get(name);
    if (!program) {
      program = programOf(this.#world, deeds);
      this.#programs.set(name, program);
    }
    return program;
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
    const window = this.#world.module.ReplayWindow.create(options);
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

  /** What somebody new says who looks at a memory of the exploration. */
  #cached(cache: Map<number, number>, key: number, memory: number, ask: (window: ReplayWindow) => number): number {
    let answer = cache.get(key);
    if (answer === undefined) {
      const window = this.#world.module.ReplayWindow.attach(this.#world.memory, 0);
      answer = this.#world.machine.look(memory, () => ask(window));
      cache.set(key, answer);
    }
    return answer;
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

/** How many numbers a set holds. */
function ones(set: number): number {
  let count = 0;
  for (; set !== 0; set &= set - 1) count++;
  return count;
}
