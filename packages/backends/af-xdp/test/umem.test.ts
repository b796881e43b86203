import { createUmem, openXskPort, XskDevice, type XskOptions, type XskTicket } from '@espalier/af-xdp';
import { nobleEngine } from '@espalier/esp';
import { LinkSet, load } from '@espalier/native';
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
import type { Port } from '@espalier/xfrm';
import { afterAll, describe, expect, it } from 'vitest';
import { type VethPair, vethPair } from '../../../native/test/veth.ts';

const made = [vethPair('espu'), vethPair('espu'), vethPair('espu', 2)];
const reason = made.find((one) => typeof one === 'string') ?? null;
const [p, q, wide] = made as VethPair[];
afterAll(() => {
  for (const pair of made) if (typeof pair !== 'string') pair.close();
});
const { binding } = load();
const STEPS = process.env.ESPALIER_LONG ? 20_000 : 400;
const FRAMES = 512;

/** A thread's frames, and the ports that share them. */
class Desk {
  readonly slab: FrameSlab;
  readonly pool: FramePool;
  readonly burst: Burst;
  readonly ports: (Port | null)[] = [];
  readonly devices: XskDevice[] = [];

  constructor(sockets: number) {
    this.slab = createUmem({ frames: FRAMES, sockets });
    this.pool = createPool(this.slab, 0, FRAMES, 0);
    this.burst = createBurst(this.slab, 64);
  }

  add(name: string, options: Partial<XskOptions> = {}): void {
    const device = XskDevice.open({ name, index: this.devices.length, ports: 1, ...options });
    this.devices.push(device);
    for (let port = 0; port < device.ports; port++) this.ports.push(this.open(device, port));
  }

  open(device: XskDevice, port = 0): Port {
    const { slab, pool } = this;
    const context = { slab, pool, engine: nobleEngine(), handles: { resolve: () => 0 } };
    return openXskPort(device.ticket(port) as XskTicket, context);
  }

  /** Free, held by ports, and in hand: all frames, always. */
  count(): number {
    return this.pool.free + this.ports.reduce((sum, port) => sum + (port?.held ?? 0), 0) + this.burst.length;
  }

  /** Sends a frame of its own, in the clear. */
  send(port: Port, frame: Uint8Array): boolean {
    const row = this.pool.take();
    if (row < 0) return false;
    const start = row * this.slab.frameSize + this.slab.headroom;
    this.slab.bytes.set(frame, start);
    resetRow(this.slab.rows, row, start, start + frame.length, RowState.CLEAR);
    return this.forward(port, [row]) === 1;
  }

  /** Hands rows to a port as they lie; gives back those that it refuses. */
  forward(port: Port | null, rows: readonly number[]): number {
    const { burst, slab, pool } = this;
    burst.length = 0;
    for (const row of rows) {
      slab.rows[row * Row.WORDS + Row.STATE] = RowState.CLEAR;
      burst.list[burst.length++] = row;
    }
    const taken = port?.xmit(burst) ?? 0;
    for (const row of rows) if (port === null || slab.rows[row * Row.WORDS + Row.FATE] !== 0) pool.give(row);
    burst.length = 0;
    return taken;
  }

  /** What has come, copied, frames given back. */
  take(port: Port): Uint8Array[] {
    const { burst, slab, pool } = this;
    burst.length = 0;
    port.poll(burst);
    const frames: Uint8Array[] = [];
    for (const row of burst.list.subarray(0, burst.length)) {
      const r = row * Row.WORDS;
      frames.push(slab.bytes.slice(slab.rows[r + Row.START], slab.rows[r + Row.END]));
      pool.give(row);
    }
    burst.length = 0;
    return frames;
  }

  async close(): Promise<void> {
    for (const port of this.ports) port?.close();
    for (const device of this.devices) await device.close();
  }
}

/** An ESP packet in IPv4 with a number of its own. */
function esp(number: number, length = 100): Uint8Array {
  const bytes = new Uint8Array(length).fill(number & 255);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, length - 14, 0, 0, 0, 0, 64, 50]);
  new DataView(bytes.buffer).setUint32(34, number);
  return bytes;
}

