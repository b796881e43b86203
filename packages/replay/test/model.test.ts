// Every state that workers of the shipped code can reach together, one atomic access a step: scripts/explorer.ts.
// CI about 20 s; ESPALIER_LONG=1 offers more numbers, about a minute.
import { afterAll, describe, expect, it } from 'vitest';
import { type Edit, Machine, type Program, Violation } from '../../../scripts/explorer.ts';
import { type Deed, exploreAllocator } from './explored-allocator.ts';
import { burstsOf, dealt, ExploredWindow, type Scene } from './explored-window.ts';

const LONG = process.env.ESPALIER_LONG === '1';
const table: string[] = [];
const line = (what: string, scenarios: number, states: number, schedules: number): void => {
  table.push(
    `${what.padEnd(52)} ${String(scenarios).padStart(6)} ${String(states).padStart(10)} ${schedules.toExponential(2).padStart(9)}`,
  );
};

// Numbers are chosen where things happen: the left edge and what a step or a jump makes of it, the next region, the same
// word one and two laps of the ring later. Windows span 32 or 64 numbers, regions 8 or 16, rings 64 numbers and up.
const TWO_32 = 2 ** 32;
const END = 2 ** 35;
const SCENES: Scene[] = [
  {
    name: 'ring of 8 words',
    size: 32,
    esn: false,
    limit: 2000,
    before: [90, 100],
    offered: [69, 133, 101, 165, 104, 197],
  },
  {
    name: 'bits of one word',
    size: 64,
    esn: false,
    limit: 2000,
    before: [200],
    offered: [137, 138, 265, 201, 329, 143],
  },
  {
    name: 'across 2^32',
    size: 32,
    esn: true,
    limit: 2 * TWO_32,
    before: [TWO_32 - 20, TWO_32 - 3],
    offered: [TWO_32 - 34, TWO_32 + 1, TWO_32 + 1022, TWO_32 - 2, TWO_32 + 30, TWO_32 + 5],
  },
  {
    name: 'up to LIMIT',
    size: 32,
    esn: true,
    limit: END - 2,
    before: [END - 45, END - 38],
    offered: [END - 69, END - 6, END - 2, END - 1, END - 37, END - 38],
  },
];

/** Sources broken on purpose; each must be found out by at least one scene. */
const WINDOW = 'window.ts';
const LOOK = 'if (s < this.#sure && s <= this.#exactTop() - this.size) return Verdict.STALE;';
const ANNOUNCE = 'if (run >= this.#edgeAhead + this.#region) this.#announce(Math.max(this.#run, this.#sure + run));';
const CLAIM = 'const whole = this.#claimAll() && copies === 0;';
const WHOLE = 'if (ahead >= 0 && ahead <= room && hi === sureHi && behind < size) {';
const BROKEN: Record<string, Edit[]> = {
  'tags compared for equality': [
    { file: WINDOW, find: 'const fresh = lap < tag ? asked', replace: 'const fresh = lap !== tag ? asked' },
    { file: WINDOW, find: 'const next = lap < tag ?', replace: 'const next = lap !== tag ?' },
  ],
  'edge raised after the words': [
    { file: WINDOW, find: ANNOUNCE, replace: '' },
    { file: WINDOW, find: CLAIM, replace: `${CLAIM}\n      ${ANNOUNCE}` },
  ],
  'grant by the value that check saw': [
    {
      file: WINDOW,
      find: 'table[entry | MASK] = fresh;',
      replace: 'table[entry | MASK] = asked & ~(table[entry | SEEN]! >>> 8 === tag ? table[entry | SEEN]! : 0);',
    },
  ],
  'a plain store instead of the swap': [
    {
      file: WINDOW,
      find: 'const found = Atomics.compareExchange(this.#words, at, word, next);',
      replace: 'Atomics.store(this.#words, at, next);\n      const found = word;',
    },
  ],
  "rows judged by the burst's maximum": [
    {
      file: WINDOW,
      find: 'let copies = 0;',
      replace: `let copies = 0;
    for (let j = from; j < to; j++) {
      const r = list[j]! * 16;
      const s = rows[r + SEQ_HI]! * TWO_32 + (rows[r + SEQ_LO]! >>> 0);
      if (rows[r + FATE] === 0 && s <= this.limit) run = Math.max(run, s - this.#sure) | 0;
    }`,
    },
  ],
  'rows before it in the burst forgotten': [
    { file: WINDOW, find: WHOLE, replace: WHOLE.replace('behind < size', 'true') },
  ],
  'lenient edge': [{ file: WINDOW, find: LOOK, replace: '' }],
  'strict edge': [{ file: WINDOW, find: LOOK, replace: 'if (s < this.#sure) return Verdict.STALE;' }],
  'ring one block short': [
    { file: 'shape.ts', find: 'BLOCK << logBlocks < size + BLOCK - 1', replace: 'BLOCK << logBlocks < size' },
  ],
  'copies in a burst not separated': [
    { file: WINDOW, find: 'table[entry | MASK] = table[entry | MASK]! & ~bit;', replace: '' },
  ],
  'copies in a burst not noticed': [{ file: WINDOW, find: CLAIM, replace: CLAIM.replace(' && copies === 0', '') }],
  'a refused word not noticed': [
    {
      file: WINDOW,
      find: '&& !this.#claim(order[k]!)) whole = false;',
      replace: '&& !this.#claim(order[k]!)) continue;',
    },
  ],
  'blocks at the left edge judged as a whole': [
    { file: WINDOW, find: WHOLE, replace: WHOLE.replace('ahead >= 0', 'true') },
  ],
  'blocks that LIMIT cuts judged as a whole': [{ file: WINDOW, find: ' - (BLOCK - 1)) | 0', replace: ') | 0' }],
  'old bits kept in a recycled word': [
    { file: WINDOW, find: '(tag << 8) | asked : word', replace: '(tag << 8) | (word & 255) | asked : word' },
  ],
  'stripe that is no bijection': [
    { file: 'layout.ts', find: '((group >>> logLines) << 2)', replace: '((group >>> (logLines + 1)) << 2)' },
  ],
  'signed shift of the tag': [{ file: WINDOW, find: 'const lap = word >>> 8;', replace: 'const lap = word >> 8;' }],
  'no LIMIT': [
    { file: WINDOW, find: 'if (s > this.limit) return Verdict.EXHAUSTED;', replace: '' },
    { file: WINDOW, find: 'Math.min(this.limit - sure, FARTHEST', replace: 'Math.min(FARTHEST' },
  ],
};

