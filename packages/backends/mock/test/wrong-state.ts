import { type LowerHandle, type SaStats, XfrmError } from '@espalier/xfrm';
import { withHandles, withOps } from './wrap.ts';
import type { WrongLower } from './wrong-lower.ts';

const INDEX_MASK = (1 << 20) - 1;

export const WRONG_STATE: readonly WrongLower[] = [
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
    rule: 'stats-counted',
    wrong: 'updateStats knows of nothing',
    spoil: (rig) =>
      withOps(rig, () => ({
        updateStats: (_handle, into) => {
          into.packets = 0;
          into.bytes = 0;
          into.icvFailures = 0;
        },
      })),
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
