import { describe, expect, it } from 'vitest';
import { SnapshotPublisher, SnapshotReader } from '../src/index.ts';
import { Field, saOf } from './field.ts';

/** Runs `act` once, in the middle of `inside`: right before its n-th atomic store. */
function overtake(inside: () => void, nth: number, act: () => void): void {
  const { store } = Atomics;
  let stores = 0;
  Atomics.store = ((array: Int32Array, index: number, value: number) => {
    if (++stores === nth) {
      Atomics.store = store;
      act();
    }
    return store(array, index, value);
  }) as typeof store;
  try {
    inside();
  } finally {
    Atomics.store = store;
  }
}

describe('pins', () => {
  it('a worker that was overtaken while it pinned looks again, and sees what the actor believes that it sees', () => {
    const publisher = new SnapshotPublisher(1, 4, () => Promise.resolve());
    publisher.post([0, 1]);
    const reader = new SnapshotReader(publisher.ticket, 0);
    // Between its look at the epoch and its pin, lower 0 leaves: nobody is pinned, so the grace period is over at once.
    overtake(
      () => reader.pin(),
      1,
      () => {
        publisher.post([1]);
      },
    );
    expect([reader.count(), reader.usable(0)]).toEqual([1, 1]);
  });

  it('hold up to seven snapshots for a worker that stays in its burst, and never one more', () => {
    const publisher = new SnapshotPublisher(2, 4, () => Promise.resolve());
    publisher.post([3, 2, 1]);
    const reader = new SnapshotReader(publisher.ticket, 1);
    reader.pin();
    let posted = 0;
    while (publisher.post([posted & 3])) posted++;
    expect(posted).toBe(7);
    expect([reader.count(), reader.usable(0), reader.usable(1), reader.usable(2)]).toEqual([3, 3, 2, 1]);
    reader.unpin();
    expect(publisher.post([0])).toBe(true);
  });

  it('of a worker that has exited count no more, and count again when another takes its place', async () => {
    let waits = 0;
    const publisher = new SnapshotPublisher(2, 4, async () => {
      if (++waits > 100) throw new Error('it waits for a dead worker');
    });
    const dead = new SnapshotReader(publisher.ticket, 0);
    dead.pin();
    await expect(publisher.publish([1])).rejects.toThrow('dead worker');
    waits = 0;
    publisher.workerGone(0);
    await publisher.publish([2]);
    expect(waits).toBe(0);
    publisher.workerBack(0);
    const next = new SnapshotReader(publisher.ticket, 0);
    next.pin();
    expect(next.usable(0)).toBe(2);
    await expect(publisher.publish([3])).rejects.toThrow('dead worker');
  });

  it('keep the old handle alive and the new one hidden until the burst ends that saw the old active slave', async () => {
    const f = new Field({ links: 2 });
    f.renew({ mode: 'active-backup' });
    for (const { device } of f.nics) await f.bond.enslave(device);
    await f.bond.setFeatures(1);
    await f.bond.stateAdd(saOf(0));
    f.pin(1, 0, 0);
    f.whileIdle = () => undefined;
    f.nics[0]!.device.setCarrier(false);
    for (let i = 0; i < 300; i++) await Promise.resolve();
    expect([f.offloads.device(0), f.nics[0]!.slots(), f.nics[1]!.slots()]).toEqual([-1, [0], []]);
    f.unpin(1);
    await f.bond.settled();
    expect([f.offloads.device(0), f.nics[0]!.slots(), f.nics[1]!.slots()]).toEqual([1, [], [0]]);
    expect([f.pulled, f.violations]).toEqual([0, 0]);
    await f.bond.close();
  });
});
