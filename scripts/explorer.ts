/**
 * Explores every interleaving of the shipped code itself, one atomic access a step.
 *
 * `instrument` (instrument.ts) bundles a module with the identifier `Atomics` replaced by ours. A worker is a program that calls the
 * module; what it does next depends on nothing but the values its accesses have returned so far. So a worker's
 * continuation IS the list of those values, kept as a node of a tree, and the next access of a node is found by running
 * the program again from its start with the known values fed to it and stopping it at the first access beyond them.
 * A state is (memory, node of each worker). All states are visited depth first, each once.
 *
 * A worker that dies is one that never moves again. The properties are looked at in every state and the others can
 * always go on, so a death before every single step of every worker is covered; code that waits for another worker
 * makes an endless run of steps, which is reported.
 *
 * Shared memory is seen through Atomics only: what the programs hold is filled with rubbish beyond its constant part,
 * so that a plain read of a shared word shows up as nonsense instead of hiding.
 */
import { StateTable } from './state-table.ts';

export { type Edit, instrument } from './instrument.ts';

type Cells = Int32Array | Uint32Array | BigUint64Array | BigInt64Array;
type Value = number | bigint;
const OPS = ['load', 'store', 'add', 'sub', 'and', 'or', 'xor', 'exchange', 'compareExchange'] as const;
type Op = (typeof OPS)[number];
const native = Atomics as unknown as Record<Op, (cells: Cells, index: number, a?: Value, b?: Value) => Value>;

/** Thrown when the code breaks a rule; `steps` is the schedule that does it. */
export class Violation extends Error {
  steps: string[] = [];
}

/** Thrown through the code under test to stop it at its next access. */
const HALT = Symbol('halt');
/** No worker takes more steps than this unless it waits for another. */
const MOST_STEPS = 300;
const RUBBISH = 0x5a5a_5a5a;

/** An access as the code asks for it. */
export interface Step {
  readonly text: string;
  /** The label that the program had set for it, '' mostly. */
  readonly label: string;
  readonly op: Op;
  /** First 32-bit word of the cell in the image. */
  readonly word: number;
  readonly a: Value | undefined;
  readonly b: Value | undefined;
  readonly cell: Cells;
  /** Not to be taken before one of these words is another; null = at any time. */
  readonly wakers: readonly Waker[] | null;
  readonly moves: Map<number, Move>;
  readonly results: Map<string, Result>;
}

/** A word of the image, and the value that it has now. */
export interface Waker {
  readonly word: number;
  readonly not: Value;
}

/** What a step returned, with what the observer saw of it. */
export interface Result {
  readonly value: Value;
  readonly ghost: number;
}

interface Own {
  readonly from: number;
  readonly to: number;
}

interface Move {
  readonly memory: number;
  readonly result: Result;
}

interface Node<F> {
  readonly id: number;
  readonly parent: Node<F> | null;
  readonly result: Result | null;
  readonly depth: number;
  readonly kids: Map<Result, Node<F>>;
  /** null: the program has ended. */
  step: Step | null;
  facts: F;
}

/** What a worker does; `facts` is what it has shown so far, made anew by each run. */
export interface Program<F> {
  readonly name: string;
  facts(): F;
  run(facts: F): void;
  /** Sees each of its steps with its result, in order. */
  seen?(facts: F, step: Step, result: Result): void;
}

export interface Visit {
  states: number;
  /** Distinct complete schedules (beyond 2^53 a close estimate). */
  schedules: number;
}

/** A program on its way through its history. */
interface Run {
  readonly history: Result[];
  cursor: number;
  next: Step | null;
  /** What `rests` was told, since the last access. */
  rest: string | null;
  readonly seen: (step: Step, result: Result) => void;
}

export class Machine {
  /** Stands for Atomics in the code under test. */
  readonly atomics: object;
  /** Given to the next step; programs set it. */
  label = '';
  /** Sees a step with the memory before and after it; its answer becomes part of the step's result. */
  ghost: (step: Step, before: Int32Array, after: Int32Array) => number = () => 0;

  readonly #buffers: { memory: SharedArrayBuffer; words: Int32Array; at: number; constant: number; own: Own }[] = [];
  #words = 0;
  #scratch = new Int32Array(new SharedArrayBuffer(0));
  #images: Int32Array[] = [];
  #imageIds: Map<string, number> = new Map();
  /** Words that some step has changed. */
  #hot: number[] = [];
  readonly #steps: Map<string, Step> = new Map();
  readonly #roots: Map<Program<never>, Node<never>> = new Map();
  /** By program: where programs that have come to rest go on. */
  readonly #rests: Map<Program<never>, Map<string, Node<never>>> = new Map();
  #nodes = 0;
  #run: Run | null = null;

  constructor() {
    const access =
      (op: Op) =>
      (cells: Cells, index: number, a?: Value, b?: Value): Value =>
        this.#access(op, cells, index, a, b);
    const wait = (): never => {
      throw new Violation('a worker waits');
    };
    this.atomics = {
      ...Object.fromEntries(OPS.map((op) => [op, access(op)])),
      wait,
      waitAsync: wait,
      notify: () => 0,
      isLockFree: () => true,
    };
  }

