import { nobleEngine } from '@espalier/esp';
import { type MockDevice, MockInside, type MockPairOptions } from '@espalier/mock';
import { createBurst, createPool, createSlab, Row, RowState } from '@espalier/wire';
import { DropReason, ESP_FEATURES, Feature, L3Flag, PortStat, type Sa, XfrmError } from '@espalier/xfrm';
import { framingOf, House, Reference, saOf } from '@espalier/xfrm/conformance';
import { describe, expect, it } from 'vitest';
import { mockRig } from './mock-rig.ts';

async function codeOf(act: () => unknown): Promise<string> {
  try {
    await act();
    return 'done';
  } catch (error) {
    return error instanceof XfrmError ? error.code : (error as Error).constructor.name;
  }
}

interface Field {
  readonly device: MockDevice;
  readonly peer: MockDevice;
  readonly a: House;
  readonly b: House;
  out(slot?: number): Sa;
}

function field(options: MockPairOptions = {}): Field {
  const rig = mockRig(options);
  const a = new House(rig, rig.a, framingOf(rig.a, rig.b), nobleEngine());
  const b = new House(rig, rig.b, framingOf(rig.b, rig.a), nobleEngine());
  return {
    device: rig.a as MockDevice,
    peer: rig.b as MockDevice,
    a,
    b,
    out: (slot = 0) => saOf(rig.a, 'out', slot),
  };
}

const TO_SEAL = { seq: 1, state: RowState.TO_SEAL, slot: 0 } as const;