/** The violation that code leads to, null if it keeps the rules. */
function violation(explore: () => void): Violation | null {
  try {
    explore();
    return null;
  } catch (error) {
    if (error instanceof Violation) return error;
    throw error;
  }
}

describe('the window, in every state that workers can reach together', () => {
  for (const scene of SCENES) {
    it(`takes each number once, none left of the window, and refuses no fresh one: ${scene.name}`, {
      timeout: 600_000,
    }, async () => {
      // Shape, workers, bursts of each, numbers of a burst, how many different numbers are offered.
      const shapes: [string, number, number, number, number][] = [
        ['2 workers, a burst of 3', 2, 1, 3, 5],
        ['3 workers, a burst of 2', 3, 1, 2, 4],
        ['2 workers, 3 bursts of 1', 2, 3, 1, 3],
      ];
      for (const [shape, workers, bursts, length, choice] of shapes) {
        const window = await ExploredWindow.create(scene);
        const numbers = scene.offered.slice(0, LONG ? choice + 1 : choice);
        const one = burstsOf(numbers, bursts * length).map((s) =>
          Array.from({ length: bursts }, (_, b) => s.slice(b * length, (b + 1) * length)),
        );
        for (const all of dealt(one, workers)) window.explore(all);
        line(`window, ${scene.name}: ${shape}`, window.scenarios, window.states, window.schedules);
        expect(window.schedules).toBeGreaterThan(1e6);
      }
    });
  }

  for (const [name, edits] of Object.entries(BROKEN))
    it(`finds out a build with: ${name}`, async () => {
      const found: string[] = [];
      for (const scene of SCENES) {
        const window = await ExploredWindow.create(scene, edits);
        const broken = violation(() => {
          for (const bursts of dealt(burstsOf(scene.offered.slice(0, 5), 3), 2)) window.explore(bursts.map((b) => [b]));
        });
        if (!broken) continue;
        found.push(`${scene.name}: ${broken.message.split('\n')[0]}`);
        break;
      }
      expect(found).toHaveLength(1);
      table.push(`broken, ${name}: ${found[0]}`);
    });
});

