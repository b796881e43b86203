import { Encap, ESP_TRAITS, OffloadTable, type SaStats, XfrmError } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { BondDevice } from '../src/index.ts';
import { FakeLower, sa } from './fake-lower.ts';
import { Field, saOf } from './field.ts';

async function turns(n = 60): Promise<void> {
  for (let i = 0; i < n; i++) await Promise.resolve();
}

const code = (p: Promise<unknown>): Promise<string> =>
  p.then(
    () => 'done',
    (e) => (e instanceof XfrmError ? e.code : String(e)),
  );

/** A bond that is on, with two of three lowers enslaved and two SAs. */
async function field(bond: ConstructorParameters<typeof Field>[0] = {}): Promise<Field> {
  const f = new Field({ links: 3, ...bond });
  for (const { device } of f.nics.slice(0, 2)) await f.bond.enslave(device);
  await f.bond.setFeatures(1);
  for (const slot of [0, 1]) await f.bond.stateAdd(saOf(slot));
  return f;
}

describe('an add that is slow', () => {
  it('to a lower that never answers counts as refused after its bound, and is undone when it answers after all', async () => {
    const f = await field();
    f.nics[2]!.faults.push(undefined, f.gate());
    const joining = f.bond.enslave(f.nics[2]!.device);
    await turns();
    f.bond.tick(1999);
    await turns();
    // Not READY with every SA: no traffic yet.
    expect(f.bond.slaves()[2]).toMatchObject({ keptOut: null, usable: false });
    f.bond.tick(2000);
    await joining;
    expect(f.bond.slaves()[2]).toMatchObject({ usable: false, keptOut: expect.stringContaining('in time') });
    expect(f.nics[2]!.slots()).toEqual([]);
    // The late handle is deleted and freed at once, and the slave, which does answer, is asked again.
    f.openAll();
    await turns();
    await f.bond.settled();
    expect(f.bond.slaves()[2]).toMatchObject({ usable: true, keptOut: null });
    expect([f.nics[2]!.slots(), f.nics[2]!.device.nic!.installed, f.violations]).toEqual([[0, 1], 2, 0]);
  });

  it('is not asked again while the lower owes an answer', async () => {
    const f = await field();
    f.nics[2]!.faults.push(f.gate());
    const joining = f.bond.enslave(f.nics[2]!.device);
    await turns();
    f.bond.tick(2000);
    await joining;
    f.nics[2]!.device.setRunning(false);
    f.nics[2]!.device.setRunning(true);
    await f.bond.settled();
    expect(f.bond.slaves()[2]!.keptOut).toContain('owes an answer');
    f.openAll();
    await turns();
    await f.bond.settled();
    expect([f.bond.slaves()[2]!.usable, f.nics[2]!.slots()]).toEqual([true, [0, 1]]);
  });

  it('rolls a new SA back when its bound is over or its caller aborts, and holds the queue no longer', async () => {
    const f = await field();
    f.nics[1]!.faults.push(f.gate());
    const late = code(f.bond.stateAdd(saOf(2)));
    await turns();
    f.bond.tick(2000);
    expect(await late).toBe('ROLLED_BACK');
    f.nics[1]!.faults.push(f.gate());
    const stop = new AbortController();
    const aborted = code(f.bond.stateAdd(saOf(3), stop.signal));
    await turns();
    stop.abort();
    expect(await aborted).toBe('ABORTED');
    expect(f.nics.map((nic) => nic.slots())).toEqual([[0, 1], [0, 1], []]);
    f.openAll();
    await turns();
    expect([f.installed, f.violations, f.bond.lingering]).toEqual([4, 0, 0]);
  });

  it('is given up as soon as its lower goes away, and the SA is added to the others', async () => {
    const f = await field();
    f.nics[0]!.faults.push(f.gate());
    const adding = f.bond.stateAdd(saOf(2));
    await turns();
    f.nics[0]!.device.setRunning(false);
    expect(await adding).toBe(3);
    await f.bond.settled();
    expect(f.nics.map((nic) => nic.slots())).toEqual([[], [0, 1, 2], []]);
    f.openAll();
    await turns();
    expect([f.installed, f.violations]).toEqual([3, 0]);
  });

  it('does not outlive its SA: killed while a slave joins, it is undone by its completion alone', async () => {
    const f = await field();
    const handle = 1;
    f.nics[2]!.faults.push(f.gate());
    const joining = f.bond.enslave(f.nics[2]!.device);
    await turns();
    f.bond.stateDelete(handle);
    const freed = f.bond.stateFree(handle);
    await joining;
    await freed;
    expect(f.nics.map((nic) => nic.slots())).toEqual([[1], [1], [1]]);
    expect(f.bond.slaves()[2]!.usable).toBe(true);
    f.openAll();
    await turns();
    expect([f.installed, f.violations]).toEqual([3, 0]);
  });

  it('ends with the bond', async () => {
    const f = await field();
    f.nics[1]!.faults.push(f.gate());
    const adding = code(f.bond.stateAdd(saOf(2)));
    await turns();
    await f.bond.close();
    expect(await adding).toBe('ROLLED_BACK');
    expect(await code(f.bond.stateAdd(saOf(3)))).toBe('CLOSED');
    f.openAll();
    await turns();
    expect([f.installed, f.violations]).toEqual([0, 0]);
  });
});

