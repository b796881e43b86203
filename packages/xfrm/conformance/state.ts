import { RowState } from '@espalier/wire';
import { DropReason } from '../src/drop-reason.ts';
import { XfrmError } from '../src/errors.ts';
import type { LowerHandle } from '../src/handle.ts';
import type { SaStats } from '../src/seam.ts';
import { saOf } from './packet.ts';
import { demand, type Ground, power, type Rule } from './rule.ts';

/** What a promise or a call came to: 'done', an XfrmError's code, or the name of another error. */
export async function outcomeOf(act: () => unknown): Promise<string> {
  try {
    await act();
    return 'done';
  } catch (error) {
    return error instanceof XfrmError ? error.code : error instanceof Error ? error.constructor.name : String(error);
  }
}

/** A call that may not be made is refused by an XfrmError or, as a caller's bug, by a TypeError or RangeError. */
async function refused(what: string, act: () => unknown): Promise<void> {
  const outcome = await outcomeOf(act);
  demand(outcome !== 'done', `${what} was let through`);
  demand(
    outcome === outcome.toUpperCase() || outcome === 'TypeError' || outcome === 'RangeError',
    `${what} ended in a ${outcome}`,
  );
}

/** How many SAs the lower takes now; all of them are gone afterwards. */
async function countRoom({ a, rig }: Ground): Promise<number> {
  const handles: LowerHandle[] = [];
  for (let slot = 1; slot <= rig.saSlots + 1; slot++) {
    const outcome = await outcomeOf(async () => {
      handles.push(await a.add(saOf(a.device, 'out', slot)));
    });
    if (outcome !== 'done') break;
  }
  for (const handle of handles) {
    a.xfrm.stateDelete(handle);
    await a.xfrm.stateFree(handle);
  }
  return handles.length;
}

/** The fate of one packet to be sealed in slot 0. */
function tryToSeal({ a }: Ground): number {
  return a.sendOne({ seq: 1, state: RowState.TO_SEAL, slot: 0 });
}

