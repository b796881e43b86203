/** One worker's share of the traffic: a synchronous loop over its ports. */
import { createUmem } from '@espalier/af-xdp';
import { BondPort, xmitHash, xmitHashIp } from '@espalier/bond';
import { AuditRing, EspPath, type FrameHash, PathMtu, SaStat } from '@espalier/esp';
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
  DROP_CODES,
  type HandleSource,
  type LinkType,
  LowerHandles,
  OffloadTable,
  type Port,
  settle,
} from '@espalier/xfrm';
import { TooBigAnswers } from './answers.ts';
import { openEngine } from './engine.ts';
import { holdBack } from './gate.ts';
import { GatewayStat, type Order, STATS_BYTES, TICK_MS, type WorkerStart } from './messages.ts';
import type { OpenPort } from './open-port.ts';

/** Longest burst of a worker. */
export const BATCH = 64;
const REAP_EVERY = 64;

/** Backends whose every port receives. */
const OWN_QUEUE: ReadonlySet<string> = new Set(['af-xdp', 'udp']);
/** How the bond hashes a frame of each link type under layer3+4; sockets have no frame that begins with a header of ours. */
const FRAME_HASHES: Readonly<Record<LinkType, FrameHash | null>> = {
  ethernet: (view, start, end) => xmitHash('layer3+4', view, start, end),
  ip: xmitHashIp,
  'esp-udp': null,
};

export class Datapath {
  readonly #burst: Burst;
  readonly #pool: FramePool;
  readonly #drops: Float64Array;
  readonly #path: EspPath;
  readonly #bond: BondPort;
  readonly #inside: Port;
  readonly #ports: Port[];
  /** Lower indices of `#ports`. */
  readonly #lowers: number[];
  /** Lowers that this worker receives from. */
  readonly #receiving: Port[];
  readonly #slab: FrameSlab;
  readonly #stats: Float64Array;
  readonly #clock: Int32Array;
  readonly #audit: AuditRing | null;
  readonly #tooBig: TooBigAnswers;
  readonly #gates: Int32Array | null;
  #ticks = -1;
  #rounds = 0;