describe('time', () => {
  it('begins with the first tick: what was asked for before it is not late at once', async () => {
    const offloads = OffloadTable.create(8);
    const lower = new FakeLower(0);
    const options = { name: 'bond0', index: 9, mode: '802.3ad', xmitHashPolicy: 'layer3+4' } as const;
    const bond = new BondDevice({ ...options, maxSas: 8, maxLowers: 8, workers: 1, offloads });
    await bond.enslave(lower);
    await bond.setFeatures(1);
    let answer: (handle: number) => void = () => {};
    lower.xfrm.stateAdd = () =>
      new Promise((resolve) => {
        answer = resolve;
      });
    const adding = bond.stateAdd(sa(0));
    await turns();
    bond.tick(1_000_000);
    bond.tick(1_001_999);
    await turns();
    answer(7);
    expect(await adding).toBe(1);
  });
});

describe('features that are not answered', () => {
  it('count as refused after their bound, and as taken when the answer comes after all', async () => {
    const f = await field();
    const { device } = f.nics[2]!;
    const { setFeatures } = device;
    const gate = f.gate();
    device.setFeatures = async (wanted) => {
      await gate;
      return setFeatures.call(device, wanted);
    };
    const joining = f.bond.enslave(device);
    await turns();
    f.bond.tick(2000);
    await joining;
    expect(f.bond.slaves()[2]!.keptOut).toContain('setFeatures');
    f.openAll();
    await turns();
    await f.bond.settled();
    expect(f.bond.slaves()[2]).toMatchObject({ usable: true, keptOut: null, replicas: 2 });
  });
});

