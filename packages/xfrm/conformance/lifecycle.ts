import { RowState } from '@espalier/wire';
import { DropReason } from '../src/drop-reason.ts';
import { activeFeatures, ESP_FEATURES, Feature } from '../src/features.ts';
import { saOf } from './packet.ts';
import { demand, power, type Rule, turns } from './rule.ts';
import { outcomeOf } from './state.ts';

export const LIFECYCLE_RULES: readonly Rule[] = [
  {
    id: 'features-set',
    sentence: 'setFeatures resolves to what is on then: nothing the device cannot do, nothing without HW_ESP',
    check: async ({ a }) => {
      for (const wanted of [Feature.HW_ESP, ESP_FEATURES, Feature.HW_ESP_TX_CSUM | Feature.GSO_ESP, 0]) {
        const active = await a.device.setFeatures(wanted);
        const right = activeFeatures(a.device.features.hw, wanted);
        demand(active === right, `of ${wanted} it says ${active}, ${right} can be on`);
        demand(a.device.features.active === right, `of ${wanted}, ${a.device.features.active} is on`);
      }
    },
  },
  {
    id: 'features-refused',
    sentence: 'setFeatures that is refused rejects and changes nothing',
    check: async (ground) => {
      const { device } = ground.a;
      await device.setFeatures(0);
      const before = device.features.active;
      power(ground, 'refuseFeatures')(device);
      const outcome = await outcomeOf(() => device.setFeatures(Feature.HW_ESP));
      demand(outcome !== 'done', 'it was not refused');
      demand(device.features.active === before, `${before} was on, now ${device.features.active}`);
    },
  },
  {
    id: 'on-change',
    sentence: 'listeners hear of every change of carrier, until they end it',
    check: async (ground) => {
      const { device } = ground.a;
      const setCarrier = power(ground, 'setCarrier');
      const heard: boolean[] = [];
      const end = device.onChange(() => heard.push(device.carrier));
      for (const carrier of [false, true]) {
        setCarrier(device, carrier);
        await ground.rig.deliver();
      }
      end();
      setCarrier(device, false);
      await ground.rig.deliver();
      demand(String(heard) === 'false,true', `carrier went down, up, down: what was heard is "${heard}"`);
    },
  },
  {
    id: 'link-down',
    sentence: 'on a link that is down every row is refused with LINK_DOWN',
    check: async (ground) => {
      const { a, b } = ground;
      power(ground, 'setCarrier')(a.device, false);
      await ground.rig.deliver();
      const fate = a.sendOne({ seq: 1, state: RowState.CLEAR });
      demand(fate === DropReason.LINK_DOWN, `it met fate ${fate}`);
      power(ground, 'setCarrier')(a.device, true);
      demand((await b.receive(0)).length === 0, 'it left');
    },
  },
  {
    id: 'in-flight',
    sentence: 'inFlight is 0 once everything sent has been reaped',
    check: async ({ a, b }) => {
      a.send([1, 2, 3].map((seq) => ({ seq, state: RowState.CLEAR })));
      a.settle();
      await b.receive(3);
      a.port.reap();
      demand(a.device.inFlight() === 0, `${a.device.inFlight()} frames are in flight`);
    },
  },
  {
    id: 'fence',
    sentence: 'a fence falls once what was posted before it has been reaped, whatever was posted after it',
    check: async ({ a, b }) => {
      const { device } = a;
      if (device.fence === undefined) return;
      a.send([1, 2, 3].map((seq) => ({ seq, state: RowState.CLEAR })));
      const fallen = device.fence();
      a.settle();
      await b.receive(3);
      a.port.reap();
      demand(fallen(), 'everything was reaped, and it stands');
      a.send([4, 5].map((seq) => ({ seq, state: RowState.CLEAR })));
      demand(fallen(), 'it rose again for frames posted after it');
      a.settle();
    },
  },
  {
    id: 'ticket-plain',
    sentence: 'a ticket is plain data and survives postMessage',
    check: async ({ a }) => {
      const ticket = a.device.ticket(0);
      const outcome = await outcomeOf(() => structuredClone(ticket));
      demand(outcome === 'done', `it cannot be cloned: ${outcome}`);
      demand(ticket.index === a.device.index && ticket.port === 0, 'it names another port');
    },
  },
  {
    id: 'port-close',
    sentence: 'a port that closes gives every frame back, and may be closed twice',
    check: async ({ a }) => {
      a.send([1, 2, 3].map((seq) => ({ seq, state: RowState.CLEAR })));
      a.fates().forEach((fate, i) => {
        if (fate !== 0) a.pool.give(a.burst.list[i]!);
      });
      a.burst.length = 0;
      a.port.close();
      a.port.close();
      demand(a.pool.free === a.frames, `${a.frames - a.pool.free} frames are gone`);
    },
  },
  {
    id: 'close-waits',
    sentence: 'close waits for adds under way',
    check: async (ground) => {
      const { device } = ground.a;
      const go = power(ground, 'holdAdd')(device);
      const adding = outcomeOf(() => ground.a.add(saOf(device, 'out')));
      await turns();
      let closed = false;
      const closing = device.close().then(() => {
        closed = true;
      });
      await turns();
      const early = closed;
      go();
      await adding;
      await closing;
      demand(!early, 'it closed while an add was under way');
    },
  },
  {
    id: 'close-twice',
    sentence: 'a second close resolves with the first',
    check: async ({ a }) => {
      const first = a.device.close();
      const outcome = await outcomeOf(() => a.device.close());
      await first;
      demand(outcome === 'done', `the second close ended in ${outcome}`);
      const later = await outcomeOf(() => a.device.close());
      demand(later === 'done', `a later close ended in ${later}`);
    },
  },
  {
    id: 'closed-refuses',
    sentence: 'a closed lower takes no SA: CLOSED',
    check: async ({ a }) => {
      await a.device.close();
      const outcome = await outcomeOf(() => a.add(saOf(a.device, 'out')));
      demand(outcome === 'CLOSED', `it ended in ${outcome}`);
    },
  },
];