  /**
   * Makes a memory known, before `start`. Its first `constant` bytes are never written once workers run. Bytes `own` each
   * worker uses plainly and by itself: it finds there what was there at the start, and what it writes there is in no state.
   */
  share(memory: SharedArrayBuffer, constant: number, own: Own = { from: 0, to: 0 }): void {
    this.#buffers.push({ memory, words: new Int32Array(memory), at: this.#words, constant: constant / 4, own });
    this.#words += memory.byteLength / 4;
  }

  /** Takes the memories as they are for the state in which all programs begin; returns its image. */
  start(): Int32Array {
    const image = new Int32Array(this.#words);
    for (const { words, at } of this.#buffers) image.set(words, at);
    this.#scratch = new Int32Array(new SharedArrayBuffer(this.#words * 4));
    this.#images = [image];
    this.#imageIds = new Map([['', 0]]);
    this.#hot = [];
    return image;
  }

  /** Runs code on a memory of the exploration, alone and to its end; what it writes plainly is kept by nobody. */
  look<T>(memory: number, code: () => T): T {
    for (const { words, at } of this.#buffers) words.set(this.#images[memory]!.subarray(at, at + words.length));
    return code();
  }

  /** Word of the image in which a cell of a shared memory lies. */
  wordOf(memory: SharedArrayBuffer, byteOffset: number): number {
    const buffer = this.#buffers.find((b) => b.memory === memory);
    if (!buffer) throw new Violation('an access to memory that is not shared');
    return buffer.at + byteOffset / 4;
  }

  /**
   * For a program under way: goes no further before one of these 32-bit words is another. A loop that looks until it finds
   * what it wants would never end here: after a look that failed it takes the next when that could end otherwise.
   */
  until(wakers: readonly Waker[]): void {
    const run = this.#run;
    if (!run) throw new Error('nobody runs');
    const step = this.#known(
      `until ${wakers.map(({ word, not }) => `[${word}] is not ${not}`).join(' or ')}`,
      (text) => ({
        ...{ text, label: '', op: 'load', word: wakers[0]!.word, a: undefined, b: undefined, wakers },
        cell: new Int32Array(this.#scratch.buffer, wakers[0]!.word * 4, 1),
      }),
    );
    this.#take(run, step);
  }

  /**
   * For a program under way: all that it will do from here on depends on `key` alone (and on the memory), whatever it has
   * seen before. Programs that have come to the same rest are one state; their facts must be equal then.
   */
  rests(key: string): void {
    if (this.#run) this.#run.rest = key;
  }

  /** Visits every state that the programs can reach together; `inspect` throws Violation in one that breaks a rule. */
  explore<F>(
    programs: readonly Program<F>[],
    inspect: (facts: readonly F[], memory: number, done: boolean) => void,
  ): Visit {
    const table = new StateTable(programs.length + 1);
    const nodes = programs.map((p) => this.#root(p));
    const facts = nodes.map((n) => n.facts);
    const trace: string[] = [];
    const visit = (memory: number): number => {
      const slot = table.find(memory, nodes);
      if (slot >= 0) return table.paths[slot]!;
      inspect(
        facts,
        memory,
        nodes.every((n) => n.step === null),
      );
      let paths = 0;
      let ended = true;
      let moved = false;
      for (let i = 0; i < nodes.length; i++) {
        const node = nodes[i]!;
        if (node.step === null) continue;
        ended = false;
        const image = this.#images[memory]!;
        if (node.step.wakers?.every(({ word, not }) => image[word] === not)) continue;
        moved = true;
        const move = node.step.moves.get(memory) ?? this.#move(memory, node.step);
        trace.push(`${i}: ${node.step.text} gives ${move.result.value}`);
        nodes[i] = node.kids.get(move.result) ?? this.#grow(programs[i]!, node, move.result);
        facts[i] = nodes[i]!.facts;
        paths += visit(move.memory);
        nodes[i] = node;
        facts[i] = node.facts;
        trace.pop();
      }
      if (ended) paths = 1;
      else if (!moved) throw new Violation('everybody waits');
      table.add(memory, nodes, paths);
      return paths;
    };
    try {
      const schedules = visit(0);
      return { states: table.size, schedules };
    } catch (error) {
      if (error instanceof Violation) {
        error.steps = trace;
        error.message += `\n  ${programs.map((p, i) => `${i} offers ${p.name}`).join(', ')}\n  ${trace.join('\n  ')}`;
      }
      throw error;
    }
  }

  #root<F>(program: Program<F>): Node<F> {
    const known = this.#roots.get(program as never) as Node<F> | undefined;
    if (known) return known;
    const root = this.#node(program, null, null);
    this.#roots.set(program as never, root as never);
    return root;
  }

  #grow<F>(program: Program<F>, parent: Node<F>, result: Result): Node<F> {
    const node = this.#node(program, parent, result);
    parent.kids.set(result, node);
    return node;
  }

  /** Runs the program again from its start, up to the first step that has no result yet. */
  #node<F>(program: Program<F>, parent: Node<F> | null, result: Result | null): Node<F> {
    const depth = parent ? parent.depth + 1 : 0;
    if (depth > MOST_STEPS)
      throw new Violation(`a worker has taken ${depth} steps: it waits for one that does not move`);
    const history: Result[] = [];
    if (result) history.push(result);
    for (let n = parent; n?.result; n = n.parent) history.push(n.result);
    history.reverse();
    for (const { words, at, constant, own } of this.#buffers) {
      words.set(this.#images[0]!.subarray(at, at + constant));
      words.fill(RUBBISH, constant);
      words.set(this.#images[0]!.subarray(at + own.from / 4, at + own.to / 4), own.from / 4);
    }
    const facts = program.facts();
    const run: Run = { history, cursor: 0, next: null, rest: null, seen: (step, r) => program.seen?.(facts, step, r) };
    this.#run = run;
    this.label = '';
    try {
      program.run(facts);
    } catch (error) {
      if (error !== HALT) throw error;
    } finally {
      this.#run = null;
    }
    if (run.cursor !== history.length) throw new Error('the code under test is not deterministic');
    const node = { id: this.#nodes, parent, result, depth, kids: new Map(), step: run.next, facts };
    if (run.rest !== null) {
      const known = this.#rests.get(program as never)?.get(run.rest) as Node<F> | undefined;
      if (known !== undefined) {
        if (known.step !== node.step || JSON.stringify(known.facts) !== JSON.stringify(facts))
          throw new Error(`${program.name} rests at "${run.rest}" in two ways`);
        return known;
      }
      if (!this.#rests.has(program as never)) this.#rests.set(program as never, new Map());
      this.#rests.get(program as never)!.set(run.rest, node as never);
    }
    this.#nodes++;
    return node;
  }

  #access(op: Op, cells: Cells, index: number, a: Value | undefined, b: Value | undefined): Value {
    const run = this.#run;
    if (!run) return native[op](cells, index, a, b);
    const step = this.#step(op, cells, index, a, b);
    this.label = '';
    const result = this.#take(run, step);
    run.seen(step, result);
    return result.value;
  }

  /** The result that history has for a step; without one it is the program's next. */
  #take(run: Run, step: Step): Result {
    if (run.cursor < run.history.length) {
      run.rest = null;
      return run.history[run.cursor++]!;
    }
    run.next = step;
    throw HALT;
  }

  #step(op: Op, cells: Cells, index: number, a: Value | undefined, b: Value | undefined): Step {
    const word = this.wordOf(cells.buffer as SharedArrayBuffer, cells.byteOffset + index * cells.BYTES_PER_ELEMENT);
    if (index < 0 || index >= cells.length) throw new Violation(`an access beyond the memory: ${op} ${index}`);
    const operands = [a, b].filter((v) => v !== undefined).map((v) => (typeof v === 'bigint' ? `${v}n` : `${v}`));
    const text = `${this.label && `${this.label}: `}${op} [${word}] ${operands.join(' -> ')}`.trimEnd();
    const cellOf = cells.constructor as Int32ArrayConstructor;
    return this.#known(text, () => ({
      ...{ text, label: this.label, op, word, a, b, wakers: null },
      cell: new cellOf(this.#scratch.buffer, word * 4, 1),
    }));
  }

  /** Equal steps are one. */
  #known(text: string, make: (text: string) => Omit<Step, 'moves' | 'results'>): Step {
    let step = this.#steps.get(text);
    if (step === undefined) {
      step = { ...make(text), moves: new Map(), results: new Map() };
      this.#steps.set(text, step);
    }
    return step;
  }

