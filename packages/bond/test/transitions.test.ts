import { ESP_FEATURES, Feature, OffloadTable } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { BondDevice, type BondMode, type JoinRefused, XMIT_HASH_POLICIES, type XmitHashPolicy } from '../src/index.ts';
import { FakeLower, sa } from './fake-lower.ts';
import { Model } from './oracle.ts';

const { HW_ESP, GSO_ESP } = Feature;
const MODES: readonly BondMode[] = ['active-backup', 'balance-xor', '802.3ad'];
const JOIN: readonly JoinRefused[] = ['keep-out', 'refuse', 'software'];
/** What is on when the event comes, and how many SAs are known. */
const STATES = ['off', 'on', 'on, two SAs', 'on, two SAs, all bits'] as const;

interface World {
  readonly bond: BondDevice;
  readonly lowers: FakeLower[];
  readonly model: Model;
}

const quiet = (promise: Promise<unknown>): Promise<boolean> =>
  promise.then(
    () => true,
    () => false,
  );

async function join(w: World, lower: FakeLower, refused: number[] = []): Promise<void> {
  const done = await quiet(w.bond.enslave(lower));
  w.model.enslave(lower.index, lower.running, lower.carrier, lower.xfrm === null ? 0 : lower.features.hw);
  const slave = w.model.find(lower.index)!;
  slave.optedIn = lower.xfrm?.lowerHandle ?? false;
  w.model.settle();
  if (w.model.called(lower.index).length > 0) for (const slot of refused) slave.refused.add(slot);
  if (!done) w.model.slaves.pop();
}

function link(w: World, i: number, running: boolean, carrier: boolean): void {
  w.lowers[i]!.set({ running, carrier });
  w.model.link(i, running, carrier);
}

/** By name: one thing that can happen to a bond of slaves 0 (up), 1 (up), 2 (no carrier), 3 (down); 4 is free. */
const EVENTS: Record<string, (w: World) => Promise<void> | void> = {
  'a fit slave joins': (w) => join(w, w.lowers[4]!),
  'a slave without offload joins': (w) => {
    Object.assign(w.lowers[4]!, { xfrm: null, features: { hw: 0, wanted: 0, active: 0 } });
    return join(w, w.lowers[4]!);
  },
  'a slave that has not opted in joins': (w) => {
    const lower = new FakeLower(4, false);
    lower.features = { hw: ESP_FEATURES, wanted: 0, active: 0 };
    w.lowers[4] = lower;
    return join(w, lower);
  },
  'a slave joins that refuses an SA': (w) => {
    w.lowers[4]!.failAdd = 2;
    return join(w, w.lowers[4]!, [1]);
  },
  'a slave joins that refuses the features': (w) => {
    w.lowers[4]!.failFeatures = 1;
    const asked = w.model.on && w.model.mode !== 'active-backup';
    return join(w, w.lowers[4]!).then(() => {
      // It is asked whether there are SAs or not.
      if (asked) w.model.find(4)?.refused.add(-1);
      if (asked && w.model.joinRefused === 'refuse') w.model.slaves = w.model.slaves.filter((s) => s.lower !== 4);
    });
  },
  'the first slave is released': async (w) => {
    await w.bond.release(w.lowers[0]!);
    w.model.slaves = w.model.slaves.filter((s) => s.lower !== 0);
  },
  'every slave is released': async (w) => {
    for (const lower of w.lowers.slice(0, 4)) await w.bond.release(lower);
    w.model.slaves = [];
  },
  'a slave loses its carrier': (w) => link(w, 0, true, false),
  'a slave gets its carrier': (w) => link(w, 2, true, true),
  'every slave loses its carrier': (w) => {
    for (let i = 0; i < 3; i++) {
      link(w, i, true, false);
      w.model.settle();
    }
  },
  'a slave is taken down': (w) => link(w, 0, false, true),
  'a slave is taken up': (w) => link(w, 3, true, true),
  'every slave is taken down': (w) => {
    for (let i = 0; i < 3; i++) {
      link(w, i, false, false);
      w.model.settle();
    }
  },
  'a slave loses HW_ESP': (w) => {
    w.lowers[1]!.features = { hw: 0, wanted: 0, active: 0 };
    w.lowers[1]!.set({});
    w.model.hw(1, 0);
  },
  'a slave that is down loses HW_ESP': (w) => {
    w.lowers[3]!.features = { hw: 0, wanted: 0, active: 0 };
    w.lowers[3]!.set({});
    w.model.hw(3, 0);
  },
  'a slave loses an optional bit': (w) => {
    const { wanted, active } = w.lowers[1]!.features;
    w.lowers[1]!.features = { hw: HW_ESP, wanted, active: active & HW_ESP };
    w.lowers[1]!.set({});
    w.model.hw(1, HW_ESP);
  },
  'HW_ESP is turned off': async (w) => {
    await w.bond.setFeatures(0);
    w.model.off();
  },
  'HW_ESP is turned on': async (w) => {
    if (await quiet(w.bond.setFeatures(HW_ESP))) w.model.on = true;
  },
  'HW_ESP is turned on and a slave refuses': async (w) => {
    w.lowers[1]!.failFeatures = 1;
    if (await quiet(w.bond.setFeatures(HW_ESP | GSO_ESP))) w.model.on = true;
    w.lowers[1]!.failFeatures = 0;
  },
  'an SA is added': async (w) => {
    if (await quiet(w.bond.stateAdd(sa(2)))) w.model.known.set(2, new Set());
  },
  'an SA is added and a slave refuses': async (w) => {
    w.lowers[0]!.failAdd = 1;
    if (await quiet(w.bond.stateAdd(sa(2)))) w.model.known.set(2, new Set());
    w.lowers[0]!.failAdd = 0;
  },
  'an SA is deleted': async (w) => {
    if (!w.model.known.delete(0)) return;
    w.bond.stateDelete(1);
    await w.bond.stateFree(1);
  },
};
for (const mode of MODES)
  EVENTS[`the mode becomes ${mode}`] = async (w) => {
    await w.bond.setMode(mode);
    if ((mode === 'active-backup') !== w.model.backup) w.model.off();
    w.model.mode = mode;
  };
