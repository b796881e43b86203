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

describe('a gateway that is killed in the middle of its traffic, again and again', () => {
  it.skipIf(why)(
    `uses no number twice, and lets no old packet out of the tunnel ${why}`,
    async () => {
      const peer = await bound();
      const own = await bound();
      const [peerPort, localPort] = [peer.address().port, own.address().port];
      own.close();
      sockets.splice(sockets.indexOf(own), 1);
      const sa = { algorithm: 'aes128gcm16', source: LOOPBACK, destination: LOOPBACK };
      const config = join(folder, 'gateway.json');
      writeFileSync(
        config,
        JSON.stringify({
          bond: { lowers: [{ kind: 'udp', name: 'u0', local: LOOPBACK, peer: LOOPBACK, localPort, peerPort }] },
          inside: { kind: 'mock' },
          sas: [
            { ...sa, name: 'out', direction: 'out', spi: 0x1000, key: '11'.repeat(20) },
            { ...sa, name: 'in', direction: 'in', spi: 0x2000, key: IN_KEY },
          ],
          policies: [{ source: '0.0.0.0/0', destination: '0.0.0.0/0', action: 'protect', sa: 'out' }],
          state: { file: 'state.json', ahead: 5000, margin: 512 },
        }),
      );
      const [program, worker] = [
        bundleWorker(join(import.meta.dirname, 'crash-gateway.ts')),
        bundleWorker(join(import.meta.dirname, '..', 'src', 'worker.ts')),
      ];

      const numbers = new Map<number, number>();
      peer.on('message', (datagram) => {
        const seq = datagram.readUInt32BE(4);
        numbers.set(seq, (numbers.get(seq) ?? 0) + 1);
      });
      const out = new Map<number, number>();
      const seal = sealer();
      const wire: Uint8Array[] = [];
      for (let life = 0; life < LIVES; life++) {
        const child = spawn(process.execPath, [program, config, worker], {
          stdio: ['ignore', 'pipe', 'inherit'],
          env: { ...process.env, ESPALIER_ADDON: ADDON },
        });
        children.push(child);
        let running = false;
        let said = '';
        child.stdout!.on('data', (d) => {
          said += d;
          for (let end = said.indexOf('\n'); end >= 0; end = said.indexOf('\n')) {
            const line = said.slice(0, end);
            said = said.slice(end + 1);
            if (line === 'running') running = true;
            else out.set(Number(line), (out.get(Number(line)) ?? 0) + 1);
          }
        });
        const until = async (there: () => boolean, act: () => void = () => undefined): Promise<void> => {
          for (const end = Date.now() + 30_000; !there(); await new Promise((resolve) => setTimeout(resolve, 2))) {
            if (Date.now() > end || child.exitCode !== null) throw new Error(`life ${life}: it stands still`);
            act();
          }
        };
        const send = (datagram: Uint8Array): void => peer.send(datagram, localPort, LOOPBACK);
        await until(() => running);
        // Everything the peer ever sent comes again first: to an empty window it would all be new.
        for (const [i, datagram] of wire.entries()) {
          send(datagram);
          if (i % 32 === 31) await new Promise((resolve) => setTimeout(resolve, 1));
        }
        const before = { sent: numbers.size, out: out.size };
        await until(
          () => numbers.size - before.sent >= 1500 && out.size - before.out >= 800,
          () => {
            for (let i = 0; i < 8; i++) {
              wire.push(seal(wire.length));
              send(wire.at(-1)!);
            }
          },
        );
        const gone = once(child, 'exit');
        child.kill('SIGKILL');
        await gone;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      const twice = (times: ReadonlyMap<number, number>): number[] =>
        [...times.keys()].filter((n) => times.get(n)! > 1);
      expect([twice(numbers), twice(out)]).toEqual([[], []]);
      expect(numbers.size).toBeGreaterThanOrEqual(LIVES * 1500);
    },
    LIVES * 60_000,
  );
});
