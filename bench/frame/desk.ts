import { EspPath, type InboundTicket, nobleEngine, type OutboundTicket } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { ReplayWindow, SequenceAllocator } from '@espalier/replay';
import {
  type Burst,
  createBurst,
  createPool,
  createSlab,
  type FramePool,
  type FrameSlab,
  Row,
  RowState,
  resetRow,
} from '@espalier/wire';
import {
  ALGORITHMS,
  type AlgorithmName,
  type CryptoEngine,
  type LinkType,
  type PolicyTicket,
  SaKey,
  XfrmError,
} from '@espalier/xfrm';
import { openEngine } from 'espalier';
import { nullEngine } from './null-engine.ts';
import { ipv4, V4 } from './packets.ts';

/** What a worker has: a slab, its pool, one burst. */
export class Desk {
  readonly slab: FrameSlab;
  readonly pool: FramePool;
  readonly burst: Burst;

  constructor(frames: number, capacity = frames) {
    this.slab = createSlab({ frames });
    this.pool = createPool(this.slab);
    this.burst = createBurst(this.slab, capacity);
  }

  /** Appends a packet to the burst, or to another of this slab. */
  put(packet: Uint8Array, state: RowState, burst = this.burst): void {
    const row = this.pool.take();
    if (row < 0) throw new RangeError('no frame left');
    const start = row * this.slab.frameSize + this.slab.headroom;
    this.slab.bytes.set(packet, start);
    resetRow(this.slab.rows, row, start, start + packet.length, state);
    burst.list[burst.length++] = row;
  }

  /** Copies of the packets in the burst; throws when one of them was dropped. */
  packets(): Uint8Array[] {
    const { rows, list } = this.burst;
    return Array.from({ length: this.burst.length }, (_, i) => {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) throw new Error(`packet ${i} was dropped: DropReason ${rows[r + Row.FATE]}`);
      return this.slab.bytes.slice(rows[r + Row.START], rows[r + Row.END]);
    });
  }

  /** Puts packets `from ..` into the frames of the burst that is there, one each, in their rows' order; returns the next. */
  refill(packets: readonly Uint8Array[], from: number, state: RowState): number {
    const { list, length } = this.burst;
    for (let i = 0; i < length; i++) {
      const start = list[i]! * this.slab.frameSize + this.slab.headroom;
      const packet = packets[from + i]!;
      this.slab.bytes.set(packet, start);
      resetRow(this.slab.rows, list[i]!, start, start + packet.length, state);
    }
    return from + length;
  }

  clear(): void {
    for (let i = 0; i < this.burst.length; i++) this.pool.give(this.burst.list[i]!);
    this.burst.length = 0;
  }
}

export type EngineName = 'noble' | 'node' | 'none' | NativeName;
type NativeName = 'ipsec-mb' | 'openssl';

/** `none` leaves bytes as they are: what a packet costs besides its cipher. */
export function engineOf(name: EngineName): CryptoEngine {
  if (name === 'ipsec-mb' || name === 'openssl') return openEngine(name);
  return name === 'noble' ? nobleEngine() : name === 'node' ? nodeEngine() : nullEngine();
}

/** The addon's engines that this machine has. */
export const NATIVE: readonly NativeName[] = (['ipsec-mb', 'openssl'] as const).filter((name) => {
  try {
    openEngine(name);
    return true;
  } catch (error) {
    if (error instanceof XfrmError) return false;
    throw error;
  }
});

/** Key material of every SA here: 3, 6, 9, ... */
export function material(algorithm: AlgorithmName): Uint8Array {
  return Uint8Array.from({ length: ALGORITHMS[algorithm].keyLength }, (_, i) => i * 3 + 3);
}

export interface SaPair {
  readonly out: OutboundTicket;
  readonly in: InboundTicket;
  readonly window: ReplayWindow;
  readonly allocator: SequenceAllocator;
}

/** Both ends of one SA: tunnel mode over IPv4 and Ethernet (or, on `esp-udp`, a socket's), ESN, window 1024. */
export function saPair(
  algorithm: AlgorithmName,
  more: { slot?: number; spi?: number; offload?: boolean; esn?: boolean; linkType?: LinkType } = {},
): SaPair {
  const { slot = 0, spi = 0x1000, offload = false, esn = true, linkType = 'ethernet' } = more;
  const window = ReplayWindow.create({ size: 1024, esn });
  const allocator = SequenceAllocator.create({ esn });
  const common = {
    slot,
    spi,
    ...V4,
    mode: 'tunnel' as const,
    algorithm,
    icvLength: ALGORITHMS[algorithm].icvLength,
    esn,
    key: SaKey.import(algorithm, material(algorithm)).share(),
    encap: null,
  };
  const link = linkType === 'ethernet' ? Uint8Array.of(2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0, 0) : null;
  return {
    out: {
      ...common,
      allocator: { memory: allocator.memory, offset: allocator.offset },
      offload,
      noHandle: 'drop',
      link,
      mtu: 1500,
    },
    in: { ...common, window: { memory: window.memory, offset: window.offset } },
    window,
    allocator,
  };
}

/** Everything of either family goes to one SA. */
export function protectAll(slot: number): PolicyTicket[] {
  return [4, 16].map((length) => ({
    source: new Uint8Array(length),
    sourceBits: 0,
    destination: new Uint8Array(length),
    destinationBits: 0,
    protocol: null,
    action: 'protect',
    slot,
  }));
}

export function pathOf(desk: Desk, engine: CryptoEngine, maxSas = 4, linkType: LinkType = 'ethernet'): EspPath {
  const capacity = desk.burst.list.length;
  return new EspPath({ slab: desk.slab, engine, maxSas, linkType, offloads: null, capacity });
}

/** Frames 1 .. `count` of one SA, sealed in bursts of `burst`. */
export function sealedFrames(
  algorithm: AlgorithmName,
  size: number,
  engine: EngineName,
  count: number,
  burst: number,
): Uint8Array[] {
  const desk = new Desk(burst);
  const path = pathOf(desk, engineOf(engine));
  path.addOutbound(saPair(algorithm).out);
  path.setPolicies(protectAll(0));
  const frames: Uint8Array[] = [];
  while (frames.length < count) {
    desk.clear();
    for (let i = 0; i < burst; i++) desk.put(ipv4(size), RowState.UNSET);
    path.outbound(desk.burst);
    frames.push(...desk.packets());
  }
  return frames;
}
