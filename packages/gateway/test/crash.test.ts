import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EspPath, nobleEngine } from '@espalier/esp';
import { probe } from '@espalier/native';
import { SequenceAllocator } from '@espalier/replay';
import { createBurst, createSlab, Row, RowState, resetRow } from '@espalier/wire';
import { SaKey } from '@espalier/xfrm';
import { afterAll, describe, expect, it } from 'vitest';
import { bundleWorker } from '../../../scripts/bundle.ts';

const { addon } = probe();
const why = addon === 'supported' ? '' : `(${JSON.stringify(addon)})`;
const folder = mkdtempSync(join(tmpdir(), 'espalier-crash-'));
const ADDON = join(import.meta.dirname, '..', '..', 'native', 'build', 'espalier.node');
const LIVES = process.env.ESPALIER_LONG ? 40 : 4;
const LOOPBACK = '127.0.0.1';
const IN_KEY = '22'.repeat(20);
const children: ChildProcess[] = [];
const sockets: Socket[] = [];
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
  for (const socket of sockets) socket.close();
  rmSync(folder, { recursive: true });
});

async function bound(): Promise<Socket> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 });
  sockets.push(socket);
  socket.bind(0, LOOPBACK);
  await once(socket, 'listening');
  return socket;
}

/** Seals numbered packets for the inbound SA, each of a new number. */
function sealer(): (id: number) => Uint8Array {
  const slab = createSlab({ frames: 1 });
  const path = new EspPath({ slab, engine: nobleEngine(), maxSas: 1, linkType: 'esp-udp', offloads: null });
  const { memory, offset } = SequenceAllocator.create({ esn: true });
  const key = SaKey.import('aes128gcm16', Uint8Array.from(Buffer.from(IN_KEY, 'hex'))).share();
  const ends = { source: Uint8Array.of(127, 0, 0, 1), destination: Uint8Array.of(127, 0, 0, 1) };
  const sa = {
    slot: 0,
    spi: 0x2000,
    ...ends,
    mode: 'tunnel',
    algorithm: 'aes128gcm16',
    icvLength: 16,
    esn: true,
  } as const;
  const how = {
    key,
    encap: null,
    allocator: { memory, offset },
    offload: false,
    noHandle: 'drop',
    link: null,
  } as const;
  path.addOutbound({ ...sa, ...how, mtu: 1472 });
  const any = { source: new Uint8Array(4), sourceBits: 0, destination: new Uint8Array(4), destinationBits: 0 };
  path.setPolicies([{ ...any, protocol: null, action: 'protect', slot: 0 }]);
  const burst = createBurst(slab, 1);
  return (id) => {
    const at = slab.headroom;
    slab.bytes.set([0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0, 10, 2, 0, 1, 10, 1, 0, 1], at);
    slab.view.setUint32(at + 28, id);
    resetRow(slab.rows, 0, at, at + 60, RowState.UNSET);
    burst.list[0] = 0;
    burst.length = 1;
    path.outbound(burst);
    return slab.bytes.slice(slab.rows[Row.START]!, slab.rows[Row.END]!);
  };
}

/** A gateway to be killed, its peer, and what went through between them: how often each number, each packet. */
class Rig {
  readonly numbers: Map<number, number> = new Map();
  readonly out: Map<number, number> = new Map();
  /** When the last number came, by `performance.now`. */
  lastAt = 0;
  readonly #peer: Socket;
  readonly #port: number;
  readonly #config: string;
  readonly #files: readonly [program: string, worker: string];
  #child: ChildProcess | null = null;

