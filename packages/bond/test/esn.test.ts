import { EspPath } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { createMockPair, type MockPair, openMockPort } from '@espalier/mock';
import { ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { createBurst, createPool, createSlab, Row, RowState, resetRow, writeIpv4 } from '@espalier/wire';
import { LowerHandles, OffloadTable, type Port, PortStat, type Sa } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { BondDevice, BondPort } from '../src/index.ts';
import { saOf } from './field.ts';

const STEP = 2 ** 31;
const START = 2 ** 32 - 100;
const PER_LINK = 32;

interface House {
  readonly path: EspPath;
  readonly ports: Port[];
  readonly send: (link: number, packets: number) => void;
  readonly receive: (link: number) => number;
}

function house(pair: MockPair, side: 'a' | 'b', worker: number, handles: LowerHandles): House {
  const slab = createSlab({ frames: 128 });
  const pool = createPool(slab);
  const burst = createBurst(slab, 64);
  const engine = nodeEngine();
  const path = new EspPath({ slab, engine, maxSas: 4, linkType: 'ethernet', offloads: null });
  const ports = pair[side].map((d) => {
    // Each worker receives from its own link.
    const ticket = { ...d.ticket(worker), receive: d.link % 2 === worker };
    return openMockPort(ticket, { slab, pool, engine, handles });
  });
  const send = (link: number, packets: number): void => {
    burst.length = 0;
    for (let i = 0; i < packets; i++) {
      const row = pool.take();
      const start = row * slab.frameSize + slab.headroom;
      writeIpv4(slab.view, start, {
        tos: 0,
        totalLength: 64,
        id: 0,
        fragment: 0,
        ttl: 64,
        protocol: 17,
        source: Uint8Array.of(10, 0, 0, 1),
        destination: Uint8Array.of(10, 0, 0, 2),
      });
      resetRow(slab.rows, row, start, start + 64, RowState.UNSET);
      burst.list[burst.length++] = row;
    }
    path.outbound(burst);
    ports[link]!.xmit(burst);
    for (let i = 0; i < burst.length; i++)
      if (slab.rows[burst.list[i]! * Row.WORDS + Row.FATE] !== 0) throw new Error('a packet was refused');
    ports[link]!.reap();
  };
  const receive = (link: number): number => {
    burst.length = 0;
    ports[link]!.poll(burst);
    path.inbound(burst, ports[link]!);
    let good = 0;
    for (let i = 0; i < burst.length; i++) {
      if (slab.rows[burst.list[i]! * Row.WORDS + Row.FATE] === 0) good++;
      pool.give(burst.list[i]!);
    }
    return good;
  };
  return { path, ports, send, receive };
}

/** Two links, two receiving workers, one SA whose numbers go across 2^32 and on, in steps of less than 2^31. */
async function across(
  spoil: (pair: MockPair) => void,
  steps: number,
  late = false,
): Promise<{ opened: number; bad: number; good: number; sent: number }> {
  const pair = createMockPair({ links: 2, workers: 2, saSlots: 4 });
  const offloads = OffloadTable.create(4);
  const bond = new BondDevice({
    name: 'bond0',
    index: 9,
    mode: '802.3ad',
    xmitHashPolicy: 'layer3+4',
    maxSas: 4,
    maxLowers: 4,
    workers: 2,
    offloads,
  });
  spoil(pair);
  const window = ReplayWindow.create({ size: 1024, esn: true });
  window.acceptUpTo(START - 1);
  const allocator = SequenceAllocator.create({ esn: true });
  allocator.advanceTo(START);
  const sa: Sa = saOf(0, { direction: 'in', bottom: () => window.bottom() });
  const common = { ...sa, key: sa.key.share(), encap: null };
  const receivers = [0, 1].map((worker) => {
    const port = BondPort.attach(bond.ticket(), { worker, ports: new Map(), slab: createSlab({ frames: 1 }) });
    const one = house(pair, 'a', worker, new LowerHandles(offloads, port));
    one.path.addInbound({ ...common, window: { memory: window.memory, offset: window.offset } });
    return one;
  });
  const sender = house(pair, 'b', 0, new LowerHandles(OffloadTable.create(4), null));
  sender.path.addOutbound({
    ...common,
    allocator: { memory: allocator.memory, offset: allocator.offset },
    offload: false,
    noHandle: 'drop',
    link: Uint8Array.from([...pair.a[0]!.mac!, ...pair.b[0]!.mac!, 0, 0]),
    mtu: 1500,
  });
  const any = { source: new Uint8Array(4), destination: new Uint8Array(4), sourceBits: 0, destinationBits: 0 };
  sender.path.setPolicies([{ ...any, protocol: null, action: 'protect', slot: 0 }]);

  await bond.enslave(pair.a[0]!);
  if (!late) await bond.enslave(pair.a[1]!);
  await bond.setFeatures(1);
  await bond.stateAdd(sa);
  let good = 0;
  let sent = 0;
  for (let step = 0; step < steps; step++) {
    // Both workers cross the edge in the same round.
    for (const link of late ? [0] : [0, 1]) {
      sender.send(link, PER_LINK);
      sent += PER_LINK;
    }
    for (const link of late ? [0] : [0, 1]) good += receivers[link]!.receive(link);
    bond.tick(step * 100);
    allocator.advanceTo(START + (step + 1) * (STEP - 4000));
  }
  if (late) {
    await bond.enslave(pair.a[1]!);
    sender.send(1, PER_LINK);
    sent += PER_LINK;
    good += receivers[1]!.receive(1);
  }
  const sum = (column: number): number =>
    pair.a.reduce((n, d) => n + d.stats.port(0)[column]! + d.stats.port(1)[column]!, 0);
  const result = { opened: sum(PortStat.OPENED), bad: sum(PortStat.ICV_BAD), good, sent };
  await bond.close();
  await pair.close();
  return result;
}

describe('ESN over replicas', () => {
  it('reaches every replica when the edge crosses a multiple of 2^31, so that each NIC opens with the right high half', async () => {
    const { opened, bad, good, sent } = await across(() => {}, 8);
    expect([opened, bad, good]).toEqual([sent, 0, sent]);
  });

  it('reaches a replica that is added later before it is READY', async () => {
    const { opened, bad, good, sent } = await across(() => {}, 6, true);
    expect([opened, bad, good]).toEqual([sent, 0, sent]);
  });

  it('is missed at once where one replica is skipped', async () => {
    const skip = (pair: MockPair): void => {
      pair.a[1]!.nic!.advanceEsn = () => {};
    };
    const { bad } = await across(skip, 8);
    expect(bad).toBeGreaterThan(0);
  });

  it('is told as absolute numbers, only forward, and once a step', async () => {
    const told: number[] = [];
    const watch = (pair: MockPair): void => {
      for (const { nic } of pair.a) {
        const { advanceEsn } = nic!;
        nic!.advanceEsn = (handle, bottom) => {
          told.push(Math.floor(bottom / STEP));
          advanceEsn.call(nic, handle, bottom);
        };
      }
    };
    await across(watch, 8);
    // Two replicas: each step twice, in order.
    expect(told).toEqual([...told].sort((a, b) => a - b));
    expect(new Set(told).size * 2).toBe(told.length);
    expect(new Set(told).size).toBeGreaterThan(6);
  });
});
