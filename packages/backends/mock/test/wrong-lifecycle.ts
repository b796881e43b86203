import { DropReason, PortStat, XfrmError } from '@espalier/xfrm';
import { withDevice, withOps, withPort } from './wrap.ts';
import type { WrongLower } from './wrong-lower.ts';
import { swallow } from './wrong-port.ts';

export const WRONG_LIFECYCLE: readonly WrongLower[] = [
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
    rule: 'fence',
    wrong: 'its fence waits for frames that are posted later',
    spoil: (rig) =>
      withDevice(rig, (device) => {
        const sent = (): number => device.stats.port(0)[PortStat.SENT]!;
        return {
          fence: () => {
            const before = sent();
            return () => sent() === before;
          },
        };
      }),
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
