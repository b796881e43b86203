import { Lifetime, LifetimeEvent, ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { Row, RowState } from '@espalier/wire';
import { DropReason, SaKey } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { EspPath, nobleEngine } from '../src/index.ts';
import { Bench, hex, ipv4 } from './bench-rows.ts';
import { protect } from './rig.ts';

const LENGTH = 100;
const WORKERS = 2;

function world(
  out: object,
  back: object,
): {
  benches: Bench[];
  senders: EspPath[];
  receivers: EspPath[];
  sent: Lifetime;
  taken: Lifetime;
  numbers: SequenceAllocator;
} {
  const sent = Lifetime.create(out);
  const taken = Lifetime.create(back);
  const numbers = SequenceAllocator.create({ esn: true });
  const window = ReplayWindow.create({ size: 1024, esn: true, workers: WORKERS });
  const sa = {
    slot: 0,
    spi: 0x3003,
    source: hex('c0000201'),
    destination: hex('c0000202'),
    mode: 'tunnel' as const,
    algorithm: 'aes128gcm16' as const,
    icvLength: 16,
    esn: true,
    key: SaKey.import('aes128gcm16', new Uint8Array(20)).share(),
    encap: null,
  };
  const place = (thing: { memory: SharedArrayBuffer; offset: number }): typeof thing => ({
    memory: thing.memory,
    offset: thing.offset,
  });
  const benches: Bench[] = [];
  const senders: EspPath[] = [];
  const receivers: EspPath[] = [];
  for (let worker = 0; worker < WORKERS; worker++) {
    const bench = new Bench();
    const options = { slab: bench.slab, worker, maxSas: 1, linkType: 'ip' as const, offloads: null };
    const sender = new EspPath({ ...options, engine: nobleEngine() });
    const receiver = new EspPath({ ...options, engine: nobleEngine() });
    sender.addOutbound({
      ...sa,
      allocator: place(numbers),
      lifetime: place(sent),
      offload: false,
      noHandle: 'drop',
      link: null,
      mtu: 1500,
    });
    sender.setPolicies(protect(0));
    receiver.addInbound({ ...sa, window: place(window), lifetime: place(taken) });
    benches.push(bench);
    senders.push(sender);
    receivers.push(receiver);
  }
  return { benches, senders, receivers, sent, taken, numbers };
}

/** Sends bursts of four from both workers in turn; the sealed packets, and how many were refused with LIFETIME. */
function send(
  { benches, senders }: ReturnType<typeof world>,
  bursts: number,
): { sealed: Uint8Array[]; refused: number } {
  const sealed: Uint8Array[] = [];
  let refused = 0;
  for (let i = 0; i < bursts; i++) {
    const bench = benches[i % WORKERS]!;
    for (let k = 0; k < 4; k++) bench.put(ipv4(LENGTH));
    senders[i % WORKERS]!.outbound(bench.burst);
    bench.fates().forEach((fate, k) => {
      if (fate === 0) sealed.push(bench.bytes(k));
      else if (fate === DropReason.LIFETIME) refused++;
    });
    bench.clear();
  }
  return { sealed, refused };
}

describe('lifetimes on the way through ESP', () => {
  it('end an outbound SA for all workers at the hard limit, never beyond it, and burn no number', () => {
    const w = world({ softPackets: 20, hardPackets: 30, quotaPackets: 0 }, {});
    const { sealed, refused } = send(w, 20);
    expect(sealed).toHaveLength(30);
    expect(refused).toBe(50);
    expect(w.numbers.next()).toBe(31);
    expect(w.sent.events()).toBe(LifetimeEvent.SOFT | LifetimeEvent.HARD);
    expect(w.sent.events()).toBe(0);
  });

  it('count bytes of inner packets', () => {
    const w = world({ hardBytes: 10 * LENGTH, quotaBytes: 0 }, {});
    expect(send(w, 10).sealed).toHaveLength(10);
  });

  it('end an inbound SA: what comes after the hard limit is refused before any crypto', () => {
    const w = world({}, { hardPackets: 6, quotaPackets: 0 });
    const { sealed } = send(w, 4);
    const fates: number[] = [];
    const states: number[] = [];
    for (const [i, packet] of sealed.entries()) {
      const bench = w.benches[i % WORKERS]!;
      bench.put(packet, RowState.RECEIVED);
      w.receivers[i % WORKERS]!.inbound(bench.burst);
      fates.push(...bench.fates());
      states.push(bench.at(0, Row.STATE));
      bench.clear();
    }
    expect(fates.filter((f) => f === 0)).toHaveLength(6);
    // The one that ran into the limit was opened; those behind it were not.
    expect(states.slice(7).every((state) => state === RowState.RECEIVED)).toBe(true);
    expect(fates.slice(6).every((f) => f === DropReason.LIFETIME)).toBe(true);
    expect(w.taken.events()).toBe(LifetimeEvent.HARD);
  });
});
