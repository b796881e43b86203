// Every state that workers of the shipped lifetime and of a marked allocator can reach together: scripts/explorer.ts.
// CI about 3 s.
import { describe, expect, it } from 'vitest';
import { Machine, type Program, Violation } from '../../../scripts/explorer.ts';
import { type Edit, instrument } from '../../../scripts/instrument.ts';
import type * as Replay from '../src/index.ts';
import { Column } from '../src/layout.ts';

const ENTRY = new URL('../src/index.ts', import.meta.url).pathname;
const SOFT = 1;
const HARD = 2;

interface Used {
  packets: number;
  bytes: number;
  /** A burst got less than it asked for. */
  refused: boolean;
  /** Events it was told, a list. */
  told: number[];
}

interface Limits {
  readonly softPackets?: number;
  readonly hardPackets?: number;
  readonly softBytes?: number;
  readonly hardBytes?: number;
  readonly quotaPackets: number;
  readonly quotaBytes: number;
}

/** What a worker does, one after the other: a burst of packets of these lengths, or a look for events. */
type Deed = readonly number[] | 'events';

async function exploreLifetime(
  limits: Limits,
  workers: readonly (readonly Deed[])[],
  edits: readonly Edit[] = [],
): Promise<{ states: number; schedules: number }> {
  const machine = new Machine();
  const { Lifetime } = await instrument<typeof Replay>(machine, ENTRY, edits);
  const shared = Lifetime.create(limits);
  machine.share(shared.memory, 64);
  machine.start();
  const { softPackets = Infinity, hardPackets = Infinity, softBytes = Infinity, hardBytes = Infinity } = limits;
  const program = (deeds: readonly Deed[]): Program<Used> => ({
    name: JSON.stringify(deeds),
    facts: () => ({ packets: 0, bytes: 0, refused: false, told: [] }),
    run(facts) {
      const mine = Lifetime.attach(shared.memory, 0);
      for (const deed of deeds) {
        if (deed === 'events') {
          const events = mine.events();
          for (const event of [SOFT, HARD]) if ((events & event) !== 0) facts.told.push(event);
          continue;
        }
        const rows = new Int32Array(deed.length * Column.WORDS);
        for (let i = 0; i < deed.length; i++) rows[i * Column.WORDS + Column.END] = deed[i]!;
        const list = Int32Array.from(deed, (_, i) => i);
        const granted = mine.grant(rows, list, 0, deed.length);
        if (granted < deed.length) facts.refused = true;
        facts.packets += granted;
        for (let i = 0; i < granted; i++) facts.bytes += deed[i]!;
      }
    },
  });
  return machine.explore(workers.map(program), (facts, memory, done) => {
    const packets = facts.reduce((sum, f) => sum + f.packets, 0);
    const bytes = facts.reduce((sum, f) => sum + f.bytes, 0);
    if (packets > hardPackets || bytes > hardBytes) throw new Violation(`${packets} packets, ${bytes} bytes used`);
    const told = facts.flatMap((f) => f.told);
    for (const event of [SOFT, HARD])
      if (told.filter((e) => e === event).length > 1) throw new Violation(`event ${event} told twice`);
    const now = machine.look(memory, () => {
      const reader = Lifetime.attach(shared.memory, 0);
      return { packets: reader.packets(), bytes: reader.bytes(), spent: reader.spent(), due: reader.events() };
    });
    // Whoever died, wherever: what has happened has been told, or still will be.
    const known = told.reduce((set, event) => set | event, now.due);
    if ((now.packets >= softPackets || now.bytes >= softBytes) && (known & SOFT) === 0)
      throw new Violation('the soft limit is reached, and nobody will be told');
    if ((now.spent || facts.some((f) => f.refused)) && (known & HARD) === 0)
      throw new Violation('the hard limit is reached, and nobody will be told');
    if (told.includes(HARD) && !now.spent) throw new Violation('told of the end before it');
    // Undershoot of the limit that ended it: quotas, and the one packet that no longer fitted.
    if (done && facts.some((f) => f.refused)) {
      const longest = Math.max(0, ...workers.flatMap((deeds) => deeds.flatMap((d) => (d === 'events' ? [] : d))));
      const short = packets < hardPackets - workers.length * limits.quotaPackets;
      if (short && bytes <= hardBytes - workers.length * limits.quotaBytes - longest)
        throw new Violation(`ended after ${packets} packets and ${bytes} bytes`);
    }
  });
}

