/**
 * Our datapath between two cables: opens what side a sealed, seals it for side b, and the reverse. Two EspPaths, one per
 * side, each with an engine of its own; frames go through them in bursts as they come off the sockets.
 */
import { isIPv4 } from 'node:net';
import { EspPath } from '@espalier/esp';
import { ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { type Burst, createBurst, createSlab, type FrameSlab, Row, RowState, resetRow } from '@espalier/wire';
import { ALGORITHMS, type CryptoEngine, dropName, SaKey } from '@espalier/xfrm';
import type { Cable } from './cable.ts';
import { GATEWAY_MAC, LINKS, otherSide, type Planned, type PlannedSa, SIDES, type Side } from './esp-plan.ts';

const CAPACITY = 64;
const MTU = 1500;
const PORTS = { sport: 4500, dport: 4500 };

/** What the gateway needs of a cable. */
type Wire = Pick<Cable, 'send' | 'onFrame'>;

interface End {
  readonly cable: Wire;
  readonly path: EspPath;
  readonly waiting: Buffer[];
  /** What was dropped, by reason. */
  readonly dropped: Map<string, number>;
  /** Of the last packet that went through in each combination: as it came in, and as it left for this side. */
  readonly lastIn: Map<number, Buffer>;
  readonly lastOut: Map<number, Buffer>;
  /** By combination. */
  readonly windows: ReplayWindow[];
  readonly allocators: SequenceAllocator[];
}

export class EspGateway {
  readonly ends: Readonly<Record<Side, End>>;
  readonly #slab: FrameSlab;
  readonly #burst: Burst;
  readonly #count: number;
  #due = false;

  constructor(
    planned: readonly Planned[],
    cables: Readonly<Record<Side, Wire>>,
    engines: Readonly<Record<Side, CryptoEngine>>,
  ) {
    this.#count = planned.length;
    this.#slab = createSlab({ frames: CAPACITY });
    this.#burst = createBurst(this.#slab, CAPACITY);
    this.ends = { a: this.#end('a', planned, cables.a, engines.a), b: this.#end('b', planned, cables.b, engines.b) };
    for (const side of SIDES)
      cables[side].onFrame((frame) => {
        // Multicast is the network's own chatter.
        if ((frame[0]! & 1) !== 0) return;
        this.ends[side].waiting.push(Buffer.from(frame));
        this.#ask();
      });
  }

  /** Opens a frame as if `side` had just sent it; returns the name of its DropReason, NONE when it went through. */
  open(side: Side, frame: Buffer): string {
    this.#fill([frame]);
    this.ends[side].path.inbound(this.#burst);
    return dropName(this.#slab.rows[Row.FATE]!);
  }

  /** Seals an inner packet for `side`; null when it was dropped. */
  seal(side: Side, packet: Uint8Array): Buffer | null {
    const { bytes, rows } = this.#slab;
    this.#fill([packet]);
    resetRow(rows, 0, rows[Row.START]!, rows[Row.END]!, RowState.UNSET);
    this.ends[side].path.outbound(this.#burst);
    return rows[Row.FATE] === 0 ? Buffer.from(bytes.subarray(rows[Row.START]!, rows[Row.END]!)) : null;
  }

  #end(side: Side, planned: readonly Planned[], cable: Wire, engine: CryptoEngine): End {
    const other = otherSide(side);
    const path = new EspPath({
      slab: this.#slab,
      engine,
      maxSas: 2 * planned.length,
      linkType: 'ethernet',
      offloads: null,
      capacity: CAPACITY,
    });
    const link = Buffer.from(`${LINKS[side].mac}:${GATEWAY_MAC}:00:00`.replaceAll(':', ''), 'hex');
    const windows: ReplayWindow[] = [];
    const allocators: SequenceAllocator[] = [];
    for (const p of planned) {
      const window = ReplayWindow.create({ size: 1024, esn: p.esn });
      window.acceptUpTo(p.start);
      windows.push(window);
      const allocator = SequenceAllocator.create({ esn: p.esn });
      allocator.advanceTo(p.start + 1);
      allocators.push(allocator);
      const selector = (from: Side, to: Side) => ({
        source: addressBytes(p.inner[from]),
        sourceBits: p.innerFamily === 4 ? 32 : 128,
        destination: addressBytes(p.inner[to]),
        destinationBits: p.innerFamily === 4 ? 32 : 128,
        protocol: null,
      });
      path.addInbound({
        ...common(p, p.toGateway[side]),
        slot: p.index,
        window: { memory: window.memory, offset: 0 },
        selectors: [selector(side, other)],
      });
      path.addOutbound({
        ...common(p, p.fromGateway[side]),
        slot: planned.length + p.index,
        allocator: { memory: allocator.memory, offset: 0 },
        offload: false,
        noHandle: 'drop',
        link,
        mtu: MTU,
      });
    }
    path.setPolicies(
      planned.map((p) => ({
        source: addressBytes(p.inner[other]),
        sourceBits: p.innerFamily === 4 ? 32 : 128,
        destination: addressBytes(p.inner[side]),
        destinationBits: p.innerFamily === 4 ? 32 : 128,
        protocol: null,
        action: 'protect',
        slot: planned.length + p.index,
      })),
    );
    const empty = { waiting: [], dropped: new Map(), lastIn: new Map(), lastOut: new Map() };
    return { cable, path, ...empty, windows, allocators };
  }

  /** Once the sockets have been read, so that bursts are more than one frame long. */
  #ask(): void {
    if (this.#due) return;
    this.#due = true;
    setImmediate(() => {
      this.#due = false;
      this.#carry(this.ends.a, this.ends.b);
      this.#carry(this.ends.b, this.ends.a);
    });
  }

  #carry(from: End, to: End): void {
    const burst = this.#burst;
    const { rows, bytes } = this.#slab;
    for (let frames = from.waiting.splice(0, CAPACITY); frames.length > 0; frames = from.waiting.splice(0, CAPACITY)) {
      this.#fill(frames);
      from.path.inbound(burst);
      let passed = 0;
      for (let i = 0; i < frames.length; i++) {
        const r = i * Row.WORDS;
        if (!this.#lives(from, r)) continue;
        from.lastIn.set(rows[r + Row.SA]!, frames[i]!);
        resetRow(rows, i, rows[r + Row.START]!, rows[r + Row.END]!, RowState.UNSET);
        burst.list[passed++] = i;
      }
      burst.length = passed;
      to.path.outbound(burst);
      for (let i = 0; i < passed; i++) {
        const r = burst.list[i]! * Row.WORDS;
        if (!this.#lives(to, r)) continue;
        if (rows[r + Row.STATE] !== RowState.SEALED) throw new Error('neither dropped nor sealed');
        const frame = Buffer.from(bytes.subarray(rows[r + Row.START]!, rows[r + Row.END]!));
        to.lastOut.set(rows[r + Row.SA]! - this.#count, frame);
        to.cable.send(frame);
      }
    }
  }

  #fill(frames: readonly Uint8Array[]): void {
    const { bytes, frameSize, headroom, rows } = this.#slab;
    frames.forEach((frame, i) => {
      const start = i * frameSize + headroom;
      bytes.set(frame, start);
      resetRow(rows, i, start, start + frame.length, RowState.RECEIVED);
      this.#burst.list[i] = i;
    });
    this.#burst.length = frames.length;
  }

  /** Counts what does not. */
  #lives(end: End, r: number): boolean {
    const fate = this.#slab.rows[r + Row.FATE]!;
    if (fate === 0) return true;
    const name = dropName(fate);
    end.dropped.set(name, (end.dropped.get(name) ?? 0) + 1);
    return false;
  }
}

function common(p: Planned, sa: PlannedSa) {
  return {
    spi: sa.spi,
    source: addressBytes(sa.source),
    destination: addressBytes(sa.destination),
    mode: p.mode,
    algorithm: p.algorithm,
    icvLength: ALGORITHMS[p.algorithm].icvLength,
    esn: p.esn,
    key: SaKey.import(p.algorithm, sa.key).share(),
    encap: p.natt ? PORTS : null,
  };
}

/** Network order. */
export function addressBytes(text: string): Uint8Array {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number);
  const [head = '', tail = ''] = text.split('::');
  const words = (half: string): number[] =>
    half
      .split(':')
      .filter(Boolean)
      .map((w) => Number.parseInt(w, 16));
  const front = words(head);
  const back = words(tail);
  const all = [...front, ...new Array(8 - front.length - back.length).fill(0), ...back];
  return Uint8Array.from(all.flatMap((w) => [w >> 8, w & 255]));
}
