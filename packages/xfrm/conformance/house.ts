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
import type { CryptoEngine } from '../src/engine.ts';
import type { LowerHandle } from '../src/handle.ts';
import { OffloadTable } from '../src/offload.ts';
import { LowerHandles } from '../src/resolve.ts';
import type { LowerDevice, Port, Sa } from '../src/seam.ts';
import { type Framing, frameOf, seqHiOf } from './packet.ts';
import type { Rig } from './rig.ts';

/** A packet that was received: a copy of its bytes and of its row. */
export interface Received {
  readonly bytes: Uint8Array;
  readonly row: Int32Array;
}

/** What to put into a row. */
export interface Outgoing {
  /** Sequence number; it also tells packets of one rule apart. */
  readonly seq: number;
  readonly state: RowState;
  /** Slot of the SA; -1 = none. */
  readonly slot?: number;
  readonly fate?: number;
  /** A frame made elsewhere; by default an unsealed one of `framing`. */
  readonly frame?: Uint8Array;
}

const FRAMES = 512;
/** Packets of a burst longer than any ring that could be filled. */
export const FLOOD: number = FRAMES / 2;
const SLOTS = 16;
const POLLS = 40;
const QUIET_POLLS = 4;

/** One end: a lower with its one port, and the slab, pool, engine and handle table that a worker would lend it. */
export class House {
  readonly device: LowerDevice;
  readonly slab: FrameSlab;
  readonly pool: FramePool;
  readonly burst: Burst;
  readonly engine: CryptoEngine;
  readonly offloads: OffloadTable;
  readonly port: Port;
  readonly framing: Framing;
  readonly #rig: Rig;

  constructor(rig: Rig, device: LowerDevice, framing: Framing, engine: CryptoEngine) {
    this.#rig = rig;
    this.device = device;
    this.framing = framing;
    this.engine = engine;
    this.slab = rig.slab?.(FRAMES) ?? createSlab({ frames: FRAMES });
    this.pool = createPool(this.slab);
    this.burst = createBurst(this.slab, FRAMES);
    this.offloads = OffloadTable.create(SLOTS);
    this.port = rig.open(device, device.ticket(0), {
      slab: this.slab,
      pool: this.pool,
      engine,
      handles: new LowerHandles(this.offloads, null),
    });
  }

  /** Frames that are where they can be taken from: in the pool, or with the device to receive into. */
  get accounted(): number {
    return this.pool.free + (this.port.held ?? 0);
  }

  /** Frames that exist. */
  get frames(): number {
    return this.slab.frames;
  }

  /** Adds the SA to the lower and records its handle. */
  async install(sa: Sa): Promise<LowerHandle> {
    const handle = await this.add(sa);
    this.offloads.setDirect(sa.slot, this.device.index, handle);
    return handle;
  }

  add(sa: Sa, signal?: AbortSignal): Promise<LowerHandle> {
    return this.xfrm.stateAdd(sa, signal);
  }

  get xfrm(): NonNullable<LowerDevice['xfrm']> {
    const { xfrm } = this.device;
    if (xfrm === null) throw new Error(`${this.device.name} offers no offload`);
    return xfrm;
  }

  /** Writes packets into rows and calls `xmit`. Returns the burst: look at it, then `settle`. */
  send(packets: readonly Outgoing[], prepare: (row: number, r: number) => void = () => {}): number {
    const { slab, pool, burst } = this;
    burst.length = 0;
    for (const { seq, state, slot = -1, fate = 0, frame } of packets) {
      const bytes = frame ?? frameOf(this.framing, seq);
      const row = pool.take();
      const start = row * slab.frameSize + slab.headroom;
      slab.bytes.set(bytes, start);
      resetRow(slab.rows, row, start, start + bytes.length, state);
      const r = row * Row.WORDS;
      slab.rows[r + Row.L3] = this.framing.l3 < 0 ? -1 : start + this.framing.l3;
      slab.rows[r + Row.ESP] = start + this.framing.esp;
      slab.rows[r + Row.SA] = slot;
      slab.rows[r + Row.SEQ_LO] = seq | 0;
      slab.rows[r + Row.SEQ_HI] = seqHiOf(seq);
      slab.rows[r + Row.LOWER] = this.device.index;
      slab.rows[r + Row.FATE] = fate;
      prepare(row, r);
      burst.list[burst.length++] = row;
    }
    return this.port.xmit(burst);
  }

  /** The FATE of every row of the last `send`. */
  fates(): number[] {
    return Array.from(
      this.burst.list.subarray(0, this.burst.length),
      (row) => this.slab.rows[row * Row.WORDS + Row.FATE]!,
    );
  }

  /** Gives the frames of refused rows back and reaps the others. */
  settle(): void {
    const { burst, pool, port } = this;
    this.fates().forEach((fate, i) => {
      if (fate !== 0) pool.give(burst.list[i]!);
    });
    burst.length = 0;
    port.reap();
  }

  /** Sends one packet and settles; its fate. */
  sendOne(packet: Outgoing): number {
    this.send([packet]);
    const [fate] = this.fates();
    this.settle();
    return fate!;
  }

  /**
   * Polls until `count` packets of the suite have arrived or nothing more comes. With `open`, rows that the lower left
   * RECEIVED are offered to its `open` under the SA in `slot`, with the number's true high half.
   */
  async receive(count: number, open?: { readonly slot: number; readonly seqHi: number }): Promise<Received[]> {
    const { slab, pool, burst, port } = this;
    const got: Received[] = [];
    for (let poll = 0, quiet = 0; poll < POLLS && quiet < QUIET_POLLS; poll++, quiet++) {
      await this.#rig.deliver();
      burst.length = 0;
      port.poll(burst);
      if (open !== undefined && port.open !== undefined) this.#offer(open.slot, open.seqHi);
      for (let i = 0; i < burst.length; i++) {
        const row = burst.list[i]!;
        const r = row * Row.WORDS;
        const bytes = slab.bytes.slice(slab.rows[r + Row.START], slab.rows[r + Row.END]);
        if (this.framing.mine(bytes)) {
          got.push({ bytes, row: slab.rows.slice(r, r + Row.WORDS) });
          quiet = -1;
        }
        pool.give(row);
      }
      burst.length = 0;
      port.reap();
      if (got.length >= count && count > 0) break;
    }
    return got;
  }

  #offer(slot: number, seqHi: number): void {
    const { rows, list, length } = this.burst;
    for (let i = 0; i < length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.STATE] !== RowState.RECEIVED) continue;
      const esp = rows[r + Row.START]! + this.framing.esp;
      if (esp + 8 > rows[r + Row.END]!) continue;
      rows[r + Row.ESP] = esp;
      rows[r + Row.SA] = slot;
      rows[r + Row.SEQ_LO] = this.slab.view.getInt32(esp + 4);
      rows[r + Row.SEQ_HI] = seqHi;
    }
    this.port.open?.(this.burst);
  }
}
