/** One SA over all links: what esp writes into rows, what the bond makes of it, and that both agree with the bytes. */
import { BondPort, ReplicaTable, SnapshotPublisher, XMIT_HASH_POLICIES, xmitHash } from '@espalier/bond';
import { EspPath, nobleEngine, type OutboundTicket, portOfFlow } from '@espalier/esp';
import { SequenceAllocator } from '@espalier/replay';
import { type Burst, createBurst, createSlab, type FrameSlab, flowHash, Row, RowState, resetRow } from '@espalier/wire';
import { ALGORITHMS, DropReason, LowerHandles, OffloadTable, type Port, SaKey } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';

const SLAVES = 4;
const V4 = { source: Uint8Array.of(192, 0, 2, 1), destination: Uint8Array.of(198, 51, 100, 7) };
const V6 = { source: new Uint8Array(16).fill(0x20), destination: new Uint8Array(16).map((_, i) => 3 * i) };

/** Rows by slave, and the state in which each came. */
class Slave implements Port {
  readonly fd = -1;
  readonly got: { row: number; state: number }[] = [];
  readonly #handles: LowerHandles;
  readonly #lower: number;
  constructor(handles: LowerHandles, lower: number) {
    this.#handles = handles;
    this.#lower = lower;
  }
  xmit({ rows, list, length }: Burst): number {
    for (let i = 0; i < length; i++) {
      const r = list[i]! * Row.WORDS;
      const state = rows[r + Row.STATE]!;
      if (state === RowState.TO_SEAL && this.#handles.resolve(rows[r + Row.SA]!, this.#lower) === 0)
        rows[r + Row.FATE] = DropReason.NO_LOWER_HANDLE;
      else this.got.push({ row: list[i]!, state });
    }
    return length;
  }
  poll = (): number => 0;
  reap = (): number => 0;
  room = (): number => 1;
  close(): void {}
}

interface Rig {
  slab: FrameSlab;
  path: EspPath;
  slaves: Slave[];
  replicas: ReplicaTable;
  /** Sends inner packets of these flows by the SA in slot 0; returns the rows. */
  send(flows: readonly number[], length?: number): number[];
}

async function rig(more: Partial<OutboundTicket> = {}): Promise<Rig> {
  const slab = createSlab({ frames: 64 });
  const offloads = OffloadTable.create(4);
  offloads.setUpper(0);
  const replicas = ReplicaTable.create(4, SLAVES);
  const handles = new LowerHandles(offloads, replicas);
  const frameHash = (view: DataView, start: number, end: number): number => xmitHash('layer3+4', view, start, end);
  const path = new EspPath({ slab, engine: nobleEngine(), maxSas: 4, linkType: 'ethernet', offloads, frameHash });
  const algorithm = 'aes128gcm16';
  const allocator = SequenceAllocator.create({ esn: true });
  path.addOutbound({
    slot: 0,
    spi: 0xc0ffee01,
    ...V4,
    mode: 'tunnel',
    algorithm,
    icvLength: ALGORITHMS[algorithm].icvLength,
    esn: true,
    key: SaKey.import(algorithm, new Uint8Array(20).fill(7)).share(),
    encap: null,
    allocator: { memory: allocator.memory, offset: allocator.offset },
    offload: true,
    noHandle: 'drop',
    link: Uint8Array.of(2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0, 0),
    mtu: 1500,
    ...more,
  });
  const any = { source: new Uint8Array(4), sourceBits: 0, destination: new Uint8Array(4), destinationBits: 0 };
  path.setPolicies([{ ...any, protocol: null, action: 'protect', slot: 0 }]);
  const publisher = new SnapshotPublisher(1, SLAVES, () => Promise.resolve());
  await publisher.publish([0, 1, 2, 3]);
  for (let lower = 0; lower < SLAVES; lower++) replicas.write(0, lower, 1);
  const policy = new Int32Array(new SharedArrayBuffer(4)).fill(XMIT_HASH_POLICIES.indexOf('layer3+4'));
  const slaves = Array.from({ length: SLAVES }, (_, lower) => new Slave(handles, lower));
  const bond = BondPort.attach(
    { snapshot: publisher.ticket, replicas: replicas.ticket, policy: policy.buffer as SharedArrayBuffer },
    { worker: 0, ports: new Map(slaves.map((s, i) => [i, s])), slab, handles, path },
  );
  const burst = createBurst(slab, 64);
  return {
    slab,
    path,
    slaves,
    replicas,
    send: (flows, length = 80) => {
      burst.length = 0;
      for (const [row, flow] of flows.entries()) {
        const start = row * slab.frameSize + slab.headroom;
        const packet = new Uint8Array(length);
        packet.set([0x45, 0, 0, length, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, flow >> 8, flow & 255, 10, 2, 0, 1]);
        packet.set([1, flow & 255, 2, 0], 20);
        slab.bytes.set(packet, start);
        resetRow(slab.rows, row, start, start + length, RowState.UNSET);
        burst.list[burst.length++] = row;
      }
      bond.pin();
      path.outbound(burst);
      bond.xmit(burst);
      bond.unpin();
      return [...burst.list.subarray(0, burst.length)];
    },
  };
}

const word = (it: Rig, row: number, column: number): number => it.slab.rows[row * Row.WORDS + column]!;
const bytesHash = (it: Rig, row: number): number =>
  xmitHash('layer3+4', it.slab.view, word(it, row, Row.START), word(it, row, Row.END));
const slaveOf = (it: Rig, row: number): number => it.slaves.findIndex((s) => s.got.some((g) => g.row === row));
const FLOWS = Array.from({ length: 64 }, (_, i) => 37 * i + 5);

describe('spread sa', () => {
  it.each([
    ['IPv4', {}],
    ['IPv6', V6],
    ['IPv4 in UDP', { encap: { sport: 4500, dport: 4500 } }],
    ['IPv6 in UDP', { ...V6, encap: { sport: 4500, dport: 4501 } }],
  ])('carries the hash that xmitHash has for the frame, sealed or not: %s', async (_, more) => {
    for (const offload of [true, false]) {
      const it = await rig({ ...more, offload });
      for (const row of it.send(FLOWS)) {
        expect(word(it, row, Row.STATE)).toBe(offload ? RowState.TO_SEAL : RowState.SEALED);
        expect(word(it, row, Row.HASH)).toBe(bytesHash(it, row));
        expect(slaveOf(it, row)).toBe(bytesHash(it, row) % SLAVES);
      }
      expect(it.slaves.filter((s) => s.got.length > 0).length).toBe(1);
    }
  });

  it('leaves it to the bytes where they change: source ports by flow, transport mode', async () => {
    const ports = await rig({ encap: { sport: 4500, dport: 4500 }, portEntropy: true });
    for (const row of ports.send(FLOWS)) {
      expect(word(ports, row, Row.HASH)).toBe(-1);
      expect(slaveOf(ports, row)).toBe(bytesHash(ports, row) % SLAVES);
    }
    const transport = await rig({ mode: 'transport' });
    for (const row of transport.send(FLOWS)) {
      expect(word(transport, row, Row.FATE)).toBe(0);
      expect(word(transport, row, Row.HASH)).toBe(-1);
    }
  });
});

describe('spread inner', () => {
  it('sends a flow by one slave, whatever its packets, and flows by all slaves', async () => {
    const it = await rig({ spread: 'inner' });
    const first = it.send(FLOWS).map((row) => slaveOf(it, row));
    for (const s of it.slaves) s.got.length = 0;
    expect(it.send(FLOWS, 300).map((row) => slaveOf(it, row))).toEqual(first);
    expect(new Set(first).size).toBe(SLAVES);
  });

  it('keeps the order within a flow: numbers rise on its slave', async () => {
    const it = await rig({ spread: 'inner' });
    it.send(Array.from({ length: 64 }, (_, i) => i % 5));
    for (const { got } of it.slaves)
      for (let flow = 0; flow < 5; flow++) {
        const seqs = got.filter((g) => g.row % 5 === flow).map((g) => word(it, g.row, Row.SEQ_LO));
        expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
      }
  });
});

describe('spread spray', () => {
  it('deals the packets of one flow to the slaves in turn', async () => {
    const it = await rig({ spread: 'spray' });
    const order = it.send(FLOWS.map(() => 1)).map((row) => slaveOf(it, row));
    for (let i = 1; i < order.length; i++) expect(order[i]).toBe((order[i - 1]! + 1) % SLAVES);
  });
});

describe('source ports by flow', () => {
  it('lie from 49152 on, the same for a flow, different for most, over IPv6 with a whole checksum', async () => {
    for (const family of [V4, V6]) {
      const it = await rig({ ...family, encap: { sport: 4500, dport: 4500 }, portEntropy: true, offload: false });
      const port = (row: number): number => it.slab.view.getUint16(word(it, row, Row.ESP) - 8);
      const ports = it.send(FLOWS).map(port);
      expect(Math.min(...ports)).toBeGreaterThanOrEqual(49_152);
      expect(new Set(ports).size).toBeGreaterThan(56);
      expect(it.send(FLOWS, 200).map(port)).toEqual(ports);
      expect(it.send(FLOWS).every((row) => it.slab.view.getUint16(word(it, row, Row.ESP) - 6) === 4500)).toBe(true);
      if (family === V6)
        for (const row of it.send(FLOWS)) expect(it.slab.view.getUint16(word(it, row, Row.ESP) - 2)).not.toBe(0);
    }
  });

  it('are what a peer that hashes ports spreads by, where one port per SA would take one link', async () => {
    const links = (more: Partial<OutboundTicket>): Promise<number> =>
      rig({ encap: { sport: 4500, dport: 4500 }, ...more }).then(
        (it) => new Set(it.send(FLOWS).map((row) => bytesHash(it, row) % SLAVES)).size,
      );
    expect(await links({})).toBe(1);
    expect(await links({ portEntropy: true })).toBe(SLAVES);
  });

  it('do not follow the slave: flows of one slave have ports that spread over four links of a switch', async () => {
    const it = await rig({ encap: { sport: 4500, dport: 4500 }, portEntropy: true, spread: 'inner' });
    const rows = it.send(FLOWS).filter((row) => slaveOf(it, row) === 0);
    expect(new Set(rows.map((row) => portOfFlow(word(it, row, Row.FLOW)) % SLAVES)).size).toBe(SLAVES);
    for (const row of rows)
      expect(it.slab.view.getUint16(word(it, row, Row.ESP) - 8)).toBe(portOfFlow(word(it, row, Row.FLOW)));
  });

  it('need UDP encapsulation', async () => {
    await expect(rig({ portEntropy: true })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

describe('without a handle on its slave', () => {
  it.each([
    ['drop', 32, 0],
    ['software', 64, 32],
    ['steer', 64, 0],
  ] as const)(
    'an SA that says %s has %i packets of 64 carried, %i of them sealed here',
    async (noHandle, carried, here) => {
      const it = await rig({ noHandle, spread: 'spray' });
      it.replicas.write(0, 1, 0);
      it.replicas.write(0, 3, 0);
      const rows = it.send(FLOWS);
      const got = it.slaves.flatMap((s) => s.got);
      expect(got.length).toBe(carried);
      expect(got.filter((g) => g.state === RowState.SEALED).length).toBe(here);
      if (noHandle === 'steer') expect(it.slaves.map((s) => s.got.length)).toEqual([32, 0, 32, 0]);
      const fates = rows.map((row) => word(it, row, Row.FATE)).filter((fate) => fate !== 0);
      expect(fates).toEqual(new Array(64 - carried).fill(DropReason.NO_LOWER_HANDLE));
      for (const { row, state } of got) {
        // Sealed here is really sealed: the inner header is not readable where it stood.
        const payload = word(it, row, Row.ESP) + 16;
        if (state === RowState.SEALED) expect(it.slab.view.getUint32(payload)).not.toBe(0x4500_0050);
        else expect(it.slab.view.getUint32(payload)).toBe(0x4500_0050);
      }
    },
  );
});

it('a flow hash of an inner packet is what rows carry', async () => {
  const it = await rig({ spread: 'inner' });
  const [row] = it.send([9]);
  const inner = word(it, row!, Row.ESP) + 16;
  expect(word(it, row!, Row.HASH)).toBe(flowHash(it.slab.view, inner, inner + 80) & 0x7fff_ffff);
});
