import { type Burst, Row, RowState } from '@espalier/wire';
import { DropReason, type LowerHandle, PortStat, type Sa, type SaStats, XfrmError } from '@espalier/xfrm';
import type { Rig } from '@espalier/xfrm/conformance';
import { each, withDevice, withHandles, withOps, withPort } from './wrap.ts';

/** A lower that is right but for one thing. */
export interface WrongLower {
  /** The one rule that it breaks. */
  readonly rule: string;
  /** What is wrong with it. */
  readonly wrong: string;
  readonly spoil: (rig: Rig) => Rig;
}

const INDEX_MASK = (1 << 20) - 1;

/** Changes rows before the lower sees them; what it refuses is put back. */
function beforeXmit(
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
function swallow(rig: Rig, fate: number): Rig {
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
function afterPoll(rig: Rig, change: (r: number, rows: Int32Array, bytes: Uint8Array) => void): Rig {
  return withPort(rig, (port, context) => ({
    poll: (burst: Burst) => {
      const from = burst.length;
      const count = port.poll(burst);
      each(burst, (r, rows) => change(r, rows, context.slab.bytes), from);
      return count;
    },
  }));
}

function isToSeal(rows: Int32Array, r: number): boolean {
  return rows[r + Row.STATE] === RowState.TO_SEAL && rows[r + Row.FATE] === 0;
}

const STATE: readonly WrongLower[] = [
  {
    rule: 'add-handle',
    wrong: 'its handles are negative',
    spoil: (rig) =>
      withHandles(
        withOps(rig, (ops) => ({
          stateAdd: async (sa, signal) => -(await ops.stateAdd(sa, signal)),
          stateDelete: (handle) => ops.stateDelete(-handle),
          stateFree: (handle) => ops.stateFree(-handle),
          advanceEsn: (handle, bottom) => ops.advanceEsn(-handle, bottom),
          updateStats: (handle, into) => ops.updateStats(-handle, into),
        })),
        (slot, lower, context) => -context.handles.resolve(slot, lower),
      ),
  },
  {
    rule: 'add-no-trace',
    wrong: 'an add that fails keeps its place',
    spoil: (rig) =>
      withOps(rig, (ops) => ({
        stateAdd: async (sa, signal) => {
          try {
            return await ops.stateAdd(sa, signal);
          } catch (error) {
            await ops.stateAdd({ ...sa, direction: 'out', offload: null }).catch(() => {});
            throw error;
          }
        },
      })),
  },
  {
    rule: 'packet-refused',
    wrong: 'it takes type packet for type crypto',
    spoil: (rig) =>
      withOps(rig, (ops) => ({
        stateAdd: (sa, signal) => ops.stateAdd({ ...sa, offload: { ...sa.offload!, type: 'crypto' } }, signal),
      })),
  },
  {
    rule: 'add-aborted',
    wrong: 'it does not look at the signal',
    spoil: (rig) => withOps(rig, (ops) => ({ stateAdd: (sa) => ops.stateAdd(sa) })),
  },
  {
    rule: 'delete-at-once',
    wrong: 'a deleted handle works until it is freed',
    spoil: (rig) =>
      withOps(rig, (ops) => {
        const deleted = new Set<LowerHandle>();
        return {
          stateDelete: (handle) => {
            if (deleted.has(handle)) throw new XfrmError({ code: 'NOT_FOUND', what: 'deleted already' });
            deleted.add(handle);
          },
          stateFree: async (handle) => {
            if (deleted.delete(handle)) ops.stateDelete(handle);
            await ops.stateFree(handle);
          },
        };
      }),
  },
  {
    rule: 'delete-once',
    wrong: 'it says nothing of a second stateDelete',
    spoil: (rig) =>
      withOps(rig, (ops) => ({
        stateDelete: (handle) => {
          try {
            ops.stateDelete(handle);
          } catch {}
        },
      })),
  },
  {
    rule: 'free-after-delete',
    wrong: 'stateFree deletes what was not deleted',
    spoil: (rig) =>
      withOps(rig, (ops) => ({
        stateFree: async (handle) => {
          try {
            ops.stateDelete(handle);
          } catch {}
          await ops.stateFree(handle);
        },
      })),
  },
  {
    rule: 'free-once',
    wrong: 'it says nothing of a second stateFree',
    spoil: (rig) =>
      withOps(rig, (ops) => {
        const freed = new Set<LowerHandle>();
        return {
          stateFree: async (handle) => {
            if (freed.has(handle)) return;
            await ops.stateFree(handle);
            freed.add(handle);
          },
        };
      }),
  },
  {
    rule: 'misuse-no-trace',
    wrong: 'a refused stateFree deletes the SA beside it',
    spoil: (rig) =>
      withOps(rig, (ops) => {
        const added: LowerHandle[] = [];
        return {
          stateAdd: async (sa, signal) => {
            const handle = await ops.stateAdd(sa, signal);
            added.push(handle);
            return handle;
          },
          stateFree: async (handle) => {
            try {
              await ops.stateFree(handle);
            } catch (error) {
              const other = added.find((one) => one !== handle);
              if (other !== undefined) ops.stateDelete(other);
              throw error;
            }
          },
        };
      }),
  },
  {
    rule: 'stale-generation',
    wrong: 'it looks at the index of a handle and not at its generation',
    spoil: (rig) => {
      const current = new Map<number, LowerHandle>();
      const watched = withOps(rig, (ops) => ({
        stateAdd: async (sa, signal) => {
          const handle = await ops.stateAdd(sa, signal);
          current.set(handle & INDEX_MASK, handle);
          return handle;
        },
      }));
      return withHandles(watched, (slot, lower, context) => {
        const handle = context.handles.resolve(slot, lower);
        return current.get(handle & INDEX_MASK) ?? handle;
      });
    },
  },
  {
    rule: 'stats-overwrite',
    wrong: 'updateStats adds to what it is handed',
    spoil: (rig) =>
      withOps(rig, (ops) => ({
        updateStats: (handle, into) => {
          const now: SaStats = { packets: 0, bytes: 0, icvFailures: 0 };
          ops.updateStats(handle, now);
          into.packets += now.packets;
          into.bytes += now.bytes;
          into.icvFailures += now.icvFailures;
        },
      })),
  },
];

const DATAPATH: readonly WrongLower[] = [
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

const ESN: readonly WrongLower[] = [
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

const LIFECYCLE: readonly WrongLower[] = [
  {
    rule: 'features-set',
    wrong: 'setFeatures says that all that was wanted is on',
    spoil: (rig) =>
      withDevice(rig, (device) => ({
        setFeatures: async (wanted) => {
          await device.setFeatures(wanted);
          return wanted;
        },
      })),
  },
  {
    rule: 'features-refused',
    wrong: 'it refuses and switches on all the same',
    spoil: (rig) =>
      withDevice(rig, (device) => ({
        setFeatures: async (wanted) => {
          try {
            return await device.setFeatures(wanted);
          } catch (error) {
            await device.setFeatures(wanted);
            throw error;
          }
        },
      })),
  },
  {
    rule: 'on-change',
    wrong: 'it goes on telling listeners that have ended',
    spoil: (rig) =>
      withDevice(rig, (device) => ({
        onChange: (listener) => {
          device.onChange(listener);
          return () => {};
        },
      })),
  },
  {
    rule: 'link-down',
    wrong: 'it takes rows while its link is down and loses them',
    spoil: (rig) => swallow(rig, DropReason.LINK_DOWN),
  },
  {
    rule: 'in-flight',
    wrong: 'it never finishes counting one frame',
    spoil: (rig) => withDevice(rig, (device) => ({ inFlight: () => device.inFlight() + 1 })),
  },
  {
    rule: 'ticket-plain',
    wrong: 'its tickets carry a function',
    spoil: (rig) =>
      withDevice(rig, (device) => ({ ticket: (port) => ({ ...device.ticket(port), open: () => port }) as never })),
  },
  {
    rule: 'port-close',
    wrong: 'a port that closes keeps a frame',
    spoil: (rig) =>
      withPort(rig, (port, context) => ({
        close: () => {
          port.close();
          context.pool.take();
        },
      })),
  },
  {
    rule: 'close-waits',
    wrong: 'it closes under adds that are under way',
    spoil: (rig) =>
      withDevice(rig, (device) => ({
        close: async () => {
          void device.close();
        },
      })),
  },
  {
    rule: 'close-twice',
    wrong: 'a second close is an error',
    spoil: (rig) =>
      withDevice(rig, (device) => {
        let closed = false;
        return {
          close: async () => {
            if (closed) throw new XfrmError({ code: 'CLOSED', what: 'closed already' });
            closed = true;
            await device.close();
          },
        };
      }),
  },
  {
    rule: 'closed-refuses',
    wrong: 'it pretends to take SAs when it is closed',
    spoil: (rig) =>
      withOps(rig, (ops) => ({
        stateAdd: async (sa, signal) => {
          try {
            return await ops.stateAdd(sa, signal);
          } catch (error) {
            if (error instanceof XfrmError && error.code === 'CLOSED') return 7;
            throw error;
          }
        },
      })),
  },
];

export const WRONG_LOWERS: readonly WrongLower[] = [...STATE, ...DATAPATH, ...ESN, ...LIFECYCLE];
