/**
 * Our side of the AF_XDP contest. `forward A B FRAMES SIZE MS` does what c/xdp-loop.c does; `encap` and `decap` in its place,
 * with `G0 G1 SLAVE SIZE MS`, are the whole way of a packet on one thread: received on G1, sealed or opened, split over a bond of
 * SLAVE0 and SLAVE1, sent; this thread also sends what is received, from G0, and `alone` behind MS leaves the time of that out.
 */
import { createUmem, openXskPort, XskDevice } from '@espalier/af-xdp';
import { BondPort, ReplicaTable, SnapshotPublisher, XMIT_HASH_POLICIES, xmitHash } from '@espalier/bond';
import { EspPath } from '@espalier/esp';
import {
  type Burst,
  createBurst,
  createPool,
  type FramePool,
  type FrameSlab,
  Row,
  RowState,
  resetRow,
} from '@espalier/wire';
import { DROP_CODES, type HandleSource, type Port, settle } from '@espalier/xfrm';
import { engineOf, protectAll, saPair } from '../frame/desk.ts';
import { ipv4 } from '../frame/packets.ts';

const FRAMES = 4096;
const BATCH = 64;
const PACKETS_A_SAMPLE = 4096;
const REAP_EVERY = 16;
/** V8 needs longer than a C compiler's output. */
const WARM_UP_MS = 1000;
/** Frames sealed beforehand; longer than the window. */
const STORE = 4096;
const FLOWS = 64;
const LINK = Uint8Array.of(2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0);
const NO_HANDLES: HandleSource = { resolve: () => 0 };

const [work, a, b, third, size, ms, alone] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
  string,
  string?,
];

/** Ports over one memory, one per interface. */
function openPorts(names: readonly string[], slab: FrameSlab, pools: readonly FramePool[]): Port[] {
  return names.map((name, index) => {
    const device = XskDevice.open({ name, index, ports: 1 });
    const context = { slab, pool: pools[index]!, engine: engineOf('none'), handles: NO_HANDLES };
    return openXskPort(device.ticket(0), context);
  });
}

/** Calls `round`, which says how many packets it moved, until the time is over; what `before` takes may be left out. */
function measure(round: () => number, before: (() => void) | null = null, leaveOut = false): object {
  const samples: number[] = [];
  const began = performance.now();
  const until = began + WARM_UP_MS + Number(ms);
  for (let start = began; start < until; start = performance.now()) {
    let packets = 0;
    let apart = 0;
    while (packets < PACKETS_A_SAMPLE) {
      const at = leaveOut ? performance.now() : 0;
      before?.();
      if (leaveOut) apart += performance.now() - at;
      const n = round();
      packets += n;
      if (n === 0 && performance.now() - start > 1000) throw new Error('the frames are lost');
    }
    if (start - began >= WARM_UP_MS) samples.push(((performance.now() - start - apart) * 1e6) / packets);
  }
  samples.sort((x, y) => x - y);
  const mean = samples.reduce((x, y) => x + y, 0) / samples.length;
  return { min: samples[0], median: samples[samples.length >> 1], mean, samples: samples.length };
}

function put(slab: FrameSlab, row: number, bytes: Uint8Array, state: RowState): void {
  const start = row * slab.frameSize + slab.headroom;
  slab.bytes.set(bytes, start);
  resetRow(slab.rows, row, start, start + bytes.length, state);
}

/** Ethernet around an ESP packet: what the steering program lets through. */
function outerFrame(length: number, flow: number): Uint8Array {
  const frame = new Uint8Array(length);
  frame.set(LINK);
  frame.set(ipv4(length - 14, flow), 14);
  frame[23] = 50;
  // The header's checksum, for UDP's number exchanged for ESP's.
  const sum = ((frame[24]! << 8) | frame[25]!) - (50 - 17);
  frame[24] = sum >> 8;
  frame[25] = sum;
  return frame;
}

function forward(): object {
  const slab = createUmem({ frames: FRAMES, sockets: 2 });
  const pool = createPool(slab);
  const [left, right] = openPorts([a, b], slab, [pool, pool]) as [Port, Port];
  const burst = createBurst(slab, BATCH);
  const drops = new Float64Array(DROP_CODES);
  for (let i = 0; i < Number(third); i++) {
    const row = pool.take();
    put(slab, row, outerFrame(Number(size), i), RowState.CLEAR);
    burst.list[burst.length++] = row;
  }
  left.xmit(burst);
  burst.length = 0;
  let rounds = 0;
  const hop = (port: Port): number => {
    const n = port.poll(burst);
    if (n === 0) return 0;
    const { rows, list } = burst;
    for (let i = 0; i < n; i++) rows[list[i]! * Row.WORDS + Row.STATE] = RowState.CLEAR;
    port.xmit(burst);
    settle(burst, pool, drops);
    return n;
  };
  const figures = measure(() => {
    if (++rounds % REAP_EVERY === 0) {
      left.reap();
      right.reap();
    }
    return hop(left) + hop(right);
  });
  if (drops.some((n) => n > 0)) throw new Error(`frames were dropped: ${drops.join(' ')}`);
  return figures;
}