  private constructor(peer: Socket, port: number, sas: readonly object[]) {
    this.#peer = peer;
    this.#port = port;
    const lower = { kind: 'udp', name: 'u0', local: LOOPBACK, peer: LOOPBACK };
    const ports = { localPort: port, peerPort: peer.address().port };
    const state = `${port}.state.json`;
    this.#config = join(folder, `${port}.json`);
    writeFileSync(
      this.#config,
      JSON.stringify({
        bond: { lowers: [{ ...lower, ...ports }] },
        inside: { kind: 'mock' },
        sas: sas.map((sa) => ({ algorithm: 'aes128gcm16', source: LOOPBACK, destination: LOOPBACK, ...sa })),
        policies: [{ source: '0.0.0.0/0', destination: '0.0.0.0/0', action: 'protect', sa: 'out' }],
        state: { file: state, ahead: 5000, margin: 512 },
      }),
    );
    this.#files = [
      bundleWorker(join(import.meta.dirname, 'crash-gateway.ts')),
      bundleWorker(join(import.meta.dirname, '..', 'src', 'worker.ts')),
    ];
    peer.on('message', (datagram) => {
      count(this.numbers, datagram.readUInt32BE(4));
      this.lastAt = performance.now();
    });
  }

  static async open(sas: readonly object[]): Promise<Rig> {
    const peer = await bound();
    const own = await bound();
    const { port } = own.address();
    own.close();
    sockets.splice(sockets.indexOf(own), 1);
    return new Rig(peer, port, sas);
  }

  send(datagram: Uint8Array): void {
    this.#peer.send(datagram, this.#port, LOOPBACK);
  }

  /** Resolves when it runs. */
  async start(): Promise<void> {
    const [program, worker] = this.#files;
    const child = spawn(process.execPath, [program, this.#config, worker], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ESPALIER_ADDON: ADDON },
    });
    children.push(child);
    this.#child = child;
    let running = false;
    let said = '';
    child.stdout!.on('data', (d) => {
      said += d;
      for (let end = said.indexOf('\n'); end >= 0; end = said.indexOf('\n')) {
        const line = said.slice(0, end);
        said = said.slice(end + 1);
        if (line === 'running') running = true;
        else count(this.out, Number(line));
      }
    });
    await this.until(() => running, 'a start');
  }

  async until(there: () => boolean, what: string, act: () => void = () => undefined): Promise<void> {
    for (const end = Date.now() + 30_000; !there(); await new Promise((resolve) => setTimeout(resolve, 2))) {
      if (Date.now() > end || this.#child!.exitCode !== null) throw new Error(`it stands still before ${what}`);
      act();
    }
  }

  async kill(): Promise<void> {
    const gone = once(this.#child!, 'exit');
    this.#child!.kill('SIGKILL');
    await gone;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const OUT = { name: 'out', direction: 'out', spi: 0x1000, key: '11'.repeat(20) };
const IN = { name: 'in', direction: 'in', spi: 0x2000, key: IN_KEY };

function count(times: Map<number, number>, one: number): void {
  times.set(one, (times.get(one) ?? 0) + 1);
}

describe('a gateway that is killed in the middle of its traffic, again and again', () => {
  it.skipIf(why)(
    `uses no number twice, and lets no old packet out of the tunnel ${why}`,
    async () => {
      const rig = await Rig.open([OUT, IN]);
      const { numbers, out } = rig;
      const seal = sealer();
      const wire: Uint8Array[] = [];
      for (let life = 0; life < LIVES; life++) {
        await rig.start();
        // Everything the peer ever sent comes again first: to an empty window it would all be new.
        for (const [i, datagram] of wire.entries()) {
          rig.send(datagram);
          if (i % 32 === 31) await new Promise((resolve) => setTimeout(resolve, 1));
        }
        const before = { sent: numbers.size, out: out.size };
        await rig.until(
          () => numbers.size - before.sent >= 1500 && out.size - before.out >= 800,
          `the end of life ${life}`,
          () => {
            for (let i = 0; i < 8; i++) {
              wire.push(seal(wire.length));
              rig.send(wire.at(-1)!);
            }
          },
        );
        await rig.kill();
      }
      const twice = (times: ReadonlyMap<number, number>): number[] =>
        [...times.keys()].filter((n) => times.get(n)! > 1);
      expect([twice(numbers), twice(out)]).toEqual([[], []]);
      expect(numbers.size).toBeGreaterThanOrEqual(LIVES * 1500);
    },
    LIVES * 60_000,
  );

  it.skipIf(why)(
    `lets no more through an SA, all its lives together, than its limits ${why}`,
    async () => {
      const limits = { hardPackets: 12_000, hardBytes: 1_000_000_000 };
      const rig = await Rig.open([
        { ...OUT, lifetime: limits },
        { ...IN, lifetime: limits, window: 128 },
      ]);
      const { numbers, out } = rig;
      const seal = sealer();
      let sent = 0;
      let lives = 0;
      for (let over = false; !over && lives < 30; lives++) {
        await rig.start();
        const before = { sent: numbers.size, out: out.size };
        let moved = performance.now();
        let seen = 0;
        await rig.until(
          () => {
            if (numbers.size + out.size > seen) moved = performance.now();
            seen = numbers.size + out.size;
            // Two seconds without a packet, and with thousands of new ones: both SAs are over.
            over = performance.now() - moved > 2000;
            return over || numbers.size - before.sent >= 1500 || out.size - before.out >= 1500;
          },
          `the end of life ${lives}`,
          () => {
            for (let i = 0; i < 8; i++) rig.send(seal(sent++));
          },
        );
        await rig.kill();
      }
      console.log(`${lives} lives: ${numbers.size} packets out, ${out.size} in, of 12000 each`);
      // More than one life's worth, or there was nothing to remember.
      expect(lives).toBeGreaterThan(2);
      for (const { size } of [numbers, out]) {
        expect(size).toBeGreaterThan(0);
        expect(size).toBeLessThanOrEqual(12_000);
        // What each crash takes at most: numbers up to the mark, and what workers had reserved.
        expect(size + lives * (5000 + 2 * 64)).toBeGreaterThanOrEqual(12_000);
      }
      expect(lives).toBeLessThan(30);
    },
    600_000,
  );

  it.skipIf(why)(
    `ends its SAs when their time is over, counted from the first life ${why}`,
    async () => {
      const rig = await Rig.open([{ ...OUT, lifetime: { hardSeconds: 5 } }]);
      await rig.start();
      const born = performance.now();
      const past = (ms: number) => (): boolean => performance.now() - born > ms;
      await rig.until(past(1000), 'one second');
      expect(rig.numbers.size).toBeGreaterThan(0);
      await rig.kill();
      const before = rig.numbers.size;
      await rig.start();
      await rig.until(past(7000), 'seven seconds');
      await rig.kill();
      expect(rig.numbers.size).toBeGreaterThan(before);
      expect(rig.lastAt - born).toBeLessThan(5500);
    },
    60_000,
  );
});
