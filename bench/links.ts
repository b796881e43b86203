/**
 * One SA over four links of limited rate, in virtual time: each tick offers as many packets as four links carry, each link
 * carries its rate and queues the rest until its ring is full. No clock and no cipher: what is counted is where packets go,
 * and what the peer's window says of the order in which they arrive.
 */
import { BondPort, ReplicaTable, SnapshotPublisher, XMIT_HASH_POLICIES, xmitHash } from '@espalier/bond';
import { EspPath } from '@espalier/esp';
import { createMockPair, openMockPort } from '@espalier/mock';
import { ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { createBurst, Row, RowState, resetRow } from '@espalier/wire';
import { DROP_CODES, DropReason, type HandleSource, SaKey, type Spread, settle } from '@espalier/xfrm';
import { Desk, material, protectAll } from './frame/desk.ts';
import { nullEngine } from './frame/null-engine.ts';
import { ipv4, V4 } from './frame/packets.ts';

export const LINKS = 4;
/** Packets that a link carries in a tick. */
export const RATE = 32;
/** Packets that wait in front of a link. */
export const QUEUE = 256;
const TICKS = 300;
const NO_HANDLES: HandleSource = { resolve: () => 0 };

export interface LinksOptions {
  readonly spread: Spread;
  /** Inner flows of equal rate. */
  readonly flows: number;
  /** The peer's replay window. */
  readonly window: number;
  /** Share of four links' rate that is offered. */
  readonly load?: number;
  /** Ticks by which the first link is slower than the others. */
  readonly delay?: number;
}

export interface LinksResult {
  /** Packets delivered per tick over one link's rate: 4 is all four links full. */
  readonly links: number;
  /** Share of what arrived that the window refused as too old. */
  readonly refused: number;
  /** Packets that found their link's queue full. */
  readonly noRoom: number;
}

export async function links(options: LinksOptions): Promise<LinksResult> {
  const { spread, flows, window: size, load = 1, delay = 0 } = options;
  const offered = Math.round(LINKS * RATE * load);
  const pair = createMockPair({ links: LINKS, ringSlots: QUEUE, slotBytes: 256 });
  if (delay > 0) pair.wire.setFaults(0, 0, { delay });
  const out = new Desk(offered);
  const inn = new Desk(RATE);
  const window = ReplayWindow.create({ size, esn: false });
  const allocator = SequenceAllocator.create({ esn: false });
  const sa = {
    ...{ slot: 0, spi: 0x1000, ...V4, mode: 'tunnel' as const, algorithm: 'aes128gcm16' as const, icvLength: 16 },
    // With ESN a number left of the window counts as one of the next 2^32, and no cipher here would find out.
    ...{ esn: false, key: SaKey.import('aes128gcm16', material('aes128gcm16')).share(), encap: null },
  };
  const frameHash = (view: DataView, start: number, end: number): number => xmitHash('layer3+4', view, start, end);
  const common = { engine: nullEngine(), maxSas: 1, linkType: 'ethernet' as const, offloads: null };
  const sender = new EspPath({ ...common, slab: out.slab, frameHash });
  const place = { memory: allocator.memory, offset: allocator.offset };
  const link = Uint8Array.of(2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0, 0);
  sender.addOutbound({ ...sa, allocator: place, offload: false, noHandle: 'drop', link, mtu: 1500, spread });
  sender.setPolicies(protectAll(0));
  const receiver = new EspPath({ ...common, slab: inn.slab });
  receiver.addInbound({ ...sa, window: { memory: window.memory, offset: window.offset } });

  const publisher = new SnapshotPublisher(1, LINKS, () => Promise.resolve());
  await publisher.publish(pair.a.map((d) => d.index));
  const policy = new Int32Array(new SharedArrayBuffer(4)).fill(XMIT_HASH_POLICIES.indexOf('layer3+4'));
  const context = { engine: nullEngine(), handles: NO_HANDLES };
  const aPorts = pair.a.map((d) => openMockPort(d.ticket(0), { ...context, slab: out.slab, pool: out.pool }));
  const bPorts = pair.b.map((d) => openMockPort(d.ticket(0), { ...context, slab: inn.slab, pool: inn.pool }));
  const bond = BondPort.attach(
    {
      snapshot: publisher.ticket,
      replicas: ReplicaTable.create(1, LINKS).ticket,
      policy: policy.buffer as SharedArrayBuffer,
    },
    { worker: 0, ports: new Map(pair.a.map((d, i) => [d.index, aPorts[i]!])), slab: out.slab, capacity: offered },
  );

  const packets = Array.from({ length: flows }, (_, flow) => ipv4(64, flow));
  const turn = deal(flows);
  const drops = new Float64Array(DROP_CODES);
  const received = createBurst(inn.slab, RATE);
  let delivered = 0;
  let refused = 0;
  for (let tick = 0; tick < TICKS; tick++) {
    for (let i = 0; i < offered; i++) {
      const row = out.pool.take();
      const start = row * out.slab.frameSize + out.slab.headroom;
      out.slab.bytes.set(packets[turn()]!, start);
      resetRow(out.slab.rows, row, start, start + 64, RowState.UNSET);
      out.burst.list[out.burst.length++] = row;
    }
    bond.pin();
    sender.outbound(out.burst);
    bond.xmit(out.burst);
    settle(out.burst, out.pool, drops);
    bond.unpin();
    for (const port of bPorts) {
      // No more than the burst holds: the link's rate.
      port.poll(received);
      receiver.inbound(received, port);
      for (let i = 0; i < received.length; i++) {
        const fate = received.rows[received.list[i]! * Row.WORDS + Row.FATE];
        if (fate === 0) delivered++;
        else if (fate === DropReason.STALE) refused++;
        else throw new Error(`a packet was dropped: DropReason ${fate}`);
        inn.pool.give(received.list[i]!);
      }
      received.length = 0;
    }
  }
  for (const port of [...aPorts, ...bPorts]) port.close();
  await pair.close();
  return {
    links: delivered / (TICKS * RATE),
    refused: refused / (delivered + refused),
    noRoom: drops[DropReason.NO_ROOM]!,
  };
}

/** Flows in equal shares, each round in another order. */
function deal(flows: number): () => number {
  const order = Array.from({ length: flows }, (_, i) => i);
  let at = flows;
  let state = 1;
  return () => {
    if (at === flows) {
      at = 0;
      for (let i = flows - 1; i > 0; i--) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        const j = Math.floor((state / 2 ** 32) * (i + 1));
        [order[i], order[j]] = [order[j]!, order[i]!];
      }
    }
    return order[at++]!;
  };
}