  #move(memory: number, step: Step): Move {
    const before = this.#images[memory]!;
    const scratch = this.#scratch;
    scratch.set(before);
    // That it went on is all that a wait tells.
    const value = step.wakers === null ? native[step.op](step.cell, 0, step.a, step.b) : 0;
    let after = memory;
    const last = step.word + step.cell.BYTES_PER_ELEMENT / 4;
    for (let w = step.word; w < last; w++)
      if (scratch[w] !== before[w]) {
        if (!this.#hot.includes(w)) this.#hot.push(w);
        after = -1;
      }
    if (after < 0) after = this.#intern(scratch);
    const ghost = this.ghost(step, before, this.#images[after]!);
    const key = `${value} ${ghost}`;
    let result = step.results.get(key);
    if (!result) {
      result = { value, ghost };
      step.results.set(key, result);
    }
    const move = { memory: after, result };
    step.moves.set(memory, move);
    return move;
  }

  /** The number of an image: equal memories have one. */
  #intern(image: Int32Array): number {
    const base = this.#images[0]!;
    let key = '';
    for (const w of this.#hot) if (image[w] !== base[w]) key += `${w}:${image[w]} `;
    let id = this.#imageIds.get(key);
    if (id === undefined) {
      id = this.#images.length;
      this.#images.push(image.slice());
      this.#imageIds.set(key, id);
    }
    return id;
  }
}
