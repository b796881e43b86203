// Every state that the control actor and two workers can reach together, over the shipped snapshots, pins, grace, handle
// cells, fences and plans, one access a step: scripts/explorer.ts. ESPALIER_LONG=1: more bursts.
import { afterAll, describe, expect, it } from 'vitest';
import { type Edit, Violation } from '../../../scripts/explorer.ts';
import { type Deed, exploreBond, type Scene, type WorkerDeeds } from './explored-bond.ts';

const LONG = process.env.ESPALIER_LONG === '1';
/** More accesses than a worker makes in a burst: killed after every one of them. */
const ACCESSES = 16;

const LIVES: Record<string, readonly Deed[]> = {
  'a slave joins': [{ join: 1 }],
  'a slave leaves': [{ leave: 0 }],
  'another takes its place': [{ join: 1 }, { leave: 0 }],
  'one goes and comes again': [{ leave: 0 }, { join: 0 }],
  'the SA is deleted': [{ kill: true }],
};
const TWO: readonly WorkerDeeds[] = [{ bursts: LONG ? 2 : 1 }, { bursts: 1 }];
const scene = (name: string, workers = TWO): Scene => ({ name, actor: LIVES[name]!, workers });

const table: string[] = [];
async function explored(what: string, scenes: readonly Scene[], edits: readonly Edit[] = []): Promise<void> {
  const began = performance.now();
  let states = 0;
  let schedules = 0;
  for (const one of scenes) {
    const visit = await exploreBond(one, edits);
    states += visit.states;
    schedules += visit.schedules;
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  table.push(
    `${what.padEnd(44)} ${String(scenes.length).padStart(4)} ${String(states).padStart(9)} ${schedules.toExponential(2).padStart(9)} ${seconds.padStart(6)} s`,
  );
}

afterAll(() => console.log(['scenes, states, schedules', ...table].join('\n')));

describe('in every state that the actor and two workers can reach', () => {
  it.each(Object.keys(LIVES))(
    'no frame leaves a lower that does not hold its handle, or after it was freed: %s',
    async (name) => {
      // That one has 7 million states with two workers.
      const workers = name === 'another takes its place' && !LONG ? [{ bursts: 2 }] : TWO;
      await explored(name, [scene(name, workers)]);
    },
    600_000,
  );

  it('the same holds while a lower is slow to complete and its ring is full', async () => {
    const slow = { bursts: 2, slow: true };
    const beside = LONG ? [slow, { bursts: 1 }] : [slow];
    await explored('a full ring', [scene('a slave leaves', beside), scene('the SA is deleted', [slow, { bursts: 1 }])]);
  }, 120_000);

  it('the same holds where snapshots are few and are used again while workers look', async () => {
    await explored('two places for snapshots', [{ ...scene('one goes and comes again'), places: 2 }]);
  }, 120_000);

  it.each(['a slave leaves', 'the SA is deleted'])(
    'the same holds, and nobody waits for ever, wherever a worker is killed: %s',
    async (name) => {
      // Beside another worker a slave that leaves has 6 million states.
      const others = LONG || name === 'the SA is deleted' ? [{ bursts: 1 }] : [];
      const scenes = Array.from({ length: ACCESSES }, (_, dies) =>
        scene(name, [{ bursts: 1, dies, slow: true }, ...others]),
      );
      await explored(`a killed worker: ${name}`, scenes);
    },
    300_000,
  );
});

/** Sources broken on purpose, and the scene that finds it. */
const SNAPSHOT = 'snapshot.ts';
const BROKEN: Record<string, { readonly edits: readonly Edit[]; readonly scene: Scene; readonly finds: RegExp }> = {
  'pinned without a second look': {
    edits: [
      {
        file: SNAPSHOT,
        find: '} while (Atomics.load(this.#words, EPOCH) !== epoch);',
        replace: '} while (false as boolean);',
      },
    ],
    scene: scene('one goes and comes again'),
    finds: /does not hold|has no handle|nobody posted/,
  },
  'no wait for grace': {
    edits: [{ file: SNAPSHOT, find: 'while (!this.#passed(epoch)) this.#idle();', replace: '' }],
    scene: scene('a slave leaves'),
    finds: /does not hold|has no handle/,
  },
  'grace that is over one epoch too early': {
    edits: [
      {
        file: SNAPSHOT,
        find: 'if (pin !== 0 && pin < epoch) return false;',
        replace: 'if (pin !== 0 && pin < epoch - 1) return false;',
      },
    ],
    scene: scene('the SA is deleted'),
    finds: /does not hold|has no handle|nobody posted/,
  },
  'grace that looks at one worker only': {
    edits: [{ file: SNAPSHOT, find: 'worker < this.ticket.workers; worker++', replace: 'worker < 1; worker++' }],
    scene: scene('a slave leaves'),
    finds: /does not hold|has no handle|nobody posted/,
  },
  'an epoch that is told before its snapshot is written': {
    edits: [
      { file: SNAPSHOT, find: '    Atomics.store(this.#words, EPOCH, epoch);\n', replace: '' },
      {
        file: SNAPSHOT,
        find: '    Atomics.store(this.#words, at, usable.length);\n',
        replace: '    Atomics.store(this.#words, EPOCH, epoch);\n    Atomics.store(this.#words, at, usable.length);\n',
      },
    ],
    scene: scene('a slave joins'),
    finds: /nobody posted|does not hold|has no handle/,
  },
  'a place that is written while it is pinned': {
    edits: [{ file: SNAPSHOT, find: 'if (!this.#passed(epoch - PLACES + 1)) return false;', replace: '' }],
    scene: { ...scene('another takes its place', [{ bursts: 1 }]), places: 2 },
    finds: /nobody posted|does not hold|has no handle/,
  },
  'a burst that does not unpin': {
    edits: [{ file: SNAPSHOT, find: 'Atomics.store(this.#words, this.#pin, 0);', replace: '' }],
    scene: scene('a slave leaves'),
    finds: /everybody waits/,
  },
  'deleted before nothing resolves': {
    edits: [
      {
        file: 'plan.ts',
        find: "return [...each('hide'), { op: 'grace' }, ...each('delete')];",
        replace: "return [...each('delete'), { op: 'grace' }, ...each('hide')];",
      },
    ],
    scene: scene('the SA is deleted'),
    finds: /does not hold/,
  },
  'no grace between hiding and deleting': {
    edits: [
      {
        file: 'plan.ts',
        find: "return [...each('hide'), { op: 'grace' }, ...each('delete')];",
        replace: "return [...each('hide'), ...each('delete')];",
      },
    ],
    scene: scene('the SA is deleted'),
    finds: /does not hold/,
  },
  'freed without a look at the ring': {
    edits: [
      {
        file: 'plan.ts',
        find: "...lowers.map((lower): Step => ({ op: 'drain', lower })),",
        replace: '',
      },
    ],
    scene: scene('one goes and comes again', [{ bursts: 2, slow: true }, { bursts: 1 }]),
    finds: /was freed under a frame/,
  },
  'a fence that only asks the first port': {
    edits: [
      {
        file: 'posted.ts',
        find: 'return () => posted.every((count, port) =>',
        replace: 'return () => posted.slice(0, 1).every((count, port) =>',
      },
    ],
    scene: scene('one goes and comes again', [{ bursts: 1 }, { bursts: 2, slow: true }]),
    finds: /was freed under a frame/,
  },
  'usable before the handle is there': {
    edits: [],
    scene: { ...scene('a slave joins'), actor: [{ join: 1, late: 'usable first' }] },
    finds: /has no handle/,
  },
  'a worker that counts as gone before its exit': {
    edits: [],
    scene: { ...scene('the SA is deleted', [{ bursts: 1, dies: 99 }, { bursts: 1 }]), goneEarly: true },
    finds: /does not hold|was freed under a frame/,
  },
  'a dead worker that nobody tells of': {
    edits: [{ file: SNAPSHOT, find: 'this.#gone.add(worker);', replace: '' }],
    scene: scene('a slave leaves', [{ bursts: 1, dies: 3 }, { bursts: 1 }]),
    finds: /everybody waits/,
  },
};

describe('the explorer finds', () => {
  it.each(Object.entries(BROKEN))(
    '%s',
    async (_, { edits, scene: where, finds }) => {
      const found: unknown = await exploreBond(where, edits).then(
        () => null,
        (error) => error,
      );
      expect(found).toBeInstanceOf(Violation);
      expect((found as Violation).message).toMatch(finds);
    },
    60_000,
  );
});