describe('a mock NIC', () => {
  it('refuses the n-th add that it is told to refuse, and takes nothing', async () => {
    const { device, out } = field();
    const nic = device.nic!;
    nic.refuseAdd(2);
    expect(await codeOf(() => nic.stateAdd(out(1)))).toBe('done');
    expect(await codeOf(() => nic.stateAdd(out(2)))).toBe('REFUSED');
    expect(await codeOf(() => nic.stateAdd(out(3)))).toBe('done');
    expect([nic.installed, nic.adds]).toEqual([2, 3]);
  });

  it('has so many slots and no more', async () => {
    const { device, out } = field({ saSlots: 2 });
    const nic = device.nic!;
    const handle = await nic.stateAdd(out(1));
    await nic.stateAdd(out(2));
    expect(await codeOf(() => nic.stateAdd(out(3)))).toBe('REFUSED');
    nic.stateDelete(handle);
    expect(await codeOf(() => nic.stateAdd(out(3)))).toBe('REFUSED');
    await nic.stateFree(handle);
    expect(await codeOf(() => nic.stateAdd(out(3)))).toBe('done');
  });

  it('refuses a second inbound SA that packets could not be told apart by', async () => {
    const { device } = field();
    const nic = device.nic!;
    await nic.stateAdd(saOf(device, 'in'));
    expect(await codeOf(() => nic.stateAdd(saOf(device, 'in')))).toBe('EXISTS');
    expect(await codeOf(() => nic.stateAdd({ ...saOf(device, 'in'), algorithm: 'rot13' as never }))).toBe(
      'UNSUPPORTED',
    );
    expect(nic.installed).toBe(1);
  });

  it('holds an add until it is let go, or its signal ends it', async () => {
    const { device, out } = field();
    const nic = device.nic!;
    const go = nic.holdAdd();
    let done = false;
    const adding = nic.stateAdd(out()).then(() => {
      done = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect([done, nic.installed]).toEqual([false, 1]);
    go();
    await adding;
    nic.holdAdd();
    const stop = new AbortController();
    const aborted = codeOf(() => nic.stateAdd(out(1), stop.signal));
    await Promise.resolve();
    stop.abort();
    expect(await aborted).toBe('ABORTED');
    expect(nic.installed).toBe(1);
  });

  it('ends an add that hangs when it closes, and closes then', async () => {
    const { device, out } = field();
    device.nic!.hangAdd();
    const adding = codeOf(() => device.nic!.stateAdd(out()));
    await Promise.resolve();
    await device.close();
    expect(await adding).toBe('ABORTED');
    expect(device.nic!.installed).toBe(0);
  });

  it('fails the free that it is told to fail, and can be asked again', async () => {
    const { device, out } = field();
    const nic = device.nic!;
    const handle = await nic.stateAdd(out());
    nic.stateDelete(handle);
    nic.failFree();
    expect(await codeOf(() => nic.stateFree(handle))).toBe('REFUSED');
    expect(nic.installed).toBe(1);
    await nic.stateFree(handle);
    expect([nic.installed, nic.violations]).toEqual([0, 0]);
  });

  it('wipes a deleted key and counts every use of a dead handle as a violation', async () => {
    const { a, device, out } = field();
    const nic = device.nic!;
    const handle = await a.install(out());
    const index = nic.table.live(handle);
    expect(nic.table.key(index)).toEqual(out().key.reveal());
    expect(a.sendOne(TO_SEAL)).toBe(0);
    expect(nic.violations).toBe(0);
    nic.stateDelete(handle);
    expect(nic.table.key(index).every((byte) => byte === 0)).toBe(true);
    expect(a.sendOne(TO_SEAL)).toBe(DropReason.NO_LOWER_HANDLE);
    expect(nic.violations).toBe(1);
    a.offloads.clear(0);
    expect(a.sendOne(TO_SEAL)).toBe(DropReason.NO_LOWER_HANDLE);
    expect(nic.violations).toBe(1);
    expect(await codeOf(() => nic.stateDelete(handle))).toBe('NOT_FOUND');
    expect(nic.violations).toBe(2);
  });

  it('drops what it has sealed when the handle died in the middle of the burst', async () => {
    const rig = mockRig();
    const device = rig.a as MockDevice;
    const engine = nobleEngine();
    let handle = 0;
    // An engine during whose call the control thread deletes the SA.
    const slow = { ...engine, install: engine.install.bind(engine), remove: engine.remove.bind(engine) };
    const a = new House(rig, rig.a, framingOf(rig.a, rig.b), {
      ...slow,
      open: engine.open.bind(engine),
      seal: (burst) => {
        engine.seal(burst);
        device.nic!.stateDelete(handle);
      },
    });
    const b = new House(rig, rig.b, framingOf(rig.b, rig.a), nobleEngine());
    handle = await a.install(saOf(device, 'out'));
    expect(a.sendOne(TO_SEAL)).toBe(DropReason.NO_LOWER_HANDLE);
    expect(device.nic!.violations).toBe(1);
    expect(await b.receive(0)).toEqual([]);
    expect(a.pool.free).toBe(a.frames);
  });

  it('counts it as a violation when a handle is freed while a frame is still out under it', async () => {
    const run = async (reap: boolean): Promise<number> => {
      const { a, device, out } = field({ lateCompletion: true });
      const handle = await a.install(out());
      a.send([TO_SEAL]);
      expect(device.inFlight()).toBe(1);
      device.nic!.stateDelete(handle);
      if (reap) a.port.reap();
      await device.nic!.stateFree(handle);
      return device.nic!.violations;
    };
    expect(await run(true)).toBe(0);
    expect(await run(false)).toBe(1);
  });

  it('opens with the edge it was told and never with the window: a stale view fails the ICV', async () => {
    const { a, b, peer } = field();
    const sa = saOf(peer, 'in');
    const handle = await b.install(sa);
    const seq = 2 ** 32 + 5;
    const frame = new Reference(a.engine, a.framing).sealed(seq, sa);
    const send = async (): Promise<Int32Array> => {
      a.sendOne({ seq, state: RowState.SEALED, frame });
      return (await b.receive(1))[0]!.row;
    };
    const stale = await send();
    expect([stale[Row.STATE], stale[Row.SEQ_HI]]).toEqual([RowState.ICV_BAD, 0]);
    peer.nic!.advanceEsn(handle, 2 ** 32);
    const told = await send();
    expect([told[Row.STATE], told[Row.SEQ_HI], told[Row.SA], told[Row.KEY]]).toEqual([RowState.OPENED, 1, 0, 0]);
    const stats = { packets: 9, bytes: 9, icvFailures: 9 };
    peer.nic!.updateStats(handle, stats);
    expect(stats).toEqual({ packets: 1, bytes: frame.length, icvFailures: 1 });
    const port = peer.stats.port(0);
    expect([port[PortStat.OPENED], port[PortStat.ICV_BAD]]).toEqual([1, 1]);
    expect(() => peer.nic!.advanceEsn(handle, -1)).toThrow(RangeError);
  });

  it('leaves RECEIVED what it has no key for, and opens again once the SA is back', async () => {
    const { a, b, peer } = field();
    const sa = saOf(peer, 'in');
    const reference = new Reference(a.engine, a.framing);
    const send = async (): Promise<number> => {
      a.sendOne({ seq: 4, state: RowState.SEALED, frame: reference.sealed(4, sa) });
      return (await b.receive(1))[0]!.row[Row.STATE]!;
    };
    expect(await send()).toBe(RowState.RECEIVED);
    const handle = await b.install(sa);
    expect(await send()).toBe(RowState.OPENED);
    peer.nic!.stateDelete(handle);
    expect(await send()).toBe(RowState.RECEIVED);
    await peer.nic!.stateFree(handle);
    await b.install({ ...sa, slot: 3 });
    expect(await send()).toBe(RowState.OPENED);
  });

  it('leaves to software what it cannot take apart: fragments, other protocols, short and long frames', async () => {
    const { a, b, peer } = field();
    const sa = saOf(peer, 'in');
    await b.install(sa);
    const good = new Reference(a.engine, a.framing).sealed(4, sa);
    const spoil = (at: number, value: number): Uint8Array => {
      const frame = good.slice();
      frame[at] = value;
      return frame;
    };
    const longer = new Uint8Array(good.length + 3);
    longer.set(good);
    const cases = [spoil(12, 0x86), spoil(14 + 6, 0x20), spoil(14 + 9, 17), spoil(14 + 9, 51), spoil(14, 0x41), longer];
    for (const frame of cases) {
      a.sendOne({ seq: 4, state: RowState.SEALED, frame });
      const [got] = await b.receive(1);
      expect(got!.row[Row.STATE]).toBe(RowState.RECEIVED);
      expect(got!.row[Row.SA]).toBe(-1);
      expect(got!.bytes).toEqual(frame);
    }
    for (let length = 1; length < good.length; length += 7) {
      a.sendOne({ seq: 4, state: RowState.SEALED, frame: good.slice(0, length) });
      for (const { row } of await b.receive(1)) expect(row[Row.STATE]).toBe(RowState.RECEIVED);
    }
    expect(b.pool.free).toBe(b.frames);
  });

  it('opens ESP in UDP for an SA that has the encapsulation, and only then', async () => {
    const { a, b, peer } = field();
    const sa = saOf(peer, 'in');
    const good = new Reference(a.engine, a.framing).sealed(4, sa);
    const frame = new Uint8Array(good.length + 8);
    frame.set(good.subarray(0, 34));
    frame.set(good.subarray(34), 42);
    frame[14 + 9] = 17;
    const view = new DataView(frame.buffer);
    view.setUint16(16, frame.length - 14);
    view.setUint16(34, 4500);
    view.setUint16(36, 4500);
    const send = async (): Promise<Int32Array> => {
      peer.wire.inject(0, 0, frame);
      const burst = createBurst(b.slab, 4);
      b.port.poll(burst);
      const r = burst.list[0]! * Row.WORDS;
      const row = b.slab.rows.slice(r, r + Row.WORDS);
      b.pool.give(burst.list[0]!);
      return row;
    };
    const handle = await b.install(sa);
    expect((await send())[Row.STATE]).toBe(RowState.RECEIVED);
    peer.nic!.stateDelete(handle);
    await peer.nic!.stateFree(handle);
    await b.install({ ...sa, encap: { sport: 4500, dport: 4500 } });
    const row = await send();
    expect([row[Row.STATE], row[Row.ESP]! - row[Row.START]!]).toEqual([RowState.OPENED, 42]);
  });

  it('does without offload where there is none', async () => {
    const rig = mockRig({ saSlots: 0 });
    expect(rig.a.xfrm).toBeNull();
    expect(rig.a.features.hw).toBe(0);
    const a = new House(rig, rig.a, framingOf(rig.a, rig.b), nobleEngine());
    expect(a.sendOne(TO_SEAL)).toBe(DropReason.NO_LOWER_HANDLE);
    expect(a.sendOne({ seq: 1, state: RowState.CLEAR })).toBe(0);
  });

  it('changes what it could do under the feet of its upper', async () => {
    const { device } = field();
    let changes = 0;
    device.onChange(() => changes++);
    expect(await device.setFeatures(ESP_FEATURES)).toBe(ESP_FEATURES);
    device.setHwFeatures(Feature.GSO_ESP);
    expect(device.features).toEqual({ hw: Feature.GSO_ESP, wanted: ESP_FEATURES, active: 0 });
    expect(changes).toBe(1);
  });

  it('vetoes packets that are too long or carry options', () => {
    const { device, out } = field();
    const nic = device.nic!;
    expect(nic.offloadOk(out(), 1500, 0)).toBe(true);
    expect(nic.offloadOk(out(), 1501, 0)).toBe(false);
    expect(nic.offloadOk(out(), 100, L3Flag.IP_OPTIONS)).toBe(false);
    expect(nic.offloadOk(out(), 100, L3Flag.EXTENSION_HEADERS)).toBe(false);
  });

  it('never runs out of handles, and gives no place out again before all others', async () => {
    const { device, out } = field({ saSlots: 3 });
    const nic = device.nic!;
    const seen = new Set<number>();
    for (let i = 0; i < 5000; i++) {
      const handle = await nic.stateAdd(out(1));
      expect(handle).toBeGreaterThan(0);
      seen.add(handle);
      nic.stateDelete(handle);
      await nic.stateFree(handle);
    }
    // 3 places times 2048 generations: none of 5000 came twice.
    expect(seen.size).toBe(5000);
  });
});

describe('the inside port in memory', () => {
  it('hands out what is pushed and delivers what is sent, each frame back to its pool', () => {
    const slab = createSlab({ frames: 4 });
    const pool = createPool(slab);
    const burst = createBurst(slab, 8);
    const got: Uint8Array[] = [];
    const inside = new MockInside({ slab, pool }, () => {}, 6);
    inside.onPacket((packet) => got.push(packet));
    const packets = Array.from({ length: 6 }, (_, i) => Uint8Array.of(0x45, i, i));
    expect(packets.map((packet) => inside.push(packet))).toEqual([true, true, true, true, true, true]);
    expect(inside.push(packets[0]!)).toBe(false);
    expect(inside.poll(burst)).toBe(4);
    expect(pool.free).toBe(0);
    const r = burst.list[0]! * Row.WORDS;
    expect([slab.rows[r + Row.STATE], slab.rows[r + Row.L3] === slab.rows[r + Row.START]]).toEqual([0, true]);
    slab.rows[burst.list[1]! * Row.WORDS + Row.FATE] = DropReason.SELECTOR;
    slab.rows[burst.list[2]! * Row.WORDS + Row.END] = 0;
    expect(inside.xmit(burst)).toBe(2);
    expect(slab.rows[burst.list[2]! * Row.WORDS + Row.FATE]).toBe(DropReason.BAD_INNER);
    expect(got).toEqual([packets[0], packets[3]]);
    expect([pool.free, inside.waiting, inside.delivered]).toEqual([2, 2, 2]);
    expect(() => inside.push(new Uint8Array(0))).toThrow(RangeError);
    expect(() => inside.push(new Uint8Array(3000))).toThrow(RangeError);
    inside.close();
    expect(inside.waiting).toBe(0);
  });
});
