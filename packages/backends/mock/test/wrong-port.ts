import { type Burst, Row, RowState } from '@espalier/wire';
import type { Rig } from '@espalier/xfrm/conformance';
import { each, withPort } from './wrap.ts';

/** Changes rows before the lower sees them; what it refuses is put back. */
export function beforeXmit(
  rig: Rig,
  change: (r: number, rows: Int32Array, context: { resolve(slot: number): number }) => void,
): Rig {
  return withPort(rig, (port, context, device) => ({
    xmit: (burst) => {
      const before: [number, Int32Array][] = [];
      each(burst, (r, rows) => {
        before.push([r, rows.slice(r, r + Row.WORDS)]);
        change(r, rows, { resolve: (slot) => context.handles.resolve(slot, device.index) });
      });
      const taken = port.xmit(burst);
      for (const [r, row] of before) {
        const fate = burst.rows[r + Row.FATE]!;
        if (fate === 0) continue;
        burst.rows.set(row, r);
        burst.rows[r + Row.FATE] = fate;
      }
      return taken;
    },
  }));
}

/** Takes rows that met this fate and throws them away, as if they had been sent. */
export function swallow(rig: Rig, fate: number): Rig {
  return withPort(rig, (port, context) => ({
    xmit: (burst) => {
      let taken = port.xmit(burst);
      each(burst, (r, rows, row) => {
        if (rows[r + Row.FATE] !== fate) return;
        rows[r + Row.FATE] = 0;
        context.pool.give(row);
        taken++;
      });
      return taken;
    },
  }));
}

/** Changes rows after they were polled. */
export function afterPoll(rig: Rig, change: (r: number, rows: Int32Array, bytes: Uint8Array) => void): Rig {
  return withPort(rig, (port, context) => ({
    poll: (burst: Burst) => {
      const from = burst.length;
      const count = port.poll(burst);
      each(burst, (r, rows) => change(r, rows, context.slab.bytes), from);
      return count;
    },
  }));
}

/** Whether a row waits for its seal. */
export function isToSeal(rows: Int32Array, r: number): boolean {
  return rows[r + Row.STATE] === RowState.TO_SEAL && rows[r + Row.FATE] === 0;
}
