// An SA that comes to nothing after its workers had it: what it leaves. Budget: 1 s.
import type { BondDevice } from '@espalier/bond';
import { PathMtu, SaStat } from '@espalier/esp';
import { expect, it } from 'vitest';
import { type Order, STATS_BYTES, saColumn } from '../src/messages.ts';
import { MAX_SAS, type SaPlan } from '../src/plan.ts';
import { Sas } from '../src/sas.ts';
import type { Workers } from '../src/workers.ts';
import { saOf } from './pair.ts';

it('leaves nothing in the counters of its slot to the next SA there when a slave refuses it', async () => {
  const stats = new Float64Array(STATS_BYTES / 8).fill(7);
  const orders: string[] = [];
  const slots: number[] = [];
  const workers = {
    count: 1,
    // Packets arrive from the moment a worker has the SA, until it has it no more.
    tellAll: async (order: Order) => {
      orders.push(order.type);
      if (order.type !== 'add-in' && order.type !== 'remove') return;
      const slot = order.type === 'remove' ? order.slot : order.ticket.slot;
      slots.push(slot);
      for (const column of [SaStat.PACKETS, SaStat.BYTES, SaStat.COLUMNS - 1]) stats[saColumn(slot) + column]! += 5;
    },
    total: (column: number) => stats[column]!,
    clear: (column: number, count: number) => void stats.fill(0, column, column + count),
  };
  const bond = {
    stateAdd: async () => {
      throw new Error('no');
    },
  };
  const sas = new Sas({
    bond: bond as unknown as BondDevice,
    workers: workers as unknown as Workers,
    pathMtu: PathMtu.create(MAX_SAS),
    marks: () => null,
    now: () => 0,
    link: () => null,
    mtu: () => 1500,
  });
  const plan: SaPlan = { ...saOf(0, 'in', 0), offload: 'crypto' };
  await expect(sas.add(plan)).rejects.toThrow('no');
  expect(orders).toEqual(['add-in', 'remove']);
  const [slot] = slots as [number];
  const own = [...stats.subarray(saColumn(slot), saColumn(slot + 1))];
  expect(own).toEqual(new Array(SaStat.COLUMNS).fill(0));
  // Those of others stay as they are.
  expect([stats[saColumn(slot) - 1], stats[saColumn(slot + 1)]]).toEqual([7, 7]);
});
