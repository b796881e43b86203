import { DropReason, OffloadDevice } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import type { BondMode } from '../src/index.ts';
import { Dice, Field, saOf } from './field.ts';

/** Failovers in all; 10^5 in the long lane and in `.ci/run`. */
const FAILOVERS = Number(process.env.ESPALIER_FAILOVERS ?? (process.env.ESPALIER_LONG ? 100_000 : 6000));
const SLOTS = [0, 1, 2, 3];

/** One failover: by the clock, of this process's processor time, and whether others ran instead. */
interface Gap {
  readonly ms: number;
  readonly cpuMs: number;
  readonly robbed: boolean;
}

async function field(mode: BondMode, links: number, downDelay = 0): Promise<Field> {
  const f = new Field({ links, saSlots: 16, bond: { mode, downDelay } });
  f.renew({ mode, downDelay });
  for (const { device } of f.nics) await f.bond.enslave(device);
  await f.bond.setFeatures(1);
  for (const slot of SLOTS) await f.bond.stateAdd(saOf(slot));
  return f;
}

describe('failovers under traffic', () => {
  it.each(['active-backup', 'balance-xor', '802.3ad'] as const)(
    'of a %s bond let nothing unsealed, nothing under a wrong or dead handle and nothing twice onto a wire',
    async (mode) => {
      const f = await field(mode, 3);
      const dice = new Dice(7);
      const times: number[] = [];
      for (const nic of f.nics) nic.between = () => f.send(dice.below(2), SLOTS, false);
      f.whileIdle = () => {
        f.send(0, SLOTS);
        if (dice.below(3) === 0) f.unpin(1);
        if (dice.below(2) === 0) f.reap();
      };
      const total = Math.floor(FAILOVERS / 3);
      let down = 0;
      for (let i = 0; i < total; i++) {
        f.send(0, SLOTS, i % 2 === 0);
        f.pin(1, i & 3, down);
        const began = performance.now();
        // The slave that carries (or one of them) loses its link, sometimes by being taken down; another comes back.
        const next = mode === 'active-backup' ? f.bond.slaves().find((s) => s.usable)!.index : i % 3;
        const admin = i % 5 === 0;
        f.nics[down]!.device.setRunning(true);
        f.nics[down]!.device.setCarrier(true);
        if (admin) f.nics[next]!.device.setRunning(false);
        else f.nics[next]!.device.setCarrier(false);
        down = next;
        await f.bond.settled();
        times.push(performance.now() - began);
        f.unpin(1);
      }
      f.send(0, SLOTS);
      times.sort((a, b) => a - b);
      const at = (share: number): string => times[Math.floor(times.length * share)]!.toFixed(3);
      console.log(
        `${mode}: ${total} failovers, ${f.frames} frames, ${f.plaintext} plaintext, ${f.homeless + f.pulled} wrong or dead handles, ` +
          `${f.duplicates} duplicates, ${f.fates[DropReason.NO_LOWER_HANDLE]} dropped for want of a handle; ` +
          `all done after ${at(0.5)} ms in the middle, ${at(0.99)} ms at 99 %`,
      );
      expect([f.plaintext, f.homeless, f.pulled, f.violations, f.duplicates]).toEqual([0, 0, 0, 0, 0]);
      expect(f.frames).toBeGreaterThan(total * 4);
      await f.bond.close();
      expect([f.installed, f.bond.lingering]).toEqual([0, 0]);
    },
    300_000,
  );

  it('of an active-backup bond have a handle on the new slave within a millisecond', async () => {
    const f = await field('active-backup', 2);
    const gaps: Gap[] = [];
    for (let i = 0; i < 1000; i++) {
      const active = f.bond.slaves().find((s) => s.usable)!.index;
      f.nics[1 - active]!.device.setCarrier(true);
      await f.bond.settled();
      const began = performance.now();
      const cpu = process.cpuUsage();
      const { involuntaryContextSwitches: switches } = process.resourceUsage();
      f.nics[active]!.device.setCarrier(false);
      while (f.offloads.device(0) !== 1 - active || f.offloads.device(3) !== 1 - active) await Promise.resolve();
      const { user, system } = process.cpuUsage(cpu);
      const ms = performance.now() - began;
      const robbed = process.resourceUsage().involuntaryContextSwitches > switches;
      gaps.push({ ms, cpuMs: (user + system) / 1000, robbed });
      await f.bond.settled();
    }
    const at = (share: number, of: (gap: Gap) => number): number =>
      gaps.map(of).sort((a, b) => a - b)[Math.floor(gaps.length * share)]!;
    const [middle, late] = [0.5, 0.99].map((share) => at(share, (gap) => gap.ms)) as [number, number];
    const [middleCpu, lateCpu] = [0.5, 0.99].map((share) => at(share, (gap) => gap.cpuMs)) as [number, number];
    const long = gaps.filter((gap) => gap.ms > 1);
    console.log(
      `failover gap on mock: ${middle.toFixed(3)} ms in the middle, ${late.toFixed(3)} ms at 99 %; ` +
        `of processor time ${middleCpu.toFixed(3)} and ${lateCpu.toFixed(3)}; ${long.length} of ${gaps.length} longer than 1 ms, ` +
        `in ${long.filter((gap) => gap.robbed).length} of these the processor went to others`,
    );
    // How long the machine lets others run meanwhile is not our doing.
    expect(middle).toBeLessThan(1);
  });

  it('of all slaves drop every packet with its reason, and end the moment that one is back', async () => {
    const f = await field('802.3ad', 3);
    await f.bond.close();
    f.renew({ mode: '802.3ad', upDelay: 200 });
    for (const { device } of f.nics) await f.bond.enslave(device);
    await f.bond.setFeatures(1);
    for (const slot of SLOTS) await f.bond.stateAdd(saOf(slot));
    for (const { device } of f.nics) device.setCarrier(false);
    const before = f.frames;
    f.send(0, SLOTS);
    expect([f.frames - before, f.fates[DropReason.NO_USABLE_SLAVE]]).toEqual([0, SLOTS.length]);
    // As Linux does: with no slave usable none waits for its delay. Replicas of a slave without carrier stay.
    f.bond.tick(1000);
    f.nics[1]!.device.setCarrier(true);
    f.send(0, SLOTS);
    expect([f.frames - before, f.fates[DropReason.NO_USABLE_SLAVE]]).toEqual([SLOTS.length, SLOTS.length]);
    f.nics[2]!.device.setCarrier(true);
    expect(f.bond.slaves().map((s) => s.usable)).toEqual([false, true, false]);
    expect([f.plaintext, f.homeless, f.duplicates]).toEqual([0, 0, 0]);
    await f.bond.close();
  });

  it('take traffic from a slave without waiting for the queue', async () => {
    const f = await field('802.3ad', 3);
    const gate = f.gate();
    f.nics[2]!.faults.push(gate);
    const adding = f.bond.stateAdd(saOf(5));
    await Promise.resolve();
    f.nics[0]!.device.setCarrier(false);
    expect(f.bond.slaves().map((s) => s.usable)).toEqual([false, true, true]);
    f.nics[0]!.device.setCarrier(true);
    expect(f.bond.slaves().map((s) => s.usable)).toEqual([true, true, true]);
    f.openAll();
    await adding;
    await f.bond.close();
  });

  it('of an active-backup bond go on when the new slave refuses: without a handle, never under the old one', async () => {
    const f = await field('active-backup', 2);
    f.nics[1]!.faults.push(undefined, 'refuse');
    f.nics[0]!.device.setCarrier(false);
    // At once: what may be sealed in software is, until there is a handle again.
    expect(SLOTS.map((slot) => f.offloads.device(slot))).toEqual(SLOTS.map(() => OffloadDevice.NONE));
    await f.bond.settled();
    expect(SLOTS.map((slot) => f.offloads.device(slot))).toEqual([1, OffloadDevice.NONE, 1, 1]);
    expect(f.nics.map((nic) => nic.slots())).toEqual([[], [0, 2, 3]]);
    const frames = f.frames;
    f.send(0, SLOTS);
    expect([f.frames - frames, f.fates[DropReason.NO_LOWER_HANDLE]]).toEqual([3, 1]);
    // Coming back to the first is another chance.
    f.nics[0]!.device.setCarrier(true);
    f.nics[1]!.device.setCarrier(false);
    await f.bond.settled();
    expect(SLOTS.map((slot) => f.offloads.device(slot))).toEqual([0, 0, 0, 0]);
    await f.bond.close();
  });
});