for (const policy of XMIT_HASH_POLICIES)
  EVENTS[`the policy becomes ${policy}`] = async (w) => {
    await w.bond.setXmitHashPolicy(policy);
    w.model.policy = policy;
  };

async function world(
  mode: BondMode,
  policy: XmitHashPolicy,
  joinRefused: JoinRefused,
): Promise<World & { offloads: OffloadTable }> {
  const offloads = OffloadTable.create(4);
  const bond = new BondDevice({
    name: 'bond0',
    index: 9,
    mode,
    xmitHashPolicy: policy,
    joinRefused,
    maxSas: 4,
    maxLowers: 8,
    workers: 1,
    offloads,
    idle: () => Promise.resolve(),
  });
  const lowers = [0, 1, 2, 3, 4].map((i) => new FakeLower(i));
  for (const lower of lowers) lower.features = { hw: ESP_FEATURES, wanted: 0, active: 0 };
  lowers[2]!.carrier = false;
  lowers[3]!.running = false;
  const w = { bond, lowers, model: new Model(mode, policy, 'stable', joinRefused), offloads };
  for (const lower of lowers.slice(0, 4)) await join(w, lower);
  return w;
}

describe('the table of transitions', () => {
  it('mode x policy x event x features x what a refusal at joining means: each leads where the rules say', async () => {
    let count = 0;
    let refused = 0;
    for (const mode of MODES)
      for (const policy of XMIT_HASH_POLICIES)
        for (const joinRefused of JOIN)
          for (const state of STATES)
            for (const [name, act] of Object.entries(EVENTS)) {
              const w = await world(mode, policy, joinRefused);
              const { bond, lowers, model } = w;
              const where = `${mode}, ${policy}, ${joinRefused}, ${state}: ${name}`;
              if (state !== 'off') {
                const on = await quiet(bond.setFeatures(state.endsWith('bits') ? ESP_FEATURES : HW_ESP));
                expect(on, where).toBe(model.offered());
                model.on = on;
                if (!on) refused++;
                if (state !== 'on')
                  for (const slot of [0, 1]) {
                    expect(await quiet(bond.stateAdd(sa(slot))), where).toBe(on);
                    if (on) model.known.set(slot, new Set());
                  }
              }
              await act(w);
              await bond.settled();
              model.settle();
              expect((bond.features.active & HW_ESP) !== 0, where).toBe(model.on);
              for (const lower of lowers) {
                expect(lower.slots(), `${where}: ${lower.name}`).toEqual(model.called(lower.index));
                expect(lower.book.size, `${where}: ${lower.name}`).toBe(model.called(lower.index).length);
                expect(lower.violations, where).toEqual([]);
                // What the bond pushed it takes back when it is off.
                if (!model.on && lower.running) expect(lower.features.active, `${where}: ${lower.name}`).toBe(0);
              }
              expect(
                bond
                  .slaves()
                  .filter((s) => s.usable)
                  .map((s) => s.index),
                where,
              ).toEqual(model.usable());
              count++;
            }
    const events = Object.keys(EVENTS).length;
    console.log(
      `${count} transitions: ${MODES.length} modes x ${XMIT_HASH_POLICIES.length} policies x ${events} events x ${STATES.length} states x ${JOIN.length} joins; in ${refused} HW_ESP was not offered to begin with`,
    );
    expect(count).toBe(MODES.length * XMIT_HASH_POLICIES.length * events * STATES.length * JOIN.length);
  });
});