describe('the allocator, in every state that workers can reach together', () => {
  const r = (reserve: number): Deed => ({ reserve });
  const CASES: [string, number, Deed[][]][] = [
    [
      '2 workers, 3 bursts of 1 to 3, room for all',
      30,
      [
        [r(2), r(1), r(3)],
        [r(3), r(2), r(1)],
      ],
    ],
    [
      '2 workers, 3 bursts, a limit within',
      7,
      [
        [r(2), r(1), r(3)],
        [r(3), r(2), r(1)],
      ],
    ],
    [
      '3 workers, 2 bursts, a limit within',
      9,
      [
        [r(2), r(3)],
        [r(3), r(1)],
        [r(2), r(2)],
      ],
    ],
    [
      '3 workers, 2 bursts, a jump forward among them',
      20,
      [
        [r(2), r(3)],
        [{ advanceTo: 9 }, r(2)],
        [r(3), { advanceTo: 6 }],
      ],
    ],
    [
      '2 workers, a jump to the end',
      12,
      [
        [r(3), r(3), r(3)],
        [{ advanceTo: 13 }, r(1)],
      ],
    ],
  ];
  it('gives each number once, none beyond the limit, and none is lost', async () => {
    for (const [name, limit, workers] of CASES) {
      const { states, schedules } = await exploreAllocator(limit, workers);
      line(`allocator, ${name}`, 1, states, schedules);
      expect(schedules).toBeGreaterThan(10);
    }
  });

  const SWAP = 'const found = Atomics.compareExchange(this.#next, 0, seen, BigInt(next + take));';
  const FILE = 'allocator.ts';
  it.each<[string, Edit[]]>([
    [
      'a load and a store instead of the swap',
      [{ file: FILE, find: SWAP, replace: 'Atomics.store(this.#next, 0, BigInt(next + take)); const found = seen;' }],
    ],
    ['no saturation', [{ file: FILE, find: 'Math.min(count, this.#seenMark + 1 - next)', replace: 'count' }]],
    ['a jump that may go back', [{ file: FILE, find: 'seen < wanted;', replace: 'seen !== wanted;' }]],
  ])('finds out a build with: %s', async (_, edits) => {
    const found = [];
    for (const [, limit, workers] of CASES) {
      try {
        await exploreAllocator(limit, workers, edits);
      } catch (error) {
        if (!(error instanceof Violation)) throw error;
        found.push(error);
      }
    }
    expect(found.length).toBeGreaterThan(0);
  });
});

describe('the explorer', () => {
  /** RFC 6479 put into shared memory with atomics: raise the edge, clear what it skipped, turn the bit on. */
  function shared6479(atomics: typeof Atomics, words: Int32Array, s: number): boolean {
    const [bits, ring] = [2, 3];
    let last: number;
    do last = atomics.load(words, 0);
    while (last < s && atomics.compareExchange(words, 0, last, s) !== last);
    for (let b = Math.floor(last / bits) + 1; b <= Math.floor(s / bits) && b <= last / bits + ring; b++)
      atomics.store(words, 1 + (b % ring), 0);
    if (s + bits * (ring - 1) <= atomics.load(words, 0)) return false;
    const bit = 1 << (s % bits);
    return (atomics.or(words, 1 + (Math.floor(s / bits) % ring), bit) & bit) === 0;
  }

  function twoWorkers(code: (atomics: typeof Atomics, words: Int32Array, s: number) => boolean): Violation | null {
    const machine = new Machine();
    const words = new Int32Array(new SharedArrayBuffer(64));
    machine.share(words.buffer as SharedArrayBuffer, 0);
    machine.start();
    const program = (numbers: number[]): Program<{ accepted: number }> => ({
      name: numbers.join(' '),
      facts: () => ({ accepted: 0 }),
      run(facts) {
        for (const s of numbers) if (code(machine.atomics as typeof Atomics, words, s)) facts.accepted |= 1 << s;
      },
    });
    return violation(() => {
      for (const pair of dealt(burstsOf([1, 5, 8], 2), 2))
        machine.explore(pair.map(program), (facts) => {
          if ((facts[0]!.accepted & facts[1]!.accepted) !== 0) throw new Violation('accepted twice');
        });
    });
  }

  it('sees RFC 6479 accept a number twice when it is put into shared memory', () => {
    const found = twoWorkers(shared6479);
    expect(found?.message).toMatch(/accepted twice/);
  });

  it('sees that a lock makes one worker wait for another', () => {
    const found = twoWorkers((atomics, words, s) => {
      while (atomics.compareExchange(words, 15, 0, 1) !== 0);
      const fresh = shared6479(atomics, words, s);
      atomics.store(words, 15, 0);
      return fresh;
    });
    expect(found?.message).toMatch(/waits/);
  });
});

afterAll(() => {
  process.stdout.write(`${'explored'.padEnd(52)} ${'cases'.padStart(6)} ${'states'.padStart(10)} schedules\n`);
  process.stdout.write(`${table.join('\n')}\n`);
});
