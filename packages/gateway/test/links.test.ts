import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { probe } from '@espalier/native';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { bundleCommand } from '../../../scripts/bundle.ts';
import { vethPair } from '../../native/test/veth.ts';
import { Host, join } from './namespaces.ts';

const pair = vethPair('espl');
if (typeof pair !== 'string') pair.close();
const why = typeof pair === 'string' ? pair : probe().tun === 'supported' ? null : JSON.stringify(probe().tun);
const folder = mkdtempSync(path(tmpdir(), 'espalier-links-'));
afterAll(() => rmSync(folder, { recursive: true }));
let cli = '';
beforeAll(() => {
  cli = bundleCommand();
});
let hosts: Host[] = [];
afterEach(async () => {
  for (const host of hosts) await host.close();
  hosts = [];
});

/** `espalier run` of a plan in a host. */
function run(host: Host, name: string, plan: object) {
  const file = path(folder, `${name}.json`);
  writeFileSync(file, JSON.stringify(plan));
  return host.start(cli, ['run', file], 'running');
}

/** A pair of SAs between two addresses, as one of their ends has it. */
const sas = (own: string, peer: string, side: 0 | 1, more: object = {}): object[] =>
  (['out', 'in'] as const).map((name, i) => ({
    name,
    direction: name,
    spi: 0x1000 + 0x100 * (side ^ i),
    source: name === 'out' ? own : peer,
    destination: name === 'out' ? peer : own,
    algorithm: 'aes128gcm16',
    key: `${(side ^ i) + 1}5`.repeat(20),
    ...more,
  }));

/** One TCP connection of so many bytes from a host to another; SHA-256 of what was sent and of what came. */
async function transfer(from: Host, to: Host, address: string, bytes: number): Promise<[string, string]> {
  const sink = path(folder, 'sink.mjs');
  writeFileSync(
    sink,
    `import { createServer } from 'node:net'; import { createHash } from 'node:crypto';
     createServer({ allowHalfOpen: true }, (s) => { const h = createHash('sha256'); s.on('data', (d) => h.update(d));
       s.on('end', () => s.end(h.digest('hex'))); }).listen(5001, () => console.log('listening'));`,
  );
  const server = await to.start(sink, [], 'listening');
  const source = path(folder, 'source.mjs');
  writeFileSync(
    source,
    `import { connect } from 'node:net'; import { createHash, randomBytes } from 'node:crypto';
     const data = randomBytes(${bytes}); let got = '';
     const s = connect({ port: 5001, host: '${address}', allowHalfOpen: true }, () => s.end(data));
     s.on('data', (d) => (got += d)); s.on('end', () => console.log('sent', createHash('sha256').update(data).digest('hex'), got));`,
  );
  const client = await from.start(source, [], 'sent');
  server.kill();
  const [, sent, got] = client.said().trim().split(' ');
  return [sent!, got!];
}

describe.skipIf(why !== null)(`gateways on real links${why === null ? '' : ` (skipped: ${why})`}`, () => {
  for (const kind of ['af-packet', 'af-xdp'])
    it(`in transport mode protect what their two kernels say to each other: ${kind}`, async () => {
      hosts = [new Host(), new Host()];
      const [a, b] = hosts as [Host, Host];
      for (const link of ['eth1', 'eth2']) join(a, b, link);
      const address = ['192.0.2.1', '192.0.2.2'] as const;
      const mac = ['02:00:00:00:00:0a', '02:00:00:00:00:0b'] as const;
      for (const side of [0, 1] as const) {
        const [own, peer] = [address[side], address[1 - side]!];
        await run(hosts[side]!, `${kind}${side}`, {
          // These links have one queue.
          workers: kind === 'af-xdp' ? 1 : 2,
          bond: {
            mac: mac[side],
            peerMac: mac[1 - side],
            lowers: ['eth1', 'eth2'].map((name) => ({
              kind,
              name,
              ...(kind === 'af-xdp' ? { attach: 'generic' } : {}),
            })),
          },
          inside: { kind: 'tun', name: 'tun0', address: `${own}/32`, mtu: 1460 },
          sas: sas(own, peer, side, { mode: 'transport' }),
          policies: [{ source: own, destination: peer, action: 'protect', sa: 'out' }],
        });
        hosts[side]!.run(`ip route add ${peer} dev tun0`);
      }
      expect(a.run(`ping -c 5 -i 0.05 -W 2 ${address[1]}`)).toContain(' 0% packet loss');
      const [sent, got] = await transfer(a, b, address[1], 4 << 20);
      expect(got).toBe(sent);
    }, 60_000);
});