describe('a replica that leaves', () => {
  it('is freed only after the last frame under it is out, though traffic of others never pauses', async () => {
    const f = await field();
    let frees = 0;
    // The other SA's frames are posted before every reap: nothing in flight is never true.
    f.whileIdle = () => {
      f.reap();
      f.send(0, [1, 1, 1, 1], false);
      frees++;
      if (frees > 1000) throw new Error('it waits for traffic to pause');
    };
    f.send(0, [0, 0, 0, 0, 1, 1, 1], false);
    f.bond.stateDelete(1);
    await f.bond.stateFree(1);
    expect(frees).toBeLessThan(100);
    expect(f.nics.some((nic) => nic.device.inFlight() > 0)).toBe(true);
    expect([f.violations, f.nics.map((nic) => nic.slots())]).toEqual([0, [[1], [1], []]]);
  });

  it('lingers when its frames are stuck, holds nobody up, and is freed when they come out', async () => {
    const f = await field();
    f.send(0, [0, 0, 0, 0, 0, 0, 0, 0], false);
    let ticks = 0;
    f.whileIdle = () => {
      // Nobody reaps; time passes.
      f.bond.tick((ticks += 100));
    };
    f.bond.stateDelete(1);
    await f.bond.stateFree(1);
    expect(ticks).toBeGreaterThanOrEqual(2000);
    expect(f.bond.lingering).toBeGreaterThan(0);
    expect(f.violations).toBe(0);
    // Others live on.
    expect(await f.bond.stateAdd(saOf(2))).toBe(3);
    f.reap();
    f.bond.tick((ticks += 100));
    await turns();
    expect([f.bond.lingering, f.violations, f.installed]).toEqual([0, 0, 4]);
  });

  it('is freed once the sockets of a stuck lower that leaves have been closed; of one that stays they are not', async () => {
    const f = new Field({ links: 2 });
    const closed: string[] = [];
    f.renew({
      closeSockets: async (lower) => {
        closed.push(lower.name);
        lower.portGone!(0);
      },
    });
    for (const { device } of f.nics) await f.bond.enslave(device);
    await f.bond.setFeatures(1);
    await f.bond.stateAdd(saOf(0));
    await f.bond.stateAdd(saOf(1));
    f.send(0, [0, 0, 0, 0, 1, 1, 1, 1], false);
    let now = 0;
    f.whileIdle = () => f.bond.tick((now += 100));
    f.bond.stateDelete(1);
    await f.bond.stateFree(1);
    expect(closed).toEqual([]);
    expect(f.bond.lingering).toBeGreaterThan(0);
    // A slave that is down stays one.
    f.nics[0]!.device.setRunning(false);
    await f.bond.settled();
    f.nics[0]!.device.setRunning(true);
    await f.bond.settled();
    expect(closed).toEqual([]);
    for (const { device } of f.nics) await f.bond.release(device);
    f.bond.tick((now += 100));
    await turns();
    expect([closed.length > 0, f.bond.lingering, f.installed, f.violations]).toEqual([true, 0, 0, 0]);
  });

  it('waits for a worker inside a burst, not for one that has exited, and writes off what that one had posted', async () => {
    const f = await field();
    f.send(1, [0, 0, 0, 1, 1, 1], false);
    f.pin(1, 0, 0);
    f.whileIdle = () => undefined;
    let done = false;
    const releasing = f.bond.release(f.nics[0]!.device).then(() => {
      done = true;
    });
    await turns(400);
    expect([done, f.nics[0]!.slots()]).toEqual([false, [0, 1]]);
    // The exit event, nothing less: its pin and its frames are nobody's any more.
    f.bond.workerGone(1);
    await releasing;
    expect([f.nics[0]!.device.nic!.installed, f.violations, f.bond.lingering]).toEqual([0, 0, 0]);
    await f.bond.close();
    expect(f.installed).toBe(0);
  });
});

describe('counters of an SA', () => {
  it('are told apart by lower and worker, and never go back when a replica leaves and comes again', async () => {
    const f = await field();
    const sum: SaStats = { packets: 0, bytes: 0, icvFailures: 0 };
    let before = 0;
    let sent = 0;
    for (let round = 0; round < 30; round++) {
      const worker = round % 2;
      f.send(worker, [0, 0, 0, 0, 0]);
      sent += 5;
      f.bond.updateStats(1, sum);
      expect(sum.packets).toBe(sent);
      expect(sum.bytes).toBeGreaterThan(before);
      before = sum.bytes;
      f.nics[0]!.device.setRunning(round % 4 !== 2);
      f.nics[1]!.device.setRunning(round % 4 !== 0);
      await f.bond.settled();
      f.bond.updateStats(1, sum);
      expect(sum.packets).toBe(sent);
    }
    const apart = f.bond.replicaStats(1);
    expect(apart.reduce((n, one) => n + one.packets, 0)).toBe(sent);
    expect(new Set(apart.filter((one) => one.packets > 0).map((one) => one.worker)).size).toBe(2);
    // Both lowers have carried, and one of them has had several replicas.
    expect(new Set(apart.filter((one) => one.packets > 0).map((one) => one.lower)).size).toBe(2);
    f.bond.updateStats(2, sum);
    expect(sum.packets).toBe(0);
  });
});

