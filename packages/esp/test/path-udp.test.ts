import { ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { Row, RowState } from '@espalier/wire';
import { DropReason, SaKey, XfrmError } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { EspPath, nobleEngine, type OutboundTicket } from '../src/index.ts';
import { Bench, hex, ipv4, toHex } from './bench-rows.ts';
import { protect } from './rig.ts';

const MTU = 1472;
const common = {
  slot: 0,
  spi: 0x2002,
  source: hex('c0000201'),
  destination: hex('c0000202'),
  mode: 'tunnel' as const,
  algorithm: 'aes128gcm16' as const,
  icvLength: 16,
  esn: true,
  key: SaKey.import('aes128gcm16', new Uint8Array(20).fill(7)).share(),
  encap: null,
};

function ends(change: Partial<OutboundTicket> = {}): { bench: Bench; out: EspPath; back: EspPath } {
  const bench = new Bench();
  const options = { slab: bench.slab, engine: nobleEngine(), maxSas: 4, linkType: 'esp-udp' as const, offloads: null };
  const out = new EspPath(options);
  const back = new EspPath({ ...options, engine: nobleEngine() });
  const allocator = SequenceAllocator.create({ esn: true });
  const window = ReplayWindow.create({ size: 1024, esn: true });
  const place = { memory: allocator.memory, offset: 0 };
  out.addOutbound({ ...common, allocator: place, offload: false, noHandle: 'drop', link: null, mtu: MTU, ...change });
  back.addInbound({ ...common, window: { memory: window.memory, offset: 0 } });
  out.setPolicies(protect(0));
  return { bench, out, back };
}

describe('a path over UDP sockets', () => {
  it('makes rows that begin at the ESP header, and takes them back', () => {
    const { bench, out, back } = ends();
    const inner = ipv4(120);
    bench.put(inner);
    out.outbound(bench.burst);
    expect(bench.at(0, Row.STATE)).toBe(RowState.SEALED);
    expect(bench.at(0, Row.START)).toBe(bench.at(0, Row.ESP));
    const sent = bench.bytes(0);
    expect(toHex(sent.subarray(0, 8))).toBe('0000200200000001');
    bench.clear();
    bench.put(sent, RowState.RECEIVED);
    back.inbound(bench.burst);
    expect(bench.at(0, Row.FATE)).toBe(0);
    expect(toHex(bench.bytes(0))).toBe(toHex(inner));
  });

  it('fills its MTU to the last byte with ESP and refuses one more', () => {
    const { bench, out } = ends();
    const most = out.innerMtu(0);
    bench.put(ipv4(most));
    bench.put(ipv4(most + 1));
    out.outbound(bench.burst);
    expect(bench.fates()).toEqual([0, DropReason.TOO_BIG]);
    const length = bench.bytes(0).length;
    expect(length).toBeLessThanOrEqual(MTU);
    expect(length).toBeGreaterThan(MTU - 4);
  });

  it('tells keepalives and IKE from ESP by the rules of RFC 3948', () => {
    const { bench, back } = ends();
    bench.put(Uint8Array.of(0xff), RowState.RECEIVED);
    bench.put(hex('0000000011223344'), RowState.RECEIVED);
    bench.put(hex('000020'), RowState.RECEIVED);
    bench.put(hex('0000999900000001'), RowState.RECEIVED);
    back.inbound(bench.burst);
    expect(bench.fates()).toEqual([
      DropReason.NAT_KEEPALIVE,
      DropReason.IKE,
      DropReason.TRUNCATED,
      DropReason.NO_STATE,
    ]);
  });

  it('takes no SA that brings a UDP or link header of its own', () => {
    expect(() => ends({ encap: { sport: 4500, dport: 4500 } })).toThrow(XfrmError);
    expect(() => ends({ link: new Uint8Array(14) })).toThrow(XfrmError);
  });
});
