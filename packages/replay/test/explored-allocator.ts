import { Machine, type Program, Violation } from '../../../scripts/explorer.ts';
import { type Edit, instrument } from '../../../scripts/instrument.ts';
import type * as Replay from '../src/index.ts';

/** What a worker does: reserves that many numbers, or has the counter jump forward to a number. */
export type Deed = { readonly reserve: number } | { readonly advanceTo: number };

interface Facts {
  /** Numbers it was given, a mask. */
  given: number;
  jumped: boolean;
}

/** A sequence allocator of at most 30 numbers, and everything that its workers can do to each other. */
export async function exploreAllocator(
  limit: number,
  workers: readonly (readonly Deed[])[],
  edits: readonly Edit[] = [],
): Promise<{ states: number; schedules: number }> {
  const machine = new Machine();
  const entry = new URL('../src/index.ts', import.meta.url).pathname;
  const { SequenceAllocator } = await instrument<typeof Replay>(machine, entry, edits);
  const allocator = SequenceAllocator.create({ esn: true, limit });
  machine.share(allocator.memory, 64);
  machine.start();
  const program = (deeds: readonly Deed[]): Program<Facts> => ({
    name: JSON.stringify(deeds),
    facts: () => ({ given: 0, jumped: false }),
    run(facts) {
      const mine = SequenceAllocator.attach(allocator.memory, 0);
      for (const deed of deeds) {
        if ('advanceTo' in deed) {
          facts.jumped = true;
          mine.advanceTo(deed.advanceTo);
          continue;
        }
        const first = mine.reserve(deed.reserve);
        const { granted } = mine;
        if (granted > deed.reserve || (granted < deed.reserve && granted > 0 && first + granted - 1 !== limit))
          throw new Violation(`${granted} of ${deed.reserve} granted from ${first}`);
        for (let s = first; s < first + granted; s++) {
          if (s < 1 || s > limit) throw new Violation(`${s} is beyond the limit`);
          if (((facts.given >>> s) & 1) !== 0) throw new Violation(`given twice: ${s}`);
          facts.given |= 1 << s;
        }
      }
    },
  });
  return machine.explore(workers.map(program), (facts, memory, done) => {
    let given = 0;
    for (const f of facts) {
      if ((f.given & given) !== 0) throw new Violation('a number was given twice');
      given |= f.given;
    }
    const next = machine.look(memory, () => SequenceAllocator.attach(allocator.memory, 0).next());
    if (next > limit + 1) throw new Violation(`next is ${next}`);
    if (31 - Math.clz32(given) >= next) throw new Violation('a given number would be given again');
    if (done && !facts.some((f) => f.jumped) && given !== (1 << next) - 2)
      throw new Violation('at rest, a number is missing that nobody was given');
  });
}
