import { readFileSync } from 'node:fs';
import { createBurst, createSlab, Row, RowState, resetRow } from '@espalier/wire';
import { DropReason, OffloadTable, type Port } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import {
  type AggregatorPort,
  aggregators,
  BondDevice,
  BondPort,
  chooseAggregator,
  type Link,
  stepLink,
} from '../src/index.ts';
import { FakeLower, sa } from './fake-lower.ts';

interface Capture {
  readonly frames: readonly string[];
  readonly events: readonly {
    readonly event: string;
    readonly up: readonly string[];
    readonly chosen: readonly number[];
  }[];
}

const usable = (bond: BondDevice): number[] =>
  bond
    .slaves()
    .filter((s) => s.usable)
    .map((s) => s.index);

function bondOf(lowers: FakeLower[], over: Partial<ConstructorParameters<typeof BondDevice>[0]> = {}): BondDevice {
  const bond = new BondDevice({
    name: 'bond0',
    index: 9,
    mode: 'balance-xor',
    xmitHashPolicy: 'layer3+4',
    maxSas: 4,
    maxLowers: lowers.length,
    workers: 1,
    offloads: OffloadTable.create(4),
    ...over,
  });
  bond.tick(0);
  return bond;
}

describe('membership', () => {
  it('gives every frame to the slave that the real driver chose, after every change of its slaves', async () => {
    const file = new URL('vectors/linux-bond-membership.json', import.meta.url);
    const { frames, events } = JSON.parse(readFileSync(file, 'utf8')) as Capture;
    const lowers = [0, 1, 2, 3].map((i) => new FakeLower(i));
    const bond = bondOf(lowers);
    for (const lower of lowers) await bond.enslave(lower);
    const slab = createSlab({ frames: 128 });
    const refusing = { xmit: () => 0 } as unknown as Port;
    const port = BondPort.attach(bond.ticket(), {
      worker: 0,
      ports: new Map(lowers.map((l) => [l.index, refusing])),
      slab,
    });
    const burst = createBurst(slab, 128);
    frames.forEach((hex, row) => {
      const bytes = Buffer.from(hex, 'hex');
      const start = row * slab.frameSize + slab.headroom;
      slab.bytes.set(bytes, start);
      resetRow(slab.rows, row, start, start + bytes.length, RowState.CLEAR);
      burst.list[burst.length++] = row;
    });
    for (const { event, up, chosen } of events) {
      const [name, what] = event.split(' ');
      const lower = lowers[Number(name!.slice(1))]!;
      if (what === 'released') await bond.release(lower);
      else if (what !== 'slaves') lower.set({ carrier: what === 'up' });
      await bond.settled();
      expect(
        usable(bond).map((i) => `d${i}`),
        event,
      ).toEqual(up);
      port.pin();
      port.xmit(burst);
      port.unpin();
      expect(
        frames.map((_, row) => slab.rows[row * Row.WORDS + Row.LOWER]),
        event,
      ).toEqual(chosen);
    }
  });

  it('puts a slave that comes back by enslave last, one that comes back by its link where it was', async () => {
    const lowers = [0, 1, 2].map((i) => new FakeLower(i));
    const bond = bondOf(lowers);
    for (const lower of lowers) await bond.enslave(lower);
    lowers[0]!.set({ carrier: false });
    lowers[0]!.set({ carrier: true });
    await bond.settled();
    expect(usable(bond)).toEqual([0, 1, 2]);
    await bond.release(lowers[0]!);
    await bond.enslave(lowers[0]!);
    expect(usable(bond)).toEqual([1, 2, 0]);
  });

  it('drops with NO_USABLE_SLAVE when nobody can transmit', async () => {
    const lowers = [new FakeLower(0)];
    const bond = bondOf(lowers);
    await bond.enslave(lowers[0]!);
    lowers[0]!.set({ carrier: false });
    const slab = createSlab({ frames: 1 });
    const port = BondPort.attach(bond.ticket(), { worker: 0, ports: new Map(), slab });
    const burst = createBurst(slab, 1);
    resetRow(slab.rows, 0, 200, 264, RowState.CLEAR);
    burst.list[burst.length++] = 0;
    port.pin();
    port.xmit(burst);
    port.unpin();
    expect(slab.rows[Row.FATE]).toBe(DropReason.NO_USABLE_SLAVE);
  });
});