export const STATE_RULES: readonly Rule[] = [
  {
    id: 'add-handle',
    sentence: 'stateAdd resolves to a handle: an integer above 0',
    check: async ({ a }) => {
      const handle = await a.add(saOf(a.device, 'out'));
      demand(Number.isInteger(handle) && handle > 0, `the handle is ${handle}`);
    },
  },
  {
    id: 'add-no-trace',
    sentence: 'an add that fails takes nothing',
    check: async (ground) => {
      const { a } = ground;
      const before = await countRoom(ground);
      for (let i = 0; i < 3; i++) {
        power(ground, 'refuseAdd')(a.device);
        const outcome = await outcomeOf(() => a.add(saOf(a.device, 'out')));
        demand(outcome !== 'done', 'an add that was to be refused went through');
      }
      const after = await countRoom(ground);
      demand(before === after, `there was room for ${before} SAs, after three failed adds for ${after}`);
    },
  },
  {
    id: 'packet-refused',
    sentence: 'offload type packet is refused: number and window would live in one device',
    check: async ({ a }) => {
      const sa = saOf(a.device, 'out');
      const outcome = await outcomeOf(() => a.add({ ...sa, offload: { type: 'packet', device: a.device } }));
      demand(outcome === 'UNSUPPORTED', `it ended in ${outcome}`);
    },
  },
  {
    id: 'add-aborted',
    sentence: 'an add whose signal is aborted rejects with ABORTED',
    check: async ({ a }) => {
      const outcome = await outcomeOf(() => a.add(saOf(a.device, 'out'), AbortSignal.abort()));
      demand(outcome === 'ABORTED', `it ended in ${outcome}`);
    },
  },
  {
    id: 'delete-at-once',
    sentence: 'after stateDelete no new packet is sealed under the handle',
    check: async (ground) => {
      const { a, b } = ground;
      const handle = await a.install(saOf(a.device, 'out'));
      demand(tryToSeal(ground) === 0, 'the handle did not work to begin with');
      await b.receive(1);
      a.xfrm.stateDelete(handle);
      const fate = tryToSeal(ground);
      demand(fate === DropReason.NO_LOWER_HANDLE, `a packet under a deleted handle met fate ${fate}`);
      demand((await b.receive(0)).length === 0, 'a packet left under a deleted handle');
    },
  },
  {
    id: 'delete-once',
    sentence: 'a second stateDelete is refused',
    check: async ({ a }) => {
      const handle = await a.add(saOf(a.device, 'out'));
      a.xfrm.stateDelete(handle);
      await refused('a second stateDelete', () => a.xfrm.stateDelete(handle));
    },
  },
  {
    id: 'free-after-delete',
    sentence: 'stateFree before stateDelete is refused',
    check: async ({ a }) => {
      const handle = await a.add(saOf(a.device, 'out'));
      await refused('stateFree without stateDelete', () => a.xfrm.stateFree(handle));
    },
  },
  {
    id: 'free-once',
    sentence: 'a second stateFree is refused',
    check: async ({ a }) => {
      const handle = await a.add(saOf(a.device, 'out'));
      a.xfrm.stateDelete(handle);
      await a.xfrm.stateFree(handle);
      await refused('a second stateFree', () => a.xfrm.stateFree(handle));
    },
  },
  {
    id: 'misuse-no-trace',
    sentence: 'a refused stateDelete or stateFree harms no other SA',
    check: async (ground) => {
      const { a } = ground;
      await a.install(saOf(a.device, 'out'));
      const gone = await a.add(saOf(a.device, 'out', 1));
      // Free without delete, then each twice, then nonsense; whether each is refused is for other rules to say.
      const { xfrm } = a;
      await outcomeOf(() => xfrm.stateFree(gone));
      for (let i = 0; i < 2; i++) await outcomeOf(() => xfrm.stateDelete(gone));
      for (let i = 0; i < 2; i++) await outcomeOf(() => xfrm.stateFree(gone));
      await outcomeOf(() => xfrm.stateDelete(0));
      demand(tryToSeal(ground) === 0, 'another SA lost its handle');
    },
  },
  {
    id: 'stale-generation',
    sentence: 'the handle of a freed SA resolves to nothing, also when its place has been taken again',
    check: async (ground) => {
      const { a, b, rig } = ground;
      const stale = await a.install(saOf(a.device, 'out'));
      a.xfrm.stateDelete(stale);
      await a.xfrm.stateFree(stale);
      // Fill the lower, so that the place is taken again whatever order places are given out in.
      for (let slot = 1; slot <= rig.saSlots; slot++) {
        const handle = await a.add(saOf(a.device, 'out', slot));
        demand(handle !== stale, 'a handle was given out twice');
      }
      const fate = tryToSeal(ground);
      demand(fate === DropReason.NO_LOWER_HANDLE, `a packet under a stale handle met fate ${fate}`);
      demand((await b.receive(0)).length === 0, 'a packet left under a stale handle');
    },
  },
  {
    id: 'stats-overwrite',
    sentence: 'updateStats overwrites what it is handed: counts are absolute',
    check: async (ground) => {
      const { a } = ground;
      const handle = await a.install(saOf(a.device, 'out'));
      tryToSeal(ground);
      const first: SaStats = { packets: 0, bytes: 0, icvFailures: 0 };
      const second: SaStats = { packets: 1000, bytes: 1000, icvFailures: 1000 };
      a.xfrm.updateStats(handle, first);
      a.xfrm.updateStats(handle, second);
      demand(
        first.packets === second.packets && first.bytes === second.bytes && first.icvFailures === second.icvFailures,
        `two readings differ: ${JSON.stringify(first)} and ${JSON.stringify(second)}`,
      );
    },
  },
  {
    id: 'stats-counted',
    sentence: 'what was sealed under a handle is counted under it, and can still be read when it is deleted',
    check: async (ground) => {
      const { a } = ground;
      const handle = await a.install(saOf(a.device, 'out'));
      const other = await a.add(saOf(a.device, 'out', 1));
      for (const seq of [1, 2, 3]) a.sendOne({ seq, state: RowState.TO_SEAL, slot: 0 });
      const read = (one: LowerHandle): SaStats => {
        const stats: SaStats = { packets: 0, bytes: 0, icvFailures: 0 };
        a.xfrm.updateStats(one, stats);
        return stats;
      };
      const { packets, bytes } = read(handle);
      demand(packets === 3 && bytes > 3 * 16, `of 3 packets it counted ${packets}, ${bytes} bytes`);
      demand(read(other).packets === 0, 'they were counted under another handle too');
      a.xfrm.stateDelete(handle);
      demand(read(handle).packets === 3, 'the count was gone with the handle, before it was freed');
      await a.xfrm.stateFree(handle);
    },
  },
];