/** Takes frames that were sent in the order of their sending; gives the port none to receive into. */
class SentFrames implements FramePool {
  readonly free = 0;
  readonly #first: number;
  /** Frames sent and given back. */
  back = 0;

  constructor(first: number) {
    this.#first = first;
  }

  take(): number {
    return -1;
  }

  give(frame: number): void {
    if (frame < this.#first) throw new Error('not a frame of the sender');
    this.back++;
  }
}

async function whole(): Promise<object> {
  const slab = createUmem({ frames: FRAMES + STORE, sockets: 4 });
  const pool = createPool(slab, 0, FRAMES);
  const sent = new SentFrames(FRAMES);
  const names = [a, b, `${third}0`, `${third}1`];
  const [generator, inside, ...slaves] = openPorts(names, slab, [sent, pool, pool, pool]) as [Port, Port, Port, Port];
  const pathFor = (): EspPath =>
    new EspPath({
      ...{ slab, engine: engineOf('ipsec-mb'), maxSas: 1, linkType: 'ethernet' as const, offloads: null, link: LINK },
      frameHash: (view, start, end) => xmitHash('layer3+4', view, start, end),
    });
  const pair = saPair('aes128gcm16');
  const path = pathFor();
  path.addOutbound({ ...pair.out, mtu: 1514, spread: 'inner' });
  path.setPolicies(protectAll(0));
  // What was opened goes on in the clear, behind a header of its own.
  const clear = pathFor();
  clear.setPolicies(protectAll(0).map((p) => ({ ...p, action: 'bypass', slot: -1 })));
  const publisher = new SnapshotPublisher(1, 4, () => Promise.resolve());
  await publisher.publish([2, 3]);
  const policy = new Int32Array(new SharedArrayBuffer(4)).fill(XMIT_HASH_POLICIES.indexOf('layer3+4'));
  const bond = BondPort.attach(
    {
      snapshot: publisher.ticket,
      replicas: ReplicaTable.create(1, 4).ticket,
      policy: policy.buffer as SharedArrayBuffer,
    },
    { worker: 0, ports: new Map(slaves.map((p, i) => [2 + i, p])), slab, capacity: BATCH },
  );
  const burst = createBurst(slab, BATCH);
  const sending = createBurst(slab, BATCH);
  const drops = new Float64Array(DROP_CODES);

  // The sender's frames: inner packets that are ESP themselves, or sealed ones.
  const frames: Burst = createBurst(slab, BATCH);
  for (let i = 0; i < STORE; i += BATCH) {
    frames.length = 0;
    for (let k = 0; k < BATCH; k++) {
      const inner = outerFrame(14 + Number(size), (i + k) % FLOWS);
      const row = FRAMES + i + k;
      put(slab, row, work === 'encap' ? inner : inner.subarray(14), work === 'encap' ? RowState.CLEAR : RowState.UNSET);
      frames.list[frames.length++] = row;
    }
    if (work === 'decap') path.outbound(frames);
  }
  const starts = Int32Array.from({ length: STORE }, (_, i) => slab.rows[(FRAMES + i) * Row.WORDS + Row.START]!);
  const ends = Int32Array.from({ length: STORE }, (_, i) => slab.rows[(FRAMES + i) * Row.WORDS + Row.END]!);
  if (work === 'decap') {
    path.remove(0);
    path.addInbound(pair.in);
  }

  let at = 0;
  const generate = (): void => {
    if (at === STORE) {
      at = 0;
      if (work === 'decap') {
        path.remove(0);
        path.addInbound(saPair('aes128gcm16').in);
      }
    }
    sending.length = 0;
    for (let i = 0; i < BATCH; i++, at++) {
      const row = FRAMES + at;
      resetRow(slab.rows, row, starts[at]!, ends[at]!, RowState.CLEAR);
      sending.list[sending.length++] = row;
    }
    generator.xmit(sending);
  };
  let rounds = 0;
  const round = (): number => {
    let moved = 0;
    for (let n = inside.poll(burst); n > 0; n = inside.poll(burst)) {
      bond.pin();
      const { rows, list } = burst;
      if (work === 'encap') {
        for (let i = 0; i < n; i++) {
          const r = list[i]! * Row.WORDS;
          resetRow(rows, list[i]!, rows[r + Row.START]! + 14, rows[r + Row.END]!, RowState.UNSET);
        }
        path.outbound(burst);
      } else {
        path.inbound(burst, inside);
        for (let i = 0; i < n; i++) {
          const r = list[i]! * Row.WORDS;
          if (rows[r + Row.FATE] === 0)
            resetRow(rows, list[i]!, rows[r + Row.START]!, rows[r + Row.END]!, RowState.UNSET);
        }
        clear.outbound(burst);
      }
      bond.xmit(burst);
      bond.unpin();
      settle(burst, pool, drops);
      moved += n;
    }
    if (++rounds % REAP_EVERY === 0) for (const port of [generator, inside, ...slaves]) port.reap();
    return moved;
  };
  const figures = measure(round, generate, alone === 'alone');
  if (drops.some((n) => n > 0)) throw new Error(`packets were dropped: ${drops.join(' ')}`);
  return figures;
}

const figures = work === 'forward' ? forward() : await whole();
process.stdout.write(`\n${JSON.stringify(figures)}\n`, () => process.exit(0));
