import { type Binding, errnoName, load, slabId } from '@espalier/native';
import { type Burst, type FramePool, type FrameSlab, Row, RowState, resetRow } from '@espalier/wire';
import { DropReason, type Port, type PortContext, XfrmError } from '@espalier/xfrm';
import type { TunTicket } from './tun-device.ts';

const BATCH = 64;
/** What the addon says of a packet that does not fit a frame; anything else is malformed. */
const OVERSIZE = -1;

/**
 * Opens one queue on this worker. The descriptor stays the device's. Throws XfrmError: SYSTEM when it is none of a TUN device
 * as `TunDevice` opens them, NO_SPACE.
 */
export function openTunPort(ticket: TunTicket, context: PortContext): Port {
  const { binding } = load();
  if (binding === null)
    throw new XfrmError({ code: 'UNSUPPORTED', device: 'tun', what: 'TUN without the native addon' });
  return new TunPort(ticket.fd, binding, context);
}

function mayComeOut(rows: Int32Array, r: number): boolean {
  if (rows[r + Row.FATE] !== 0) return false;
  if (rows[r + Row.STATE] === RowState.OPENED) return true;
  rows[r + Row.FATE] = DropReason.UNSET;
  return false;
}

function attachError(errno: string, fd: number): XfrmError {
  if (errno === 'ENOSPC' || errno === 'ENOMEM')
    return new XfrmError({ code: 'NO_SPACE', what: 'too many TUN queues here' });
  const what = `descriptor ${fd} is no non-blocking queue of a TUN device with offload headers (${errno})`;
  return new XfrmError({ code: 'SYSTEM', call: 'TUNGETIFF', errno, what });
}

class TunPort implements Port {
  readonly fd: number;
  readonly #binding: Binding;
  readonly #slab: FrameSlab;
  readonly #slabId: number;
  readonly #pool: FramePool;
  readonly #list: Int32Array = new Int32Array(new SharedArrayBuffer(4 * BATCH));
  readonly #listId: number;
  /** The queue on this thread: a super-packet that is being cut stays with it. */
  readonly #queue: number;

  constructor(fd: number, binding: Binding, context: PortContext) {
    this.fd = fd;
    this.#binding = binding;
    this.#slab = context.slab;
    this.#slabId = slabId(binding, context.slab);
    this.#pool = context.pool;
    this.#queue = binding.tunAttach(fd);
    if (this.#queue < 0) throw attachError(errnoName(this.#queue), fd);
    this.#listId = binding.registerList(this.#list);
    if (this.#listId >= 0) return;
    binding.tunDetach(this.#queue);
    throw attachError('ENOSPC', fd);
  }

  /**
   * Writes inner packets `[START, END)` of OPENED rows; the frames are free again at once. A full device drops: NO_ROOM.
   * Whatever went wrong before: nothing that no ICV has held for comes out.
   */
  xmit(burst: Burst): number {
    const { rows, list } = burst;
    let taken = 0;
    for (let i = 0; i < burst.length; ) {
      let n = 0;
      for (; i < burst.length && n < BATCH; i++) if (mayComeOut(rows, list[i]! * Row.WORDS)) this.#list[n++] = list[i]!;
      const wrote = n === 0 ? 0 : Math.max(0, this.#binding.tunWrite(this.#queue, this.#slabId, this.#listId, 0, n));
      for (let k = 0; k < wrote; k++) this.#pool.give(this.#list[k]!);
      for (let k = wrote; k < n; k++) rows[this.#list[k]! * Row.WORDS + Row.FATE] = DropReason.NO_ROOM;
      taken += wrote;
    }
    return taken;
  }

  /** Appends inner packets, state UNSET: they may not leave before somebody says how. */
  poll(burst: Burst): number {
    const want = Math.min(BATCH, burst.list.length - burst.length);
    let n = 0;
    for (; n < want; n++) {
      const frame = this.#pool.take();
      if (frame < 0) break;
      this.#list[n] = frame;
    }
    const got = n === 0 ? 0 : Math.max(0, this.#binding.tunRead(this.#queue, this.#slabId, this.#listId, 0, n));
    const rows = this.#slab.rows;
    for (let k = 0; k < got; k++) {
      const row = this.#list[k]!;
      const r = row * Row.WORDS;
      const fate = rows[r + Row.FATE]!;
      resetRow(rows, row, rows[r + Row.START]!, rows[r + Row.END]!, RowState.UNSET);
      if (fate !== 0) rows[r + Row.FATE] = fate === OVERSIZE ? DropReason.TOO_BIG : DropReason.BAD_INNER;
      burst.list[burst.length++] = row;
    }
    for (let k = n - 1; k >= got; k--) this.#pool.give(this.#list[k]!);
    return got;
  }

  reap(): number {
    return 0;
  }

  room(): number {
    return BATCH;
  }

  close(): void {
    this.#binding.unregisterList(this.#listId);
    this.#binding.tunDetach(this.#queue);
  }
}