function generator(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

const settle = (ms = 5): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe.skipIf(reason !== null)(`one UMEM, several lowers${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  it('forwards from one lower to the other where the frame lies, and conserves frames whatever happens', async () => {
    const [middle, ends] = [new Desk(2), new Desk(2)];
    middle.add(p.a);
    middle.add(q.a);
    ends.add(p.b);
    ends.add(q.b);
    const random = generator(7);
    let number = 0;
    let arrived = 0;
    let forwarded = 0;
    const seen = new Set<number>();
    const ups = [true, true];
    for (let step = 0; step < STEPS; step++) {
      const side = random(2);
      switch (random(12)) {
        case 0:
          ups[side] = random(3) > 0;
          binding!.linkSet(side === 0 ? p.b : q.b, LinkSet.UP, ups[side] ? 1 : 0, 0);
          middle.devices[side]!.refresh();
          break;
        case 1:
          // The memory stays registered while the other socket lives, whichever of them registered it.
          if (step % 4 !== 0) break;
          middle.ports[side]!.close();
          middle.ports[side] = null;
          expect(middle.count()).toBe(FRAMES);
          middle.ports[side] = middle.open(middle.devices[side]!);
          break;
        case 2:
        case 3:
          for (const desk of [middle, ends]) for (const port of desk.ports) port!.reap();
          break;
        default: {
          for (let n = random(40); n > 0; n--) ends.send(ends.ports[side]!, esp(number++, 100 + random(1300)));
          const from = middle.ports[side]!;
          middle.burst.length = 0;
          from.poll(middle.burst);
          const rows = [...middle.burst.list.subarray(0, middle.burst.length)];
          expect(middle.count()).toBe(FRAMES);
          // Where the kernel has put it is where it leaves from.
          for (const row of rows)
            expect(Math.floor(middle.slab.rows[row * Row.WORDS]! / middle.slab.frameSize)).toBe(row);
          forwarded += middle.forward(middle.ports[1 - side]!, rows);
          for (const frame of ends.take(ends.ports[1 - side]!)) {
            const got = new DataView(frame.buffer).getUint32(34);
            expect(got).toBeLessThan(number);
            expect(seen.has(got)).toBe(false);
            expect(frame.subarray(38).every((byte) => byte === (got & 255))).toBe(true);
            seen.add(got);
            arrived++;
          }
        }
      }
      expect([middle.count(), ends.count()]).toEqual([FRAMES, FRAMES]);
      if (step % 20 === 0) await settle(1);
    }
    expect(forwarded).toBeGreaterThan(STEPS);
    expect(arrived).toBeGreaterThan(forwarded / 4);
    await middle.close();
    await ends.close();
    expect([middle.pool.free, ends.pool.free]).toEqual([FRAMES, FRAMES]);
    for (const pair of [p, q]) pair.up();
  });

  it('receives on every queue what came in on it', async () => {
    const [here, there] = [new Desk(2), new Desk(2)];
    here.add(wide.a, { ports: 2 });
    there.add(wide.b, { ports: 2 });
    for (const queue of [0, 1]) for (let n = 0; n < 10; n++) here.send(here.ports[queue]!, esp(100 * queue + n));
    const got: number[][] = [[], []];
    for (let i = 0; i < 20; i++) {
      await settle();
      for (const queue of [0, 1])
        for (const frame of there.take(there.ports[queue]!)) got[queue]!.push(new DataView(frame.buffer).getUint32(34));
    }
    const numbers = (from: number): number[] => Array.from({ length: 10 }, (_, i) => from + i);
    expect(got).toEqual([numbers(0), numbers(100)]);
    expect(here.devices[0]!.describe()).toBe('AF_XDP, driver mode, copy');
    await here.close();
    await there.close();
  });

  it.each([
    ['driver', false],
    ['generic', false],
    ['driver', true],
  ] as const)('%s, LACP %s: takes ESP and UDP 4500, and leaves the rest with the kernel', async (attach, lacp) => {
    const [here, there] = [new Desk(1), new Desk(1)];
    here.add(p.a, { attach, lacp });
    there.add(p.b);
    const ether = (type: number, ...rest: number[]): Uint8Array => {
      const bytes = new Uint8Array(120);
      bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, type >> 8, type & 255, ...rest]);
      return bytes;
    };
    const ip4 = (protocol: number, fragment: number, ...l4: number[]): Uint8Array =>
      ether(
        0x0800,
        0x45,
        0,
        0,
        106,
        0,
        0,
        fragment >> 8,
        fragment & 255,
        64,
        protocol,
        0,
        0,
        ...new Array(8).fill(9),
        ...l4,
      );
    const options4 = (port: number): Uint8Array =>
      ether(0x0800, 0x46, 0, 0, 106, 0, 0, 0, 0, 64, 17, 0, 0, ...new Array(12).fill(1), 1, 1, port >> 8, port & 255);
    const ip6 = (next: number, ...l4: number[]): Uint8Array =>
      ether(0x86dd, 0x60, 0, 0, 0, 0, 66, next, 64, ...new Array(32).fill(9), ...l4);
    const to = (port: number): number[] => [1, 1, port >> 8, port & 255];
    const cases: [name: string, frame: Uint8Array, ours: boolean][] = [
      ['ESP', ip4(50, 0), true],
      ['the first fragment of ESP', ip4(50, 0x2000), true],
      ['UDP to 4500', ip4(17, 0, ...to(4500)), true],
      ['UDP to 4500 behind IP options', options4(4500), true],
      ['ESP in IPv6', ip6(50), true],
      ['UDP to 4500 in IPv6', ip6(17, ...to(4500)), true],
      ['LACP', ether(0x8809, 1, 1), lacp],
      ['ARP', ether(0x0806, 0, 1, 8, 0, 6, 4, 0, 1), false],
      ['neighbour discovery', ip6(58, 135, 0), false],
      ['ssh', ip4(6, 0, ...to(22)), false],
      ['ssh in IPv6', ip6(6, ...to(22)), false],
      ['UDP to 4501', ip4(17, 0, ...to(4501)), false],
      ['UDP to 500', ip6(17, ...to(500)), false],
      ['UDP to 4501 behind IP options', options4(4501), false],
      ['a later fragment that looks like UDP to 4500', ip4(17, 100, ...to(4500)), false],
      ['AH', ip4(51, 0), false],
      ['a frame that ends early', ether(0x0800, 0x45).slice(0, 30), false],
    ];
    // Each frame's last byte is its number.
    for (const [i, [, frame]] of cases.entries()) {
      frame[frame.length - 1] = i + 1;
      expect(there.send(there.ports[0]!, frame)).toBe(true);
    }
    const got = new Set<number>();
    for (let i = 0; i < 10; i++) {
      await settle();
      for (const frame of here.take(here.ports[0]!)) got.add(frame[frame.length - 1]! - 1);
      there.ports[0]!.reap();
    }
    for (const [i, [name, , ours]] of cases.entries()) expect(`${name}: ${got.has(i)}`).toBe(`${name}: ${ours}`);
    await here.close();
    await there.close();
  });

  it('leaves no program behind when its process is killed', async () => {
    const { spawn, spawnSync } = await import('node:child_process');
    const { join } = await import('node:path');
    const addon = join(import.meta.dirname, '../../../native/build/espalier.node');
    const code = `const b = require(${JSON.stringify(addon)}); const o = new Int32Array(6); b.linkGet(${JSON.stringify(q.a)}, o);
      console.log(b.xskAttach(o[0], 1, new Int32Array(3))); setInterval(() => {}, 1000);`;
    const attached = (): boolean => spawnSync('ip', ['link', 'show', q.a], { encoding: 'utf8' }).stdout.includes('xdp');
    const child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    expect(attached()).toBe(true);
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    for (let i = 0; i < 100 && attached(); i++) await settle(10);
    expect(attached()).toBe(false);
  });
});
