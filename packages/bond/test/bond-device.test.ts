import { Feature, OffloadDevice, OffloadTable, XfrmError } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { BondDevice, type BondMode, ReplicaTable, SnapshotReader } from '../src/index.ts';
import { FakeLower, sa } from './fake-lower.ts';

const { HW_ESP } = Feature;

function bond(
  mode: BondMode = '802.3ad',
  slaves = 3,
): { bond: BondDevice; lowers: FakeLower[]; offloads: OffloadTable; table: ReplicaTable } {
  const offloads = OffloadTable.create(16);
  const device = new BondDevice({
    name: 'bond0',
    index: 7,
    mode,
    xmitHashPolicy: 'layer3+4',
    maxSas: 16,
    maxLowers: 8,
    workers: 2,
    offloads,
  });
  const lowers = Array.from({ length: slaves }, (_, i) => new FakeLower(i));
  return { bond: device, lowers, offloads, table: ReplicaTable.attach(device.ticket().replicas) };
}

async function enslaveAll(b: BondDevice, lowers: FakeLower[]): Promise<void> {
  for (const l of lowers) await b.enslave(l);
}

const usable = (b: BondDevice): number[] =>
  b
    .slaves()
    .filter((s) => s.usable)
    .map((s) => s.index);
const code = async (p: Promise<unknown>): Promise<string> =>
  p.then(
    () => 'no error',
    (e) => (e instanceof XfrmError ? e.code : String(e)),
  );
const violations = (lowers: FakeLower[]): string[] => lowers.flatMap((l) => l.violations);

describe('features of a bond', () => {
  it('are off, advertised when every slave can, and turned on by the user only', async () => {
    const { bond: b, lowers } = bond();
    expect(b.features).toEqual({ hw: 0, wanted: 0, active: 0 });
    await enslaveAll(b, lowers);
    expect(b.features).toEqual({ hw: HW_ESP, wanted: 0, active: 0 });
    expect(await code(b.stateAdd(sa(0)))).toBe('UNSUPPORTED');
    expect(await b.setFeatures(HW_ESP)).toBe(HW_ESP);
    expect(lowers.map((l) => l.features.active)).toEqual([HW_ESP, HW_ESP, HW_ESP]);
  });

  it('are not advertised with a slave that has not opted in, another policy or no slave', async () => {
    const { bond: b, lowers } = bond();
    await enslaveAll(b, lowers);
    await b.enslave(new FakeLower(3, false));
    expect(b.features.hw).toBe(0);
    expect(await code(b.setFeatures(HW_ESP))).toBe('UNSUPPORTED');
    const other = bond();
    await enslaveAll(other.bond, other.lowers);
    await other.bond.setXmitHashPolicy('layer2');
    expect(other.bond.features.hw).toBe(0);
  });

  it('roll back on the first refusal and name the slave', async () => {
    const { bond: b, lowers } = bond();
    await enslaveAll(b, lowers);
    lowers[2]!.failFeatures = 1;
    await expect(b.setFeatures(HW_ESP)).rejects.toMatchObject({ code: 'ROLLED_BACK', detail: { slave: 'fake2' } });
    expect(lowers.map((l) => l.features.active)).toEqual([0, 0, 0]);
    expect(b.features.active).toBe(0);
  });
});

