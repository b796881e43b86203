// What control does to a window while workers commit to it, in every state that they can reach together. CI about 4 s.
import { describe, expect, it } from 'vitest';
import type { Edit } from '../../../scripts/instrument.ts';
import { TWO_32 } from '../src/esn.ts';
import { foundOut, line, violation } from './explored-table.ts';
import { burstsOf, dealt, ExploredWindow } from './explored-window.ts';
import type { Deed, Scene } from './explored-worker.ts';

const RING: Scene = {
  name: 'ring of 8 words',
  size: 32,
  esn: false,
  limit: 2000,
  before: [90, 100],
  offered: [69, 97, 101, 104, 133, 165],
};

/** Explores each case; adds a line of the table. */
function explore(what: string, window: ExploredWindow, cases: Iterable<readonly (readonly Deed[])[]>): void {
  for (const workers of cases) window.explore(workers);
  line(what, window.scenarios, window.states, window.schedules);
}

/** A build with edits must break a rule in one of the cases. */
async function findsOut(
  name: string,
  scene: Scene,
  edits: readonly Edit[],
  cases: readonly (readonly Deed[])[][],
): Promise<void> {
  const window = await ExploredWindow.create(scene, edits);
  const broken = violation(() => {
    for (const workers of cases) window.explore(workers);
  });
  expect(broken).not.toBeNull();
  foundOut(name, broken!.message.split('\n')[0]!);
}

describe('all numbers up to one accepted', () => {
  /**
   * Without its accounts, which are exact at rest only: they read every number of the window, write nothing that others
   * read, and would cost a thousand times the states.
   */
  const unaccounted: Edit[] = [
    {
      file: 'window.ts',
      find: 'this.#accounts.rebase(seq, this.accepted() - this.#count(seq + 1, top), this.lost());',
      replace: '',
    },
  ];
  /** One closes the window up to each of these: behind the top, ahead, at a region's end, by more than a window. */
  const cases = [97, 104, 133, 165].flatMap((acceptUpTo) =>
    burstsOf(RING.offered, 2).map((burst): Deed[][] => [[{ acceptUpTo }], [burst]]),
  );

  it('under traffic opens nothing again and takes no number twice', async () => {
    const window = await ExploredWindow.create(RING, unaccounted);
    explore('acceptUpTo, and a burst of 2', window, cases);
    const closers: Deed[][] = [
      [{ acceptUpTo: 97 }, [101]],
      [{ acceptUpTo: 104 }, [133]],
      [{ acceptUpTo: 133 }, [165]],
    ];
    explore(
      '2 workers, each of which closes and offers',
      await ExploredWindow.create(RING, unaccounted),
      dealt(closers, 2),
    );
  });

  it.each<[string, Edit]>([
    ['the edge not raised by acceptUpTo', { file: 'window.ts', find: 'this.#announce(seq);', replace: '' }],
    ['acceptUpTo one number short', { file: 'window.ts', find: 'BLOCK - 1 - (seq - s)', replace: 'BLOCK - (seq - s)' }],
  ])('finds out a build with: %s', (name, edit) => findsOut(name, RING, [...unaccounted, edit], cases));
});

describe('resynchronisation (RFC 4303 A3)', () => {
  const attempts = 3;
  const near = 3 * TWO_32 + 77;
  const scene: Scene = {
    name: 'three subspaces ahead',
    size: 32,
    esn: true,
    limit: 5 * TWO_32 + 10,
    before: [990, 1000],
    offered: [near, near + 1, 1001, 978, 5 * TWO_32 + 5, 5 * TWO_32 + 50],
  };
  const resync = (s: number): Deed => ({ resync: s, attempts });

  it('moves nothing before an ICV holds, tries no more than it may, and accepts no number twice', async () => {
    const one: Deed[][] = [[resync(near)], [resync(near), [near + 1]], [[1001], resync(near + 1)], [[978, 1001]]];
    explore('resync, 2 workers', await ExploredWindow.create(scene), dealt(one, 2));
    explore('resync, 3 workers', await ExploredWindow.create(scene), [
      [[resync(near)], [resync(near)], [[978, 1001]]],
      [[resync(near)], [resync(near + 1)], [[1001]]],
    ]);
  });

  /** Within reach; a subspace too far; beyond LIMIT, with attempts to spare. */
  const alone: Deed[][][] = [
    [[resync(near)]],
    [[resync(5 * TWO_32 + 5)], [[1001]]],
    [[{ resync: 5 * TWO_32 + 50, attempts: 6 }], [[1001]]],
  ];

  it('reaches what is ahead by no more than its attempts, and nothing beyond LIMIT', async () => {
    explore('resync, near and far', await ExploredWindow.create(scene), alone);
  });

  it.each<[string, Edit]>([
    ['resync without a bound', { file: 'resync.ts', find: 'if (attempt > this.#attempts) return -1;', replace: '' }],
    [
      'resync beyond LIMIT',
      { file: 'resync.ts', find: 'return number <= this.#window.limit ? number : -1;', replace: 'return number;' },
    ],
    [
      'resync from the top itself',
      { file: 'resync.ts', find: 'const number = inferred +', replace: 'const number = this.#window.top() +' },
    ],
  ])('finds out a build with: %s', (name, edit) => findsOut(name, scene, [edit], alone));
});

describe('a takeover', () => {
  const bursts = burstsOf(RING.offered, 2);
  const among = (deed: Deed): Deed[][][] => bursts.map((burst) => [[deed], [burst]]);

  it('by a mark with a margin for what still arrives accepts nothing a second time', async () => {
    explore('exportMark, and a burst of 2', await ExploredWindow.create(RING), among({ mark: 65 }));
    const three = [...dealt(bursts.slice(0, 12), 2)].map((pair): Deed[][] => [
      [{ mark: 65 }],
      ...pair.map((burst) => [burst]),
    ]);
    explore('exportMark, and two bursts of 2', await ExploredWindow.create(RING), three);
  });

  it('by a mark with too small a margin would, and so would one by the state of a window in use', async () => {
    for (const deed of [{ mark: 0 }, { copy: true }] as const) {
      const window = await ExploredWindow.create(RING);
      const broken = violation(() => {
        for (const s of RING.offered) window.explore([[deed], [[s]]]);
      });
      expect(broken?.message).toMatch(/accepted here and by the copy/);
    }
  });
});