describe('the delays of a link', () => {
  const lower = (running: boolean, carrier: boolean): { running: boolean; carrier: boolean } => ({ running, carrier });
  const delays = { up: 200, down: 100 };

  it('go through fail and back as the kernel does, in every state, for every look', () => {
    const at = (state: Link['state'], due = 0): Link => ({ state, due });
    const cases: [Link, boolean, boolean, number, boolean, Link][] = [
      // state, running, carrier, now, impatient -> next
      [at('up'), true, true, 0, false, at('up')],
      [at('up'), true, false, 50, false, at('fail', 150)],
      [at('up'), false, true, 50, false, at('down')],
      [at('fail', 150), true, true, 149, false, at('up')],
      [at('fail', 150), true, false, 149, false, at('fail', 150)],
      [at('fail', 150), true, false, 150, false, at('down')],
      [at('fail', 150), false, false, 10, false, at('down')],
      [at('down'), true, false, 0, false, at('down')],
      [at('down'), true, true, 10, false, at('back', 210)],
      [at('down'), true, true, 10, true, at('up')],
      [at('down'), false, true, 10, true, at('down')],
      [at('back', 210), true, true, 209, false, at('back', 210)],
      [at('back', 210), true, true, 210, false, at('up')],
      [at('back', 210), true, true, 20, true, at('up')],
      [at('back', 210), true, false, 20, false, at('down')],
      [at('back', 210), false, true, 20, false, at('down')],
    ];
    for (const [link, running, carrier, now, impatient, next] of cases)
      expect(stepLink(link, lower(running, carrier), now, delays, impatient)).toEqual(next);
  });

  it('hold a bond over a short glitch of its active slave, and let it go after', async () => {
    const lowers = [0, 1].map((i) => new FakeLower(i));
    const bond = bondOf(lowers, { mode: 'active-backup', downDelay: 100, upDelay: 200 });
    for (const l of lowers) await bond.enslave(l);
    // The first comes up at once, since there is nothing to wait with; the second waits its updelay.
    expect(bond.slaves().map((s) => s.link)).toEqual(['up', 'back']);
    bond.tick(200);
    await bond.settled();
    expect(bond.slaves().map((s) => s.link)).toEqual(['up', 'up']);
    lowers[0]!.set({ carrier: false });
    bond.tick(299);
    expect(usable(bond)).toEqual([0]);
    lowers[0]!.set({ carrier: true });
    expect(bond.slaves()[0]!.link).toBe('up');
    lowers[0]!.set({ carrier: false });
    bond.tick(399);
    await bond.settled();
    expect(usable(bond)).toEqual([1]);
  });

  it('keep a slave without carrier out of a hashed bond at once, whatever the delay', async () => {
    const lowers = [0, 1].map((i) => new FakeLower(i));
    const bond = bondOf(lowers, { downDelay: 100 });
    for (const l of lowers) await bond.enslave(l);
    lowers[0]!.set({ carrier: false });
    expect([usable(bond), bond.slaves()[0]!.link]).toEqual([[1], 'fail']);
    lowers[0]!.set({ carrier: true });
    expect(usable(bond)).toEqual([0, 1]);
  });
});

describe('aggregators of 802.3ad', () => {
  const port = (lower: number, over: Partial<AggregatorPort> = {}): AggregatorPort => ({
    lower,
    speedMbps: 1000,
    up: true,
    partner: { system: 'p', key: 1 },
    ...over,
  });
  const choose = (
    select: 'stable' | 'bandwidth' | 'count',
    ports: AggregatorPort[],
    current: string | null = null,
  ): number[] => {
    const all = aggregators(ports);
    const id = chooseAggregator(select, all, current);
    return [...(all.find((one) => one.id === id)?.ports ?? [])];
  };
  const q = { system: 'q', key: 1 };

  it('are ports of one speed, partner and key; a port on its own is one of its own', () => {
    const all = aggregators([
      port(0),
      port(1, { speedMbps: 10_000 }),
      port(2),
      port(3, { partner: null }),
      port(4, { partner: { system: 'p', key: 2 } }),
      port(5, { partner: { system: 'p', key: 1, individual: true } }),
      port(6, { partner: null }),
    ]);
    expect(all.map((one) => one.ports)).toEqual([[0, 2], [1], [3], [4], [5], [6]]);
    expect(all.map((one) => one.individual)).toEqual([false, false, true, false, true, true]);
  });

  it('are chosen by bandwidth or by count, a partner before none, a group before an individual, the first of equals', () => {
    expect(choose('bandwidth', [port(0), port(1, { speedMbps: 10_000, partner: q }), port(2), port(3)])).toEqual([1]);
    expect(choose('count', [port(0), port(1, { speedMbps: 10_000, partner: q }), port(2), port(3)])).toEqual([0, 2, 3]);
    expect(choose('bandwidth', [port(0, { partner: null, speedMbps: 10_000 }), port(1)])).toEqual([1]);
    expect(choose('count', [port(0, { partner: { system: 'p', key: 1, individual: true } }), port(1)])).toEqual([1]);
    expect(choose('bandwidth', [port(0, { partner: q }), port(1)])).toEqual([0]);
    expect(choose('count', [port(0, { up: false }), port(1, { up: false })])).toEqual([]);
    expect(
      choose('bandwidth', [port(0, { partner: { system: 'p', key: 1, active: false } }), port(1, { partner: q })]),
    ).toEqual([1]);
  });

  it('stay, when stable, as long as one port can carry; others follow every change', () => {
    const two = [port(0), port(1, { partner: q }), port(2, { partner: q })];
    const [first] = aggregators(two);
    expect(choose('stable', two, first!.id)).toEqual([0]);
    expect(choose('bandwidth', two, first!.id)).toEqual([1, 2]);
    const gone = [port(0, { up: false }), ...two.slice(1)];
    expect(choose('stable', gone, first!.id)).toEqual([1, 2]);
    // One without a partner gives way to one that has one.
    const alone = [port(0, { partner: null }), port(1)];
    expect(choose('stable', alone, aggregators(alone)[0]!.id)).toEqual([1]);
  });

  it('outside the active one carry nothing, and have every replica all the same', async () => {
    const lowers = [0, 1, 2].map((i) => new FakeLower(i));
    const bond = bondOf(lowers, { mode: '802.3ad', adSelect: 'count' });
    for (const l of lowers) await bond.enslave(l);
    await bond.setFeatures(1);
    bond.setPartner(lowers[0]!, { system: 'p', key: 1 });
    bond.setPartner(lowers[1]!, q);
    bond.setPartner(lowers[2]!, q);
    await bond.settled();
    await bond.stateAdd(sa(0));
    expect(usable(bond)).toEqual([1, 2]);
    expect(bond.slaves().map((s) => [s.aggregated, s.replicas])).toEqual([
      [false, 1],
      [true, 1],
      [true, 1],
    ]);
    lowers[1]!.set({ carrier: false });
    lowers[2]!.set({ carrier: false });
    expect(usable(bond)).toEqual([0]);
    // No port anywhere: empty, never the old set.
    lowers[0]!.set({ carrier: false });
    expect([usable(bond), bond.activeAggregator]).toEqual([[], null]);
  });
});