  /** Throws what opening a port throws; ports opened before are closed again. */
  constructor(start: WorkerStart, open: OpenPort) {
    const { worker, workers, maxSas, frames } = start;
    const sockets = start.lowers.filter((l) => l.kind === 'af-xdp').length;
    const slab = sockets > 0 ? createUmem({ frames, sockets }) : createSlab({ frames });
    this.#pool = createPool(slab, 0, start.frames, worker);
    this.#burst = createBurst(slab, BATCH);
    this.#slab = slab;
    this.#stats = new Float64Array(start.stats, 0, STATS_BYTES / 8);
    this.#drops = new Float64Array(start.stats, 0, DROP_CODES);
    this.#clock = new Int32Array(start.clock);
    this.#gates = start.gates === null ? null : new Int32Array(start.gates);
    this.#audit = start.audit === null ? null : AuditRing.attach(start.audit.memory, start.audit.plan);
    const engine = openEngine(start.engine);
    const offloads = OffloadTable.attach(start.offloads);
    this.#path = new EspPath({
      slab,
      engine,
      maxSas,
      worker,
      linkType: start.linkType,
      offloads,
      link: start.link,
      capacity: BATCH,
      frameHash: FRAME_HASHES[start.linkType],
      stats: new Float64Array(start.stats, GatewayStat.SAS * 8, maxSas * SaStat.COLUMNS),
      audit: this.#audit,
      pathMtu: PathMtu.attach(start.pathMtu),
    });
    // The ports need handles, and the bond the ports: handles are bound last.
    let handles: LowerHandles | null = null;
    const late: HandleSource = { resolve: (slot, lower) => handles!.resolve(slot, lower) };
    const context = { slab, pool: this.#pool, engine, handles: late };
    const opened: Port[] = [];
    try {
      for (const ticket of start.lowers) opened.push(open(ticket, context));
      this.#inside = open(start.inside, context);
    } catch (error) {
      for (const port of opened) port.close();
      throw error;
    }
    this.#ports = opened;
    this.#lowers = start.lowers.map((ticket) => ticket.index);
    // A queue of its own on every worker, or lower i on worker i modulo their number.
    this.#receiving = opened.filter((_, i) => OWN_QUEUE.has(start.lowers[i]!.kind) || i % workers === worker);
    this.#bond = BondPort.attach(start.bond, {
      worker,
      ports: new Map(start.lowers.map((t, i) => [t.index, opened[i]!])),
      slab,
      capacity: BATCH,
      linkType: start.linkType,
      handles: late,
      path: this.#path,
    });
    handles = new LowerHandles(offloads, this.#bond);
    this.#tooBig = new TooBigAnswers({
      slab,
      pool: this.#pool,
      path: this.#path,
      inside: this.#inside,
      capacity: BATCH,
      plan: start.tooBig,
      drops: this.#drops,
    });
    this.#tick();
  }

  /** Descriptors worth waiting for. */
  get fds(): number[] {
    return [this.#inside, ...this.#receiving].map((p) => p.fd).filter((fd) => fd >= 0);
  }

  /** One round over all ports, under one pin; returns how many packets moved. */
  round(): number {
    const burst = this.#burst;
    if (Atomics.load(this.#clock, 0) !== this.#ticks) this.#tick();
    this.#bond.pin();
    let moved = this.#inside.poll(burst);
    if (moved > 0) {
      this.#path.outbound(burst);
      this.#count(GatewayStat.ANSWERS, this.#tooBig.answer(burst));
      this.#send();
    }
    for (const port of this.#receiving) {
      const n = port.poll(burst);
      if (n === 0) continue;
      moved += n;
      this.#path.inbound(burst, port);
      if (this.#gates !== null) holdBack(burst, this.#gates, this.#path.stats);
      this.#inside.xmit(burst);
      this.#path.countUnsent(burst);
      settle(burst, this.#pool, this.#drops);
    }
    if (++this.#rounds % REAP_EVERY === 0 || moved === 0) for (const port of this.#ports) port.reap();
    this.#bond.unpin();
    return moved;
  }

  /** What the path has made of the burst goes out; under a pin. Returns how many rows the lowers took. */
  #send(): number {
    const burst = this.#burst;
    const sent = this.#bond.xmit(burst);
    this.#path.countUnsent(burst);
    settle(burst, this.#pool, this.#drops);
    return sent;
  }

  /** The gateway's time has moved on. */
  #tick(): void {
    this.#ticks = Atomics.load(this.#clock, 0);
    const now = this.#ticks * TICK_MS;
    this.#path.tick(now);
    this.#audit?.tick(now);
    this.#tooBig.tick(now);
  }

  #count(column: number, n: number): void {
    this.#stats[column] = this.#stats[column]! + n;
  }

  /** Carries out an order between bursts. */
  obey(order: Exclude<Order, { type: 'stop' }>): void {
    switch (order.type) {
      case 'add-in':
        this.#path.addInbound(order.ticket);
        break;
      case 'add-out':
        this.#path.addOutbound(order.ticket);
        break;
      case 'remove':
        this.#path.remove(order.slot);
        break;
      case 'policies':
        this.#path.setPolicies(order.policies);
        break;
      case 'switch':
        this.#path.switchOutbound(order.from, order.to);
        break;
      case 'close-lower':
        this.#closeLower(order.index);
        break;
      case 'dummies':
        this.#dummies(order.slot, order.count, order.length === 'mtu' ? this.#path.innerMtu(order.slot) : order.length);
        break;
      case 'keepalive':
        this.#keepalive(order.slot);
        break;
      case 'lower-keepalive':
        this.#lowerKeepalive(order.index, order.count);
        break;
      case 'resync':
        this.#path.resync(order.slot);
        break;
    }
  }

  #dummies(slot: number, count: number, length: number): void {
    const burst = this.#burst;
    this.#bond.pin();
    for (let i = 0; i < count && i < BATCH; i++) {
      const frame = this.#pool.take();
      if (frame < 0) break;
      this.#blank(frame);
      this.#path.dummy(slot, burst, frame, length);
    }
    this.#count(GatewayStat.DUMMIES, this.#send());
    this.#bond.unpin();
  }

  #keepalive(slot: number): void {
    const frame = this.#pool.take();
    if (frame < 0) return;
    this.#blank(frame);
    this.#bond.pin();
    this.#path.keepalive(slot, this.#burst, frame);
    this.#count(GatewayStat.KEEPALIVES, this.#send());
    this.#bond.unpin();
  }

  /** One byte 0xff (RFC 3948 2.3); the sockets put IP and UDP in front, and choose a source port by the flow. */
  #lowerKeepalive(index: number, count: number): void {
    const port = this.#ports[this.#lowers.indexOf(index)];
    const burst = this.#burst;
    for (let i = 0; i < count && i < BATCH && port !== undefined; i++) {
      const frame = this.#pool.take();
      if (frame < 0) break;
      const at = this.#blank(frame);
      const r = frame * Row.WORDS;
      this.#slab.bytes[at] = 0xff;
      this.#slab.rows[r + Row.END] = at + 1;
      this.#slab.rows[r + Row.STATE] = RowState.CLEAR;
      this.#slab.rows[r + Row.FLOW] = i;
      burst.list[burst.length++] = frame;
    }
    this.#count(GatewayStat.KEEPALIVES, port?.xmit(burst) ?? 0);
    settle(burst, this.#pool, this.#drops);
  }

  /** An empty row of a frame; returns where a packet may begin. */
  #blank(frame: number): number {
    const at = frame * this.#slab.frameSize + this.#slab.headroom;
    resetRow(this.#slab.rows, frame, at, at, RowState.UNSET);
    return at;
  }

  /** The bond asks when a leaving lower does not complete what was posted: closing its sockets completes it. */
  #closeLower(index: number): void {
    const nth = this.#lowers.indexOf(index);
    const port = this.#ports[nth];
    if (port === undefined) return;
    port.close();
    this.#lowers.splice(nth, 1);
    this.#ports.splice(nth, 1);
    this.#receiving.splice(this.#receiving.indexOf(port), this.#receiving.includes(port) ? 1 : 0);
  }

  close(): void {
    for (const port of this.#ports) port.close();
    this.#inside.close();
  }
}
