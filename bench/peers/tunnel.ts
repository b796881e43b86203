/** One TCP stream between two namespaces through a tunnel of each contender. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Variant } from '../frame/scenario.ts';
import { bundleOurs, compileC } from './build.ts';
import {
  bestOf,
  type Contest,
  type ContestOptions,
  type Outcome,
  type Ratio,
  type Round,
  type Row,
  takeTurns,
} from './contest.ts';
import { cpuSeconds, inner, Namespaces, SIDES } from './netns.ts';
import { howToGet, PEERS, type Peer } from './packages.ts';
import { espalier, inC, MTU, strongswan, type Tunnel, wireguard } from './tunnels.ts';

/** TCP payload of a packet of that size, with timestamps. */
const PAYLOAD = MTU - 52;
const GATEWAY = join('packages', 'gateway', 'src');
const GOAL_OF_C = 0.65;
const GOAL_GBPS = 5;

/** One stream from side 0 to side 1: Gb/s, and CPU of both ends' tunnel processes together, microseconds per inner packet. */
async function stream(tunnel: Tunnel, seconds: number): Promise<Round> {
  const folder = join('build', 'peers', 'tunnel');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const spaces = new Namespaces(`eb${process.pid % 10_000}`);
  try {
    const pids = SIDES.map((side) => tunnel.start(spaces, side, folder));
    for (const side of SIDES) {
      const device = tunnel.device(side);
      await spaces.until(() => spaces.run(side, 'ip', 'link', 'show', device));
      const bits = tunnel.addressed === undefined ? 24 : 32;
      spaces.run(side, 'ip', 'addr', 'replace', `${inner(side)}/${bits}`, 'dev', tunnel.addressed ?? device);
      tunnel.finish?.(spaces, side, folder);
      spaces.run(side, 'ip', 'link', 'set', device, 'mtu', String(MTU), 'up');
    }
    tunnel.connect?.(spaces);
    await spaces.until(() => spaces.run(0, 'ping', '-c', '1', '-W', '1', inner(1)));
    spaces.start(1, ['iperf3', '-s']);
    await sleep(300);
    const before = pids.map(cpuSeconds);
    const said = JSON.parse(spaces.run(0, 'iperf3', '-J', '-c', inner(1), '-t', String(seconds)));
    const used = pids.map((pid, i) => cpuSeconds(pid) - before[i]!).reduce((a, b) => a + b, 0);
    const { bits_per_second, bytes } = said.end.sum_received;
    const gbps = bits_per_second / 1e9;
    return { min: gbps, median: gbps, mean: gbps, samples: 1, cpu: (used * 1e6) / (bytes / PAYLOAD) };
  } finally {
    await spaces.end();
  }
}

async function contest(options: ContestOptions): Promise<Outcome> {
  // A stream takes a while to get going.
  const seconds = Math.max(2, Math.round(options.milliseconds / 100));
  await bundleOurs('worker', join(GATEWAY, 'worker.ts'));
  const ours = espalier(await bundleOurs('cli', join(GATEWAY, 'cli.ts')));
  const c = inC(compileC('tun-udp', ['-lIPSec_MB']));
  const tunnels = [c, ours];
  const others: readonly (readonly [Peer, () => Tunnel])[] = [
    [PEERS.wireguard, wireguard],
    [PEERS.charon, strongswan],
  ];
  const absent = others.flatMap(([peer]) => howToGet([peer]));
  for (const [peer, make] of others) if (howToGet([peer]).length === 0) tunnels.push(make());
  const variant: Variant = { stream: 'one TCP stream' };
  const rows: Row[] = tunnels.map(({ name }) => ({ variant, contender: name, rounds: [] }));
  await takeTurns(rows, options, (row) => stream(tunnels[rows.indexOf(row)]!, seconds));
  const best = (tunnel: Tunnel): number => bestOf(rows[tunnels.indexOf(tunnel)]!, 'more');
  const against = (peer: string, rate: number, least: number): Ratio => {
    const ratio = best(ours) / rate;
    return { variant, ours: ours.name, peer, ratio, goal: `>= ${least}`, held: ratio >= least };
  };
  const ratios = [against(c.name, best(c), GOAL_OF_C), against('5 Gb/s', GOAL_GBPS, 1)];
  for (const { name } of tunnels.slice(2))
    ratios.push(against(name, bestOf(rows.find((r) => r.contender === name)!, 'more'), 1));
  const cpu = rows.map(
    (row) => `${row.contender} ${(row.rounds.reduce((sum, r) => sum + r.cpu!, 0) / row.rounds.length).toFixed(2)}`,
  );
  return {
    contest: 'tunnel',
    about: `a TUN device to UDP and back, two namespaces, MTU ${MTU} inside, iperf3 for ${seconds} s`,
    unit: 'Gb/s',
    better: 'more',
    rows,
    ratios,
    missing: absent,
    notes: [`CPU of the tunnel at both ends, microseconds per packet: ${cpu.join('; ')}`],
  };
}

export const tunnel: Contest = {
  name: 'tunnel',
  about: 'TUN to UDP beside a forwarder in C, wireguard-go and strongSwan',
  needs: [PEERS.compiler, PEERS.ipsecMb, PEERS.ipsecMbHeaders, PEERS.tools],
  peers: [PEERS.wireguard, PEERS.charon],
  run: contest,
};
