/** A gateway's worker whose inside is a clockwork: a packet every fifth of a millisecond, and when each slave took one. */
import { readlinkSync } from 'node:fs';
import type { Burst, FramePool, FrameSlab } from '@espalier/wire';
import { RowState, resetRow } from '@espalier/wire';
import type { Port, PortContext, PortTicket } from '@espalier/xfrm';
import { openPort } from 'espalier';
import { runWorker } from 'espalier/run-worker';

export interface ClockworkTicket extends PortTicket {
  readonly kind: 'clockwork';
  /** An IPv4 packet. */
  readonly packet: Uint8Array;
  /** Per lower index two: milliseconds since the boot of the machine at which it last took a packet, and first since it was 0;
   * behind them the worker's thread number, as the system has it. */
  readonly times: SharedArrayBuffer;
}

const EVERY_MS = 0.2;

class Clockwork implements Port {
  readonly fd = -1;
  readonly #packet: Uint8Array;
  readonly #slab: FrameSlab;
  readonly #pool: FramePool;
  readonly #sleeper: Int32Array = new Int32Array(new SharedArrayBuffer(4));

  constructor(ticket: ClockworkTicket, { slab, pool }: PortContext) {
    this.#packet = ticket.packet;
    this.#slab = slab;
    this.#pool = pool;
  }

  poll(burst: Burst): number {
    Atomics.wait(this.#sleeper, 0, 0, EVERY_MS);
    const row = this.#pool.take();
    if (row < 0) return 0;
    const start = row * this.#slab.frameSize + this.#slab.headroom;
    this.#slab.bytes.set(this.#packet, start);
    resetRow(this.#slab.rows, row, start, start + this.#packet.length, RowState.UNSET);
    burst.list[burst.length++] = row;
    return 1;
  }

  xmit = (): number => 0;
  reap = (): number => 0;
  room = (): number => 1;
  close(): void {}
}

/** A lower's port that writes down when it took something. */
function timed(port: Port, times: Float64Array, index: number): Port {
  const { xmit } = port;
  port.xmit = (burst) => {
    const taken = xmit.call(port, burst);
    if (taken === 0) return 0;
    times[2 * index] = Number(process.hrtime.bigint()) / 1e6;
    if (times[2 * index + 1] === 0) times[2 * index + 1] = times[2 * index]!;
    return taken;
  };
  return port;
}

let times: Float64Array | null = null;
const lowers: [Port, number][] = [];
runWorker((ticket, context) => {
  if (ticket.kind !== 'clockwork') {
    const port = openPort(ticket, context);
    lowers.push([port, ticket.index]);
    return port;
  }
  const clockwork = ticket as ClockworkTicket;
  times = new Float64Array(clockwork.times);
  times[4] = Number(readlinkSync('/proc/thread-self').split('/').at(-1));
  for (const [port, index] of lowers) timed(port, times, index);
  return new Clockwork(clockwork, context);
});
