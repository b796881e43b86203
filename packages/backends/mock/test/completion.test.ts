import { nobleEngine } from '@espalier/esp';
import type { MockDevice } from '@espalier/mock';
import { RowState } from '@espalier/wire';
import { framingOf, House, saOf } from '@espalier/xfrm/conformance';
import { describe, expect, it } from 'vitest';
import { mockRig } from './mock-rig.ts';

describe('a mock device that completes late', () => {
  it('answers a fence by what was posted before it, and writes off what a gone port had posted', async () => {
    const rig = mockRig({ lateCompletion: true });
    const device = rig.a as MockDevice;
    const a = new House(rig, rig.a, framingOf(rig.a, rig.b), nobleEngine());
    const handle = await a.install(saOf(device, 'out'));
    const send = (seq: number): number => a.send([{ seq, state: RowState.TO_SEAL, slot: 0 }]);
    send(1);
    const first = device.fence();
    send(2);
    expect([first(), device.inFlight()]).toEqual([false, 2]);
    a.port.reap();
    send(3);
    expect([first(), device.inFlight()]).toEqual([true, 1]);
    const second = device.fence();
    device.nic!.stateDelete(handle);
    a.offloads.clear(0);
    device.portGone(0);
    expect([second(), device.inFlight()]).toEqual([true, 0]);
    await device.nic!.stateFree(handle);
    expect(device.nic!.violations).toBe(0);
  });
});