describe('replicas', () => {
  it('are installed on every slave, all or nothing, in every place it can fail', async () => {
    for (let slaves = 1; slaves <= 4; slaves++)
      for (let fail = 0; fail < slaves; fail++) {
        const { bond: b, lowers, offloads, table } = bond('802.3ad', slaves);
        await enslaveAll(b, lowers);
        await b.setFeatures(HW_ESP);
        await b.stateAdd(sa(0));
        lowers[fail]!.failAdd = 1;
        await expect(b.stateAdd(sa(1))).rejects.toMatchObject({
          code: 'ROLLED_BACK',
          detail: { slave: `fake${fail}` },
        });
        expect(lowers.map((l) => l.slots())).toEqual(lowers.map(() => [0]));
        expect(lowers.map((l) => l.book.size)).toEqual(lowers.map(() => 1));
        expect(offloads.device(1)).toBe(OffloadDevice.NONE);
        for (let l = 0; l < slaves; l++) expect(table.read(1, l)).toBe(0);
        expect(offloads.device(0)).toBe(OffloadDevice.UPPER);
        for (let l = 0; l < slaves; l++) expect(table.read(0, l)).not.toBe(0);
        expect(violations(lowers)).toEqual([]);
      }
  });

  it('report what failed while rolling back', async () => {
    const { bond: b, lowers } = bond();
    await enslaveAll(b, lowers);
    await b.setFeatures(HW_ESP);
    lowers[2]!.failAdd = 1;
    lowers[0]!.failFree = 1;
    await expect(b.stateAdd(sa(0))).rejects.toMatchObject({ detail: { failures: [expect.stringContaining('fake0')] } });
    expect([lowers.map((l) => l.book.size), b.lingering]).toEqual([[1, 0, 0], 1]);
    b.tick(1);
    await b.settled();
    expect([lowers.map((l) => l.book.size), b.lingering]).toEqual([[0, 0, 0], 0]);
    expect(violations(lowers)).toEqual([]);
  });

  it('come with a slave that joins before it carries traffic, and go with one that leaves after', async () => {
    const { bond: b, lowers, table } = bond();
    await b.enslave(lowers[0]!);
    await b.setFeatures(HW_ESP);
    await b.stateAdd(sa(0));
    await b.stateAdd(sa(1));
    await b.enslave(lowers[1]!);
    expect(lowers[1]!.slots()).toEqual([0, 1]);
    expect(usable(b)).toEqual([0, 1]);
    await b.release(lowers[0]!);
    expect(lowers[0]!.book.size).toBe(0);
    expect(usable(b)).toEqual([1]);
    expect(table.read(0, 0)).toBe(0);
    expect(table.read(0, 1)).not.toBe(0);
    expect(violations(lowers)).toEqual([]);
  });

  it('keep a joining slave that refuses one out of usable, with nothing left on it, and the bond stays enabled', async () => {
    const { bond: b, lowers } = bond();
    await b.enslave(lowers[0]!);
    await b.setFeatures(HW_ESP);
    await b.stateAdd(sa(0));
    await b.stateAdd(sa(1));
    lowers[1]!.failAdd = 2;
    await b.enslave(lowers[1]!);
    expect(usable(b)).toEqual([0]);
    expect(lowers[1]!.book.size).toBe(0);
    expect(b.slaves()[1]!.keptOut).toContain('table full');
    expect(b.features.active).toBe(HW_ESP);
    expect(violations(lowers)).toEqual([]);
  });

  it('stay while a slave has lost its carrier and go when it is taken down', async () => {
    const { bond: b, lowers } = bond();
    await enslaveAll(b, lowers);
    await b.setFeatures(HW_ESP);
    await b.stateAdd(sa(0));
    lowers[1]!.set({ carrier: false });
    await b.settled();
    expect(usable(b)).toEqual([0, 2]);
    expect(lowers[1]!.slots()).toEqual([0]);
    lowers[1]!.set({ running: false });
    await b.settled();
    expect(lowers[1]!.slots()).toEqual([]);
    lowers[1]!.set({ running: true, carrier: true });
    await b.settled();
    expect(usable(b)).toEqual([0, 1, 2]);
    expect(lowers[1]!.slots()).toEqual([0]);
    expect(violations(lowers)).toEqual([]);
  });

  it('are flushed when the policy or mode no longer fits, and installed anew when enabled again', async () => {
    const { bond: b, lowers, offloads } = bond();
    await enslaveAll(b, lowers);
    await b.setFeatures(HW_ESP);
    await b.stateAdd(sa(0));
    await b.setXmitHashPolicy('layer2');
    expect(lowers.map((l) => l.book.size)).toEqual([0, 0, 0]);
    expect(b.features.active).toBe(0);
    expect(offloads.device(0)).toBe(OffloadDevice.NONE);
    await b.setXmitHashPolicy('layer3+4');
    expect(b.features).toEqual({ hw: HW_ESP, wanted: 0, active: 0 });
    await b.setFeatures(HW_ESP);
    expect(lowers.map((l) => l.slots())).toEqual([[0], [0], [0]]);
    expect(offloads.device(0)).toBe(OffloadDevice.UPPER);
    expect(violations(lowers)).toEqual([]);
  });

  it('are deleted, drained and freed in that order, once', async () => {
    const { bond: b, lowers } = bond();
    await enslaveAll(b, lowers);
    await b.setFeatures(HW_ESP);
    const handle = await b.stateAdd(sa(0));
    expect(await code(b.stateFree(handle))).toBe('BUSY');
    b.stateDelete(handle);
    expect(() => b.stateDelete(handle)).toThrow(XfrmError);
    await b.stateFree(handle);
    expect(await code(b.stateFree(handle))).toBe('NOT_FOUND');
    expect(lowers.map((l) => l.calls)).toEqual(lowers.map(() => ['add 0', 'delete 0', 'free 0']));
  });

  it('can be withdrawn one by one while their slave stays usable', async () => {
    const { bond: b, lowers, table } = bond();
    await enslaveAll(b, lowers);
    await b.setFeatures(HW_ESP);
    await b.stateAdd(sa(0));
    await b.withdraw(0, 1);
    expect(table.read(0, 1)).toBe(0);
    expect(usable(b)).toEqual([0, 1, 2]);
    lowers[2]!.set({ carrier: false });
    await b.settled();
    expect(lowers[1]!.slots()).toEqual([]);
    await b.restore(0, 1);
    expect(lowers[1]!.slots()).toEqual([0]);
    expect(violations(lowers)).toEqual([]);
  });

  it('refuse a slave of another bond until that one has let it go', async () => {
    const { bond: one, lowers } = bond();
    const { bond: other } = bond();
    await enslaveAll(one, lowers);
    expect(await code(other.enslave(lowers[1]!))).toBe('EXISTS');
    expect([other.slaves().length, one.slaves().length]).toEqual([0, 3]);
    await one.release(lowers[1]!);
    await other.enslave(lowers[1]!);
    await one.close();
    await other.enslave(lowers[0]!);
    expect(other.slaves().map((s) => s.index)).toEqual([1, 0]);
  });

  it('refuse offload type packet and a bond in a bond', async () => {
    const { bond: b, lowers } = bond();
    await enslaveAll(b, lowers);
    await b.setFeatures(HW_ESP);
    expect(await code(b.stateAdd(sa(0, 'packet')))).toBe('UNSUPPORTED');
    const inner = bond().bond;
    const wrapped = new FakeLower(5);
    Object.assign(wrapped, { xfrm: inner });
    expect(await code(b.enslave(wrapped))).toBe('UNSUPPORTED');
    expect(b.slaves().length).toBe(3);
  });
});

