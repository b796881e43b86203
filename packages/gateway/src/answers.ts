/** What a router says of a packet that is too big for its tunnel: to the host that sent it, through the inside. */
import { type EspPath, RateLimit } from '@espalier/esp';
import {
  type Burst,
  createBurst,
  type FramePool,
  type FrameSlab,
  Ipv4,
  Ipv6,
  mayAnswer,
  Row,
  RowState,
  resetRow,
  writeTooBig,
} from '@espalier/wire';
import { DropReason, type Port, settle } from '@espalier/xfrm';
import type { TooBigPlan } from './plan.ts';

/** RFC 8200 5: no host sends packets below this size on being told so. */
const LEAST_IPV6 = 1280;

export interface TooBigOptions {
  readonly slab: FrameSlab;
  readonly pool: FramePool;
  readonly path: EspPath;
  readonly inside: Port;
  /** Longest burst. */
  readonly capacity: number;
  readonly plan: TooBigPlan;
  readonly drops: Float64Array;
}

/**
 * ICMP fragmentation needed, ICMPv6 packet too big (RFC 4301 8.2), at most so many a second, for IPv4 without DF too: nothing
 * here fragments, and a host that is told sends less from then on. The answer says that it comes from the address the packet was for,
 * unless another is given: a kernel that checks reverse paths takes nothing else from the tunnel.
 */
export class TooBigAnswers {
  readonly #o: TooBigOptions;
  readonly #limit: RateLimit;
  readonly #burst: Burst;
  readonly #addresses: readonly [four: Uint8Array, six: Uint8Array] = [new Uint8Array(4), new Uint8Array(16)];

  constructor(options: TooBigOptions) {
    this.#o = options;
    this.#limit = new RateLimit(options.plan.perSecond);
    this.#burst = createBurst(options.slab, options.capacity);
  }

  tick(nowMs: number): void {
    this.#limit.tick(nowMs);
  }

  /** For a burst that has been through `EspPath.outbound` and no further; returns how many answers the inside took. */
  answer(burst: Burst): number {
    const { rows, list } = burst;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] === DropReason.TOO_BIG && rows[r + Row.SA]! >= 0) this.#write(r);
    }
    if (this.#burst.length === 0) return 0;
    const sent = this.#o.inside.xmit(this.#burst);
    settle(this.#burst, this.#o.pool, this.#o.drops);
    return sent;
  }

  #write(r: number): void {
    const { slab, pool, path, plan } = this.#o;
    const { rows, bytes, view } = slab;
    const start = rows[r + Row.START]!;
    const end = rows[r + Row.END]!;
    if (!mayAnswer(view, start, end) || !this.#limit.take()) return;
    const frame = pool.take();
    if (frame < 0) return;
    const six = view.getUint8(start) >> 4 === 6;
    const mtu = path.innerMtu(rows[r + Row.SA]!);
    const given = plan.from.find((address) => address.length === (six ? 16 : 4));
    const from = given ?? this.#addresses[six ? 1 : 0];
    const destination = start + (six ? Ipv6.DESTINATION : Ipv4.DESTINATION);
    if (given === undefined) for (let k = 0; k < from.length; k++) from[k] = bytes[destination + k]!;
    const at = frame * slab.frameSize + slab.headroom;
    const last = writeTooBig(bytes, view, at, start, end, six ? Math.max(mtu, LEAST_IPV6) : mtu, from);
    resetRow(rows, frame, at, last, RowState.OPENED);
    rows[frame * Row.WORDS + Row.L3] = at;
    this.#burst.list[this.#burst.length++] = frame;
  }
}
