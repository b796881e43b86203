import { ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { Row, RowState } from '@espalier/wire';
import { ALGORITHMS, type AlgorithmName, dropName, type PolicyTicket, SaKey } from '@espalier/xfrm';
import { nodeEngine } from '../src/engines/node.ts';
import { EspPath, type EspPathOptions, type InboundTicket, type OutboundTicket } from '../src/index.ts';
import { Bench, hex, toHex } from './bench-rows.ts';

export const LINK = hex('02000000000b02000000000a0000');
export const V4 = { source: hex('c0000201'), destination: hex('c0000202') };
export const V6 = {
  source: hex('20010db8000000000000000000000001'),
  destination: hex('20010db8000000000000000000000002'),
};
export const NAT_T = { sport: 4500, dport: 4500 };

/** A sender and a receiver of one SA, in slot 3. */
export interface Rig {
  readonly bench: Bench;
  readonly a: EspPath;
  readonly b: EspPath;
  readonly window: ReplayWindow;
  readonly allocator: SequenceAllocator;
  /** The tickets of the SA. */
  readonly outbound: OutboundTicket;
  readonly inbound: InboundTicket;
}

/** Policies that protect everything with the SA in a slot. */
export function protect(slot: number): PolicyTicket[] {
  return [4, 16].map((n) => ({
    source: new Uint8Array(n),
    sourceBits: 0,
    destination: new Uint8Array(n),
    destinationBits: 0,
    protocol: null,
    action: 'protect',
    slot,
  }));
}

export function rig(
  out: Partial<OutboundTicket> = {},
  inn: Partial<InboundTicket> = {},
  options: Partial<EspPathOptions> & { readonly algorithm?: AlgorithmName } = {},
): Rig {
  const { algorithm = 'aes128gcm16', ...rest } = options;
  const material = Uint8Array.from({ length: ALGORITHMS[algorithm].keyLength }, (_, i) => i * 3 + 1);
  const window = ReplayWindow.create({ size: 1024, esn: inn.esn ?? true });
  const allocator = SequenceAllocator.create({ esn: out.esn ?? true });
  const common = {
    slot: 3,
    spi: 0x1001,
    ...V4,
    mode: 'tunnel' as const,
    algorithm,
    icvLength: ALGORITHMS[algorithm].icvLength,
    esn: true,
    key: SaKey.import(algorithm, material).share(),
    encap: null,
  } as const;
  const bench = new Bench(32);
  const make = (): EspPath =>
    new EspPath({
      slab: bench.slab,
      engine: nodeEngine(),
      maxSas: 8,
      linkType: 'ethernet',
      offloads: null,
      ...rest,
    });
  const a = make();
  const b = make();
  const place = { memory: allocator.memory, offset: 0 };
  const outbound: OutboundTicket = {
    ...common,
    allocator: place,
    offload: false,
    noHandle: 'drop',
    link: LINK,
    mtu: 1500,
    ...out,
  };
  const inbound: InboundTicket = { ...common, window: { memory: window.memory, offset: 0 }, ...inn };
  a.addOutbound(outbound);
  a.setPolicies(protect(3));
  b.addInbound(inbound);
  return { bench, a, b, window, allocator, outbound, inbound };
}

/** Sends packets; the frames as they leave. */
export function send({ bench, a }: Rig, ...packets: Uint8Array[]): Uint8Array[] {
  bench.clear();
  for (const p of packets) bench.put(p);
  a.outbound(bench.burst);
  return packets.map((_, i) => bench.bytes(i));
}

/** Receives frames; what comes out, or the name of what became of it. */
export function receive({ bench, b }: Rig, ...frames: Uint8Array[]): string[] {
  bench.clear();
  for (const f of frames) bench.put(f, RowState.RECEIVED);
  b.inbound(bench.burst);
  return frames.map((_, i) => (bench.at(i, Row.FATE) === 0 ? toHex(bench.bytes(i)) : dropName(bench.at(i, Row.FATE))));
}

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
