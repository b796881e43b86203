import type { Edit, Program } from '../../../scripts/explorer.ts';
import { instrument, Machine, Violation } from '../../../scripts/explorer.ts';
import type { Place, Step } from '../src/index.ts';
import type * as Parts from './explored-parts.ts';

/** One SA (slot 0) on two lowers; at first on lower 0 alone, which carries the traffic. */
const SLOT = 0;
const LOWERS = 2;
/** What the lowers' own books say of a handle. */
const FREED = 0;
const LIVE = 1;
const DELETED = 2;
/** A burst finds one of these lists of usable slaves, or two were mixed. */
const LISTS = ['', '0', '1', '0,1'];

/** What the control actor does, in its own words; steps of a plan are the shipped planner's. */
export type Deed =
  | { readonly join: number; readonly late?: 'usable first' }
  | { readonly leave: number }
  | { readonly kill: true };

export interface WorkerDeeds {
  readonly bursts: number;
  /** Its lower completes a frame only when the worker has ended its last burst; the ring holds one frame. */
  readonly slow?: boolean;
  /** Killed right after so many accesses. */
  readonly dies?: number;
}

export interface Scene {
  readonly name: string;
  readonly actor: readonly Deed[];
  readonly workers: readonly WorkerDeeds[];
  /** Snapshots that can be in use at once; as shipped when absent. Few are used again soon. */
  readonly places?: number;
  /** The actor takes a worker for gone before its exit event. */
  readonly goneEarly?: boolean;
}

interface Facts {
  /** Accesses so far. */
  steps: number;
  /** The last load and what it gave. */
  word: number;
  value: number;
  dead: boolean;
  /** Frames that left under a handle, of all bursts. */
  sent: number;
}

/** Thrown through the code under test: its thread is gone. */
const KILLED = Symbol('killed');

/** So that the code can be stepped through: what waits by a Promise waits in place, what is read under a pin is an access. */
const STEPPED: readonly Edit[] = [
  ['async publish(usable: readonly number[]): Promise<void> {', 'publish(usable: readonly number[]): void {'],
  ['while (!this.post(usable)) await this.#idle();', 'while (!this.post(usable)) this.#idle();'],
  ['while (!this.#passed(epoch)) await this.#idle();', 'while (!this.#passed(epoch)) this.#idle();'],
  ['const epoch = this.#words[EPOCH]! + 1;', 'const epoch = Atomics.load(this.#words, EPOCH) + 1;'],
  ['const epoch = this.#words[EPOCH]!;', 'const epoch = Atomics.load(this.#words, EPOCH);'],
  [
    'const at = place(this.ticket, this.#words[EPOCH]!);',
    'const at = place(this.ticket, Atomics.load(this.#words, EPOCH));',
  ],
  [
    'return Array.from({ length: this.#words[at]! }, (_, i) => this.#words[at + 1 + i]!);',
    'return Array.from({ length: Atomics.load(this.#words, at) }, (_, i) => Atomics.load(this.#words, at + 1 + i));',
  ],
  ['return this.#words[this.#at]!;', 'return Atomics.load(this.#words, this.#at);'],
  ['return this.#words[this.#at + 1 + i]!;', 'return Atomics.load(this.#words, this.#at + 1 + i);'],
  // Every run of the actor goes over one memory.
  ['memory: new SharedArrayBuffer(size)', 'memory: (idle as any).memory ?? new SharedArrayBuffer(size)'],
].map(([find, replace]) => ({ file: 'snapshot.ts', find: find!, replace: replace! }));

function placesOf({ places }: Scene): Edit[] {
  return places === undefined
    ? []
    : [{ file: 'snapshot.ts', find: 'const PLACES = 8;', replace: `const PLACES = ${places};` }];
}

