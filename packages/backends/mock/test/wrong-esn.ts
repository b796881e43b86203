import { Row, RowState } from '@espalier/wire';
import type { LowerHandle, Sa } from '@espalier/xfrm';
import { withOps } from './wrap.ts';
import type { WrongLower } from './wrong-lower.ts';
import { afterPoll } from './wrong-port.ts';

export const WRONG_ESN: readonly WrongLower[] = [
  {
    rule: 'esn-told',
    wrong: 'it takes the edge for one less than it is',
    spoil: (rig) =>
      withOps(rig, (ops) => ({ advanceEsn: (handle, bottom) => ops.advanceEsn(handle, Math.max(0, bottom - 1)) })),
  },
  {
    rule: 'esn-across',
    wrong: 'it keeps the high half of the edge and forgets the low',
    spoil: (rig) =>
      withOps(rig, (ops) => ({
        advanceEsn: (handle, bottom) => ops.advanceEsn(handle, Math.floor(bottom / 2 ** 32) * 2 ** 32),
      })),
  },
  {
    rule: 'esn-monotone',
    wrong: 'it goes back to an edge told late',
    spoil: (rig) =>
      withOps(rig, (ops) => {
        // The lower underneath never goes back, so the SA is put in anew.
        const real = new Map<LowerHandle, { sa: Sa; top: number; handle: Promise<LowerHandle> }>();
        return {
          stateAdd: async (sa, signal) => {
            const handle = await ops.stateAdd(sa, signal);
            real.set(handle, { sa, top: 0, handle: Promise.resolve(handle) });
            return handle;
          },
          advanceEsn: (handle, bottom) => {
            const one = real.get(handle)!;
            const back = bottom < one.top;
            one.top = bottom;
            one.handle = one.handle.then(async (now) => {
              if (back) ops.stateDelete(now);
              const next = back ? await ops.stateAdd(one.sa) : now;
              ops.advanceEsn(next, bottom);
              return next;
            });
          },
        };
      }),
  },
  {
    rule: 'esn-reported',
    wrong: 'it does not say which high half it verified with',
    spoil: (rig) =>
      afterPoll(rig, (r, rows) => {
        if (rows[r + Row.STATE] === RowState.OPENED) rows[r + Row.SEQ_HI] = -1;
      }),
  },
];
