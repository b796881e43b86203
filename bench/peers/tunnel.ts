/** One TCP stream between two namespaces through a tunnel of each contender. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Variant } from '../frame/scenario.ts';
import { bundleOurs, type Command, compileC } from './build.ts';
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
import { cpuSeconds, inner, Namespaces, outer, SIDES, type Side } from './netns.ts';
import { howToGet, PEERS, titled } from './packages.ts';

/** Of the device inside, bytes; Ethernet's 1500 holds it with everybody's headers. */
const MTU = 1400;
/** TCP payload of a packet of that size, with timestamps. */
const PAYLOAD = MTU - 52;
const GATEWAY = join('packages', 'gateway', 'src');
const GOAL_OF_C = 0.65;
const GOAL_GBPS = 5;

interface Tunnel {
  readonly name: string;
  /** The inside's device. */
  readonly device: string;
  /** Starts one side's process, which makes the device; what it returns is the process whose CPU counts. */
  start(spaces: Namespaces, side: Side, folder: string): number;
  /** With the device there: what is left to do on a side. */
  finish?(spaces: Namespaces, side: Side, folder: string): void;
}

/** The gateway's command, with its config in a file. */
function espalier(command: Command): Tunnel {
  return {
    name: 'espalier, ipsec-mb',
    device: 'inside0',
    start(spaces, side, folder) {
      const peer = (1 - side) as Side;
      const sa = (name: string, direction: string, from: Side, to: Side) => ({
        name,
        direction,
        spi: 0x1000 + from,
        source: outer(from),
        destination: outer(to),
        algorithm: 'aes128gcm16',
        key: `000102030405060708090a0b0c0d0e0f0102030${from}`,
      });
      const plan = {
        workers: 1,
        engine: 'ipsec-mb',
        bond: { mode: 'active-backup', lowers: [{ kind: 'udp', name: 'u0', local: outer(side), peer: outer(peer) }] },
        inside: { kind: 'tun', name: 'inside0', mtu: MTU },
        sas: [sa('out', 'out', side, peer), sa('in', 'in', peer, side)],
        policies: [{ source: '10.9.0.0/24', destination: '10.9.0.0/24', action: 'protect', sa: 'out' }],
      };
      const file = join(folder, `gateway${side}.json`);
      writeFileSync(file, JSON.stringify(plan));
      return spaces.start(side, [command.file, ...command.args, 'run', file]).pid!;
    },
  };
}

function inC(command: Command): Tunnel {
  return {
    name: 'C, TSO, GSO, ipsec-mb',
    device: 'tun0',
    start: (spaces, side) => spaces.start(side, [command.file, 'tun0', outer(side), outer((1 - side) as Side)]).pid!,
  };
}

function wireguard(): Tunnel {
  const keys = SIDES.map(() => {
    const secret = spawnSync('wg', ['genkey'], { encoding: 'utf8' }).stdout.trim();
    return { secret, public: spawnSync('wg', ['pubkey'], { encoding: 'utf8', input: secret }).stdout.trim() };
  });
  return {
    name: titled(PEERS.wireguard),
    device: 'wg0',
    start: (spaces, side) => spaces.start(side, ['wireguard-go', '-f', deviceOf(side)]).pid!,
    finish(spaces, side, folder) {
      const file = join(folder, `wg${side}.key`);
      writeFileSync(file, keys[side]!.secret, { mode: 0o600 });
      const peer = (1 - side) as Side;
      const about = ['peer', keys[peer]!.public, 'allowed-ips', '0.0.0.0/0', 'endpoint', `${outer(peer)}:51820`];
      spaces.run(side, 'wg', 'set', deviceOf(side), 'listen-port', '51820', 'private-key', file, ...about);
    },
  };
}

/** wireguard-go's control sockets are named by the device and shared by namespaces. */
const deviceOf = (side: Side): string => `wg${side}`;

/** One stream from side 0 to side 1: Gb/s, and CPU of both ends' tunnel processes together, microseconds per inner packet. */
async function stream(tunnel: Tunnel, seconds: number): Promise<Round> {
  const folder = join('build', 'peers', 'tunnel');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const spaces = new Namespaces(`eb${process.pid % 10_000}`);
  try {
    const pids = SIDES.map((side) => tunnel.start(spaces, side, folder));
    for (const side of SIDES) {
      const device = tunnel.device === 'wg0' ? deviceOf(side) : tunnel.device;
      await spaces.until(() => spaces.run(side, 'ip', 'link', 'show', device));
      tunnel.finish?.(spaces, side, folder);
      spaces.run(side, 'ip', 'addr', 'replace', `${inner(side)}/24`, 'dev', device);
      spaces.run(side, 'ip', 'link', 'set', device, 'mtu', String(MTU), 'up');
    }
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
  const absent = howToGet([PEERS.wireguard]);
  if (absent.length === 0) tunnels.push(wireguard());
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
  about: 'TUN to UDP beside a forwarder in C and wireguard-go',
  needs: [PEERS.compiler, PEERS.ipsecMb, PEERS.ipsecMbHeaders, PEERS.tools],
  peers: [PEERS.wireguard],
  run: contest,
};
