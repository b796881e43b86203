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

  it.each([4, 6] as const)(
    'over UDP learn what their path takes from a router on it, and tell the inside: IPv%s',
    async (family) => {
      // A - router - B, and the second link is the narrow one.
      hosts = [new Host(), new Host(), new Host()];
      const [a, b, router] = hosts as [Host, Host, Host];
      join(a, router, 'eth1');
      join(router, b, 'eth2');
      const [wide, narrow] = family === 4 ? ['192.0.2.', '198.51.100.'] : ['fd00:1::', 'fd00:2::'];
      const bits = family === 4 ? 24 : 64;
      for (const [host, link, net, own] of [
        [a, 'eth1', wide, 1],
        [router, 'eth1', wide, 9],
        [router, 'eth2', narrow, 9],
        [b, 'eth2', narrow, 1],
      ] as const)
        host.run(
          `echo 0 > /proc/sys/net/ipv6/conf/${link}/disable_ipv6; ip address add ${net}${own}/${bits} dev ${link} ${family === 6 ? 'nodad' : ''}`,
        );
      for (const host of [router, b]) host.run('ip link set eth2 mtu 1400');
      router.run('echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding');
      a.run(`ip -${family} route add default via ${wide}9`);
      b.run(`ip -${family} route add default via ${narrow}9`);
      // Neighbours may take a moment to be found.
      for (const end of [`${wide}1`, `${narrow}1`])
        router.run(`for i in {1..50}; do ping -c 1 -W 0.1 ${end} && exit; done; exit 1`);
      const ends = [`${wide}1`, `${narrow}1`] as const;
      for (const side of [0, 1] as const) {
        const [local, peer] = [ends[side], ends[1 - side]!];
        await run(hosts[side]!, `path${family}${side}`, {
          bond: { lowers: [{ kind: 'udp', name: 'u0', local, peer }] },
          inside: { kind: 'tun', name: 'tun0', address: `10.${side}.0.1/24`, mtu: 1400 },
          sas: sas(local, peer, side),
          policies: [{ source: '10.0.0.0/8', destination: '10.0.0.0/8', action: 'protect', sa: 'out' }],
        });
        hosts[side]!.run(`ip route add 10.${1 - side}.0.0/24 dev tun0`);
      }
      // What is left of 1400 by IP, UDP, ESP, and a trailer of two bytes at a multiple of four.
      const fits = 1400 - (family === 4 ? 20 : 40) - 8 - 8 - 8 - 16 - 2;
      const inner = fits - ((fits + 2) % 4);
      const ping = (length: number): string => a.try(`ping -M do -c 5 -i 0.1 -W 1 -s ${length - 28} 10.1.0.1`).stdout;
      expect(ping(inner)).toContain(' 0% packet loss');
      expect(ping(inner + 1)).toMatch(new RegExp(`Frag needed and DF set \\(mtu = ${inner}\\)`));
      expect(ping(inner)).toContain(' 0% packet loss');
      const [sent, got] = await transfer(a, b, '10.1.0.1', 1 << 20);
      expect(got).toBe(sent);
    },
    60_000,
  );
});