/** Every state that the actor and the workers of a scene can reach together; throws Violation in one that breaks a rule. */
export async function exploreBond(
  scene: Scene,
  edits: readonly Edit[] = [],
): Promise<{ states: number; schedules: number }> {
  const machine = new Machine();
  const entry = new URL('./explored-parts.ts', import.meta.url).pathname;
  const parts = await instrument<typeof Parts>(machine, entry, [...STEPPED, ...placesOf(scene), ...edits]);
  const atomics = machine.atomics as Pick<typeof Atomics, 'load' | 'store'>;
  const workers = scene.workers.length;

  const table = parts.ReplicaTable.create(1, LOWERS);
  const posted = Array.from({ length: LOWERS }, () => new parts.PostedTable(workers));
  const publisherOf = (idle: () => void, memory?: SharedArrayBuffer): Parts.SnapshotPublisher =>
    new parts.SnapshotPublisher(workers, LOWERS, Object.assign(idle, { memory }) as never);
  const { ticket } = publisherOf(() => {});
  /** By lower: handle * 4 + what its book says; then, by worker, whether it has exited. */
  const world = new Int32Array(new SharedArrayBuffer(4 * (LOWERS + workers)));
  const book = (lower: number): number => atomics.load(world, lower);

  let handles = 0;
  table.write(SLOT, 0, ++handles);
  world[0] = handles * 4 + LIVE;
  publisherOf(() => {}, ticket.memory).post([0]);
  for (const memory of [ticket.memory, table.ticket.memory, world.buffer as SharedArrayBuffer])
    machine.share(memory, 0);
  for (const { memory } of posted) machine.share(memory, 0);
  machine.start();
  const exitWord = (worker: number): number => machine.wordOf(world.buffer as SharedArrayBuffer, 4 * (LOWERS + worker));

  const seen = (facts: Facts, step: { op: string; word: number }, { value }: { value: number | bigint }): void => {
    facts.steps++;
    if (step.op !== 'load') return;
    facts.word = step.word;
    facts.value = Number(value);
  };
  const facts = (): Facts => ({ steps: 0, word: -1, value: 0, dead: false, sent: 0 });

  const actor: Program<Facts> = {
    name: scene.actor.map((deed) => JSON.stringify(deed)).join(' '),
    facts,
    seen,
    run(my) {
      const gone = new Set<number>();
      /** A look that failed is taken again once what it stumbled over has changed, or a worker has exited. */
      const idle = (): void => {
        const mortal = scene.workers.flatMap(({ dies }, w) => (dies === undefined || gone.has(w) ? [] : [w]));
        machine.until([{ word: my.word, not: my.value }, ...mortal.map((w) => ({ word: exitWord(w), not: 0 }))]);
        for (const w of mortal) {
          if (!scene.goneEarly && atomics.load(world, LOWERS + w) === 0) continue;
          gone.add(w);
          publisher.workerGone(w);
          for (const lower of posted) lower.portGone(w);
        }
      };
      const publisher = publisherOf(idle, ticket.memory);
      const usable = new Set([0]);
      const cells = new Set([0]);
      let next = 1;
      const publish = (): void => {
        while (!publisher.post([...usable].sort())) idle();
        rest();
      };
      const perform = (step: Step): void => {
        if (step.op === 'hide') table.write(SLOT, step.lower, 0);
        else if (step.op === 'grace') publisher.grace();
        else if (step.op === 'delete') {
          if ((book(step.lower) & 3) !== LIVE) throw new Violation('deleted without an add, or twice');
          atomics.store(world, step.lower, book(step.lower) - LIVE + DELETED);
        } else if (step.op === 'drain') {
          const fallen = posted[step.lower]!.fence();
          while (!fallen()) idle();
        } else if (step.op === 'free') {
          if ((book(step.lower) & 3) !== DELETED) throw new Violation('freed before it was deleted, or twice');
          atomics.store(world, step.lower, FREED);
        } else throw new Error(`the actor was not told how to ${step.op}`);
      };
      const takeAway = (places: readonly Place[]): void => {
        for (const step of [...parts.planLeave(places), ...parts.planFree(places)]) {
          perform(step);
          rest();
        }
        for (const { lower } of places) cells.delete(lower);
      };
      let at = 0;
      /** Where it is in its deeds, and who is gone, is all that it goes on with. */
      const rest = (): void => {
        my.steps = my.value = 0;
        my.word = -1;
        machine.rests(`${++at} ${[...gone]}`);
      };
      for (const deed of scene.actor) {
        if ('join' in deed) {
          if (deed.late !== undefined) {
            usable.add(deed.join);
            publish();
          }
          atomics.store(world, deed.join, ++next * 4 + LIVE);
          table.write(SLOT, deed.join, next);
          cells.add(deed.join);
          usable.add(deed.join);
          publish();
        } else if ('leave' in deed) {
          usable.delete(deed.leave);
          publish();
          publisher.grace();
          rest();
          takeAway([{ slot: SLOT, lower: deed.leave }]);
        } else {
          for (const lower of cells) table.write(SLOT, lower, 0);
          takeAway([...cells].map((lower) => ({ slot: SLOT, lower })));
        }
      }
    },
  };

  const mayLack = scene.actor.some((deed) => 'kill' in deed);
  const worker = (deeds: WorkerDeeds, me: number): Program<Facts> => ({
    name: `worker ${me} ${JSON.stringify(deeds)}`,
    facts,
    seen(my, step, result) {
      seen(my, step, result);
      if (!my.dead && my.steps === deeds.dies) {
        my.dead = true;
        throw KILLED;
      }
    },
    run(my) {
      const reader = new parts.SnapshotReader(ticket, me);
      const cells = parts.ReplicaTable.attach(table.ticket);
      const ports = posted.map(({ memory }) => new parts.PostedCount(memory, me));
      let flying: { lower: number; handle: number }[] = [];
      const complete = (): void => {
        for (const { lower, handle } of flying) {
          if ((book(lower) & 3) === FREED || book(lower) >> 2 !== handle)
            throw new Violation(`handle ${handle} was freed under a frame of lower ${lower}`);
          ports[lower]!.complete(1);
        }
        flying = [];
      };
      const burst = (): void => {
        reader.pin();
        const lowers = Array.from({ length: reader.count() }, (_, i) => reader.usable(i));
        if (!LISTS.includes(lowers.join())) throw new Violation(`usable is [${lowers}], which nobody posted`);
        for (const lower of lowers) {
          if (deeds.slow && flying.some((f) => f.lower === lower)) continue;
          const handle = cells.stateLowerHandle(SLOT, lower);
          if (handle === 0) {
            if (!mayLack) throw new Violation(`lower ${lower} is usable and has no handle`);
            continue;
          }
          if (book(lower) !== handle * 4 + LIVE)
            throw new Violation(`a frame under handle ${handle}, which lower ${lower} does not hold`);
          ports[lower]!.post(1);
          flying.push({ lower, handle });
          my.sent++;
        }
        reader.unpin();
        if (!deeds.slow) complete();
      };
      try {
        for (let b = 0; b < deeds.bursts; b++) {
          burst();
          if (deeds.dies !== undefined || flying.length > 0) continue;
          my.steps = my.value = 0;
          my.word = -1;
          my.sent = Math.min(my.sent, 1);
          machine.rests(`${b} ${my.sent}`);
        }
        complete();
      } catch (error) {
        if (error !== KILLED) throw error;
        atomics.store(world, LOWERS + me, 1);
      }
    },
  });

  let sent = false;
  const visit = machine.explore<Facts>([actor, ...scene.workers.map(worker)], (all, memory, done) => {
    if (!done) return;
    machine.look(memory, () => {
      for (let lower = 0; lower < LOWERS; lower++) {
        const held = world[lower]! === FREED ? 0 : world[lower]! >> 2;
        if ((world[lower]! & 3) === DELETED) throw new Violation(`at rest, lower ${lower} has a deleted handle`);
        if (table.read(SLOT, lower) !== held) throw new Violation(`at rest, the cell of lower ${lower} is wrong`);
      }
    });
    if (all.some((f) => f.sent > 0)) sent = true;
  });
  if (!sent && scene.workers.every(({ dies }) => dies === undefined))
    throw new Error(`${scene.name}: nothing was ever sent`);
  return visit;
}