describe('active-backup', () => {
  it('has one handle in all, follows the active slave, and never asks the upper', async () => {
    const { bond: b, lowers, offloads } = bond('active-backup');
    await enslaveAll(b, lowers);
    await b.setFeatures(HW_ESP);
    await b.stateAdd(sa(0));
    await b.stateAdd(sa(1));
    expect(lowers.map((l) => l.slots())).toEqual([[0, 1], [], []]);
    expect(offloads.device(0)).toBe(0);
    lowers[0]!.set({ carrier: false });
    await b.settled();
    expect(lowers.map((l) => l.slots())).toEqual([[], [0, 1], []]);
    expect([offloads.device(0), usable(b)]).toEqual([1, [1]]);
    lowers[0]!.set({ carrier: true });
    await b.settled();
    expect(usable(b)).toEqual([1]);
    expect(b.asked).toBe(0);
    expect(violations(lowers)).toEqual([]);
  });

  it('drops rather than use the old handle when the new slave refuses', async () => {
    const { bond: b, lowers, offloads } = bond('active-backup', 2);
    await enslaveAll(b, lowers);
    await b.setFeatures(HW_ESP);
    await b.stateAdd(sa(0));
    lowers[1]!.failAdd = 1;
    lowers[0]!.set({ carrier: false });
    await b.settled();
    expect(offloads.device(0)).toBe(OffloadDevice.NONE);
    expect(lowers.map((l) => l.slots())).toEqual([[], []]);
  });
});

describe('grace', () => {
  it('waits for a worker that is inside a burst, and not for one that is gone', async () => {
    const { bond: b, lowers } = bond();
    await enslaveAll(b, lowers);
    await b.setFeatures(HW_ESP);
    await b.stateAdd(sa(0));
    const reader = new SnapshotReader(b.ticket().snapshot, 0);
    const dead = new SnapshotReader(b.ticket().snapshot, 1);
    reader.pin();
    dead.pin();
    b.workerGone(1);
    let done = false;
    const release = b.release(lowers[0]!).then(() => {
      done = true;
    });
    for (let i = 0; i < 50; i++) await Promise.resolve();
    expect(done).toBe(false);
    expect(lowers[0]!.slots()).toEqual([0]);
    // What the pinned worker sees does not move under it.
    expect([reader.count(), reader.usable(0)]).toEqual([3, 0]);
    reader.unpin();
    await release;
    expect(lowers[0]!.book.size).toBe(0);
  });
});
