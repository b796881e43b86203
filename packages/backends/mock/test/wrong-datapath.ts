import { Row, RowState } from '@espalier/wire';
import { DropReason, PortStat } from '@espalier/xfrm';
import { each, withHandles, withPort } from './wrap.ts';
import type { WrongLower } from './wrong-lower.ts';
import { afterPoll, beforeXmit, isToSeal, swallow } from './wrong-port.ts';

export const WRONG_DATAPATH: readonly WrongLower[] = [
  {
    rule: 'no-handle',
    wrong: 'it leaks: without a handle the packet leaves unsealed',
    spoil: (rig) =>
      withPort(rig, (port, context) => ({
        xmit: (burst) => {
          each(burst, (r, rows) => {
            const anywhere = [0, 1, 2, 3].some((lower) => context.handles.resolve(rows[r + Row.SA]!, lower) !== 0);
            if (isToSeal(rows, r) && !anywhere) rows[r + Row.STATE] = RowState.SEALED;
          });
          return port.xmit(burst);
        },
      })),
  },
  {
    rule: 'own-index',
    wrong: 'it takes any handle that the SA has anywhere',
    spoil: (rig) =>
      withHandles(
        rig,
        (slot, _lower, context) => [0, 1, 2, 3].map((lower) => context.handles.resolve(slot, lower)).find(Boolean) ?? 0,
      ),
  },
  {
    rule: 'unset',
    wrong: 'it sends UNSET rows in the clear',
    spoil: (rig) =>
      beforeXmit(rig, (r, rows) => {
        if (rows[r + Row.STATE] === RowState.UNSET) rows[r + Row.STATE] = RowState.CLEAR;
      }),
  },
  {
    rule: 'clear-leaves',
    wrong: 'it changes a byte of CLEAR rows',
    spoil: (rig) =>
      withPort(rig, (port, context) => ({
        xmit: (burst) => {
          each(burst, (r, rows) => {
            if (rows[r + Row.STATE] === RowState.CLEAR) context.slab.bytes[rows[r + Row.END]! - 1] = 0xee;
          });
          return port.xmit(burst);
        },
      })),
  },
  {
    rule: 'clear-counted',
    wrong: 'it does not count what leaves in the clear',
    spoil: (rig) =>
      withPort(rig, (port, _context, device) => ({
        xmit: (burst) => {
          const stats = device.stats.port(0);
          const before = stats[PortStat.CLEAR]!;
          const taken = port.xmit(burst);
          stats[PortStat.CLEAR] = before;
          return taken;
        },
      })),
  },
  {
    rule: 'seal-opens-elsewhere',
    wrong: 'it seals without the high half of the number',
    spoil: (rig) =>
      beforeXmit(rig, (r, rows) => {
        if (isToSeal(rows, r)) rows[r + Row.SEQ_HI] = 0;
      }),
  },
  {
    rule: 'iv-is-number',
    wrong: 'it makes up IVs of its own',
    spoil: (rig) =>
      beforeXmit(rig, (r, rows) => {
        if (isToSeal(rows, r)) rows[r + Row.SEQ_LO] = rows[r + Row.SEQ_LO]! ^ 0x5a;
      }),
  },
  {
    rule: 'opens-elsewhere',
    wrong: 'it loses a byte of what it opens',
    spoil: (rig) =>
      afterPoll(rig, (r, rows, bytes) => {
        if (rows[r + Row.STATE] === RowState.OPENED) bytes[rows[r + Row.ESP]! + 20] = 0xee;
      }),
  },
  {
    rule: 'icv-bad',
    wrong: 'it leaves bytes where the ICV did not hold',
    spoil: (rig) =>
      afterPoll(rig, (r, rows, bytes) => {
        if (rows[r + Row.STATE] === RowState.ICV_BAD) bytes[rows[r + Row.ESP]! + 20] = 0xee;
      }),
  },
  {
    rule: 'sealed-once',
    wrong: 'it seals SEALED rows again',
    spoil: (rig) =>
      beforeXmit(rig, (r, rows, { resolve }) => {
        if (rows[r + Row.STATE] === RowState.SEALED && resolve(rows[r + Row.SA]!) !== 0)
          rows[r + Row.STATE] = RowState.TO_SEAL;
      }),
  },
  {
    rule: 'refused-untouched',
    wrong: 'it writes the IV before it knows whether the row can leave',
    spoil: (rig) =>
      withPort(rig, (port, context) => ({
        xmit: (burst) => {
          each(burst, (r, rows) => {
            if (isToSeal(rows, r)) context.slab.view.setInt32(rows[r + Row.ESP]! + 12, rows[r + Row.SEQ_LO]!);
          });
          return port.xmit(burst);
        },
      })),
  },
  {
    rule: 'refused-untouched',
    wrong: 'it seals the burst before it asks for room',
    spoil: (rig) =>
      withPort(rig, (port, context) => ({
        xmit: (burst) => {
          const taken = port.xmit(burst);
          each(burst, (r, rows) => {
            if (rows[r + Row.FATE] !== DropReason.NO_ROOM || rows[r + Row.STATE] !== RowState.TO_SEAL) return;
            rows[r + Row.STATE] = RowState.SEALED;
            context.slab.bytes.fill(0xee, rows[r + Row.ESP]! + 8, rows[r + Row.END]!);
          });
          return taken;
        },
      })),
  },
  {
    rule: 'full-ring',
    wrong: 'it takes rows that it has no room for and loses them',
    spoil: (rig) => swallow(rig, DropReason.NO_ROOM),
  },
  {
    rule: 'frames-conserved',
    wrong: 'each poll that finds something loses a frame',
    spoil: (rig) =>
      withPort(rig, (port, context) => ({
        poll: (burst) => {
          const count = port.poll(burst);
          if (count > 0) context.pool.take();
          return count;
        },
      })),
  },
  {
    rule: 'fate-skipped',
    wrong: 'it sends rows that have a FATE',
    spoil: (rig) =>
      withPort(rig, (port) => ({
        xmit: (burst) => {
          each(burst, (r, rows) => {
            rows[r + Row.FATE] = 0;
          });
          return port.xmit(burst);
        },
      })),
  },
  {
    rule: 'xmit-count',
    wrong: 'it returns the length of the burst',
    spoil: (rig) =>
      withPort(rig, (port) => ({
        xmit: (burst) => {
          port.xmit(burst);
          return burst.length;
        },
      })),
  },
  {
    rule: 'room',
    wrong: 'it promises more room than it has',
    spoil: (rig) => withPort(rig, (port) => ({ room: () => port.room() + 1000 })),
  },
  {
    rule: 'poll-rows',
    wrong: 'polled rows do not say which lower they came by',
    spoil: (rig) =>
      afterPoll(rig, (r, rows) => {
        rows[r + Row.LOWER] = -1;
      }),
  },
];