describe('the lifetime, in every state that workers can reach together', () => {
  const CASES: [string, Limits, Deed[][]][] = [
    [
      'packets, 2 workers',
      { softPackets: 3, hardPackets: 6, quotaPackets: 1, quotaBytes: 0 },
      [
        [[1, 1], 'events', [1], [1]],
        [[1], [1, 1], 'events', [1]],
      ],
    ],
    [
      'bytes, 2 workers',
      { softBytes: 200, hardBytes: 500, quotaPackets: 0, quotaBytes: 60 },
      [
        [[100, 40], 'events', [90]],
        [[120], [60, 100], 'events'],
      ],
    ],
    [
      'both, 2 workers and one that looks',
      { softPackets: 2, hardPackets: 4, softBytes: 100, hardBytes: 400, quotaPackets: 1, quotaBytes: 50 },
      [
        [[100], [50]],
        [[80, 40], [90]],
        ['events', 'events'],
      ],
    ],
    [
      'both at once, each refusing one of 2 workers',
      { softBytes: 600, hardPackets: 10, hardBytes: 1000, quotaPackets: 0, quotaBytes: 0 },
      [
        [[200, 200, 200, 200, 200], 'events'],
        [[1, 1, 1, 1, 1, 700], 'events'],
      ],
    ],
    [
      'packets, 3 workers',
      { softPackets: 2, hardPackets: 4, quotaPackets: 1, quotaBytes: 0 },
      [
        [[1], 'events'],
        [[1, 1], 'events'],
        [[1], [1]],
      ],
    ],
  ];

  it('never overshoots, falls short by quotas at most, and each event is told once, whoever dies', async () => {
    for (const [name, limits, workers] of CASES) {
      const { states, schedules } = await exploreLifetime(limits, workers);
      process.stdout.write(`lifetime, ${name}: ${states} states, ${schedules.toExponential(2)} schedules\n`);
      expect(schedules).toBeGreaterThan(1000);
    }
  });

  const FILE = 'lifetime.ts';
  it.each<[string, Edit]>([
    [
      'a load and a store instead of the swap',
      {
        file: FILE,
        find: 'const found = Atomics.compareExchange(counter, 0, seen, seen + BigInt(taken));',
        replace: 'Atomics.store(counter, 0, seen + BigInt(taken));\n    const found = seen;',
      },
    ],
    [
      'no saturation',
      { file: FILE, find: 'Math.min(need - left + quota, limit - Number(seen))', replace: 'need - left + quota' },
    ],
    [
      'bytes reserved for packets that are refused',
      {
        file: FILE,
        find: 'for (let i = from; i < end; i++) bytes += lengthOf(rows, list[i]!);\n    this.#bytesLeft += more(this.#bytes, this.#bytesLeft, bytes,',
        replace:
          'for (let i = from; i < end; i++) bytes += lengthOf(rows, list[i]!);\n    let all = bytes;\n    for (let i = end; i < to; i++) all += lengthOf(rows, list[i]!);\n    this.#bytesLeft += more(this.#bytes, this.#bytesLeft, all,',
      },
    ],
    [
      'events looked at, then set',
      {
        file: FILE,
        find: 'return due & ~Atomics.or(this.#words, LifetimeWord.TOLD, due);',
        replace:
          'const was = Atomics.load(this.#words, LifetimeWord.TOLD);\n    Atomics.store(this.#words, LifetimeWord.TOLD, was | due);\n    return due & ~was;',
      },
    ],
    [
      'the end told to nobody',
      { file: FILE, find: 'Atomics.or(this.#words, LifetimeWord.SPENT, LifetimeEvent.HARD);', replace: '' },
    ],
  ])('finds out a build with: %s', async (_, edit) => {
    let found: unknown = null;
    for (const [, limits, workers] of CASES)
      found ??= await exploreLifetime(limits, workers, [edit]).then(
        () => null,
        (e) => e,
      );
    expect(found).toBeInstanceOf(Violation);
  });
});

describe('a marked allocator, in every state that workers and their keeper can reach together', () => {
  /** The keeper makes a mark durable (a word that outlives the memory), then permits it; in the wrong order if told so. */
  async function explore(
    wrongOrder: boolean,
    edits: readonly Edit[] = [],
  ): Promise<{ states: number; schedules: number }> {
    const machine = new Machine();
    const { SequenceAllocator } = await instrument<typeof Replay>(machine, ENTRY, edits);
    const shared = SequenceAllocator.create({ esn: true, limit: 12, marked: true });
    const disk = new Int32Array(new SharedArrayBuffer(64));
    machine.share(shared.memory, 64);
    machine.share(disk.buffer as SharedArrayBuffer, 0);
    machine.start();
    const atomics = machine.atomics as typeof Atomics;
    const program = (
      name: string,
      run: (mine: Replay.SequenceAllocator, facts: { last: number }) => void,
    ): Program<{ last: number }> => ({
      name,
      facts: () => ({ last: 0 }),
      run: (facts) => run(SequenceAllocator.attach(shared.memory, 0), facts),
    });
    const worker = program('bursts', (mine, facts) => {
      for (const count of [2, 1]) {
        const first = mine.reserve(count);
        if (mine.granted > 0) facts.last = first + mine.granted - 1;
      }
    });
    const keeper = program('marks', (mine) => {
      for (let i = 0; i < 2; i++) {
        const mark = mine.mark(3);
        if (wrongOrder) mine.persisted(mark);
        atomics.store(disk, 0, mark);
        if (!wrongOrder) mine.persisted(mark);
      }
    });
    return machine.explore([worker, worker, keeper], (facts, memory) => {
      const durable = machine.look(memory, () => disk[0]!);
      const last = Math.max(...facts.map((f) => f.last));
      if (last > durable) throw new Violation(`${last} is out, and a restart now would begin with ${durable + 1}`);
    });
  }

  it('never hands out a number that a restart at this moment would hand out again', async () => {
    const { states, schedules } = await explore(false);
    process.stdout.write(
      `allocator, 2 workers and a keeper of marks: ${states} states, ${schedules.toExponential(2)} schedules\n`,
    );
    expect(schedules).toBeGreaterThan(1000);
  });

  it('would, if the mark were permitted before it is durable', async () => {
    await expect(explore(true)).rejects.toThrow(/a restart now/);
  });
});