describe('what lowers cannot take', () => {
  function bondOver(
    lowers: FakeLower[],
    joinRefused: 'keep-out' | 'software' = 'keep-out',
  ): [BondDevice, OffloadTable] {
    const offloads = OffloadTable.create(8);
    const options = { name: 'bond0', index: 9, mode: '802.3ad', xmitHashPolicy: 'layer3+4', joinRefused } as const;
    for (const lower of lowers) lower.features = { hw: 1, wanted: 0, active: 0 };
    return [new BondDevice({ ...options, maxSas: 8, maxLowers: 8, workers: 1, offloads }), offloads];
  }

  it('is one IV rule, one encapsulation and a reported high half for all slaves of an SA', async () => {
    const lowers = [0, 1, 2].map((i) => new FakeLower(i));
    const [bond] = bondOver(lowers);
    const set = (i: number, traits: Partial<typeof ESP_TRAITS>): void => {
      Object.assign(lowers[i]!.xfrm, { traits: { ...ESP_TRAITS, ...traits } });
    };
    set(1, { ivRule: 'own' });
    for (const lower of lowers) await bond.enslave(lower);
    expect(bond.features.hw).toBe(0);
    await expect(bond.setFeatures(1)).rejects.toThrow('IVs of its own');
    set(1, { encaps: Encap.RAW });
    set(2, { encaps: Encap.UDP });
    lowers[1]!.set({});
    await bond.settled();
    await expect(bond.setFeatures(1)).rejects.toThrow('encapsulation');
    set(2, { reportsSeqHi: false });
    lowers[1]!.set({});
    await bond.settled();
    await bond.setFeatures(1);
    await expect(bond.stateAdd({ ...sa(0), encap: { sport: 4500, dport: 4500 } })).rejects.toThrow('ESP in UDP');
    await expect(bond.stateAdd({ ...sa(1), direction: 'in' })).rejects.toThrow('high half');
    await bond.stateAdd(sa(2));
    await bond.stateAdd({ ...sa(3), direction: 'in', esn: false });
    expect(lowers.map((l) => l.slots())).toEqual([
      [2, 3],
      [2, 3],
      [2, 3],
    ]);
  });

  it('is vetoed per packet: workers compare with the least that all of its lowers take', async () => {
    const lowers = [0, 1].map((i) => new FakeLower(i));
    const [bond, offloads] = bondOver(lowers);
    lowers[0]!.xfrm.offloadOk = (_sa, length, flags) => length <= 1500 && flags !== 2;
    lowers[1]!.xfrm.offloadOk = (_sa, length, flags) => length <= 1400 && flags === 0;
    await bond.enslave(lowers[0]!);
    await bond.setFeatures(1);
    await bond.stateAdd(sa(0));
    const longest = (flags: number): number => {
      for (let length = 2000; length >= 0; length--) if (offloads.fits(0, length, flags)) return length;
      return -1;
    };
    expect([0, 1, 2, 3].map(longest)).toEqual([1500, 1500, -1, 1500]);
    await bond.enslave(lowers[1]!);
    expect([0, 1, 2, 3].map(longest)).toEqual([1400, -1, -1, -1]);
    await bond.release(lowers[1]!);
    expect([0, 1, 2, 3].map(longest)).toEqual([1500, 1500, -1, 1500]);
  });

  it('keeps a slave without offload out of an enabled bond, and lets it in where software may seal', async () => {
    for (const joinRefused of ['keep-out', 'software'] as const) {
      const lowers = [0, 1].map((i) => new FakeLower(i));
      const [bond, offloads] = bondOver(lowers, joinRefused);
      Object.assign(lowers[1]!, { xfrm: null });
      await bond.enslave(lowers[0]!);
      await bond.setFeatures(1);
      await bond.stateAdd(sa(0));
      await bond.enslave(lowers[1]!);
      expect(bond.features.active).toBe(1);
      expect(bond.slaves()[1]!.usable).toBe(joinRefused === 'software');
      expect(offloads.device(0)).toBe(joinRefused === 'software' ? -3 : -2);
      await bond.release(lowers[1]!);
      expect(offloads.device(0)).toBe(-2);
    }
  });
});
