/** The tunnels that carry a stream: ours, one in C, and others' user-space ones. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from './build.ts';
import { inner, type Namespaces, outer, SIDES, type Side } from './netns.ts';
import { PEERS, titled } from './packages.ts';

/** Of the device inside, bytes; Ethernet's 1500 holds it with everybody's headers. */
export const MTU = 1400;

/** A contender: a process on each side that carries what goes between the inner addresses. */
export interface Tunnel {
  readonly name: string;
  /** The inside's device, and the one that has the inner address. */
  readonly device: (side: Side) => string;
  readonly addressed?: string;
  /** Starts one side's process, which makes the device; what it returns is the process whose CPU counts. */
  start(spaces: Namespaces, side: Side, folder: string): number;
  /** With the device there: what is left to do on a side, its address apart. */
  finish?(spaces: Namespaces, side: Side, folder: string): void;
  /** With both sides done. */
  connect?(spaces: Namespaces): void;
}

/** The gateway's command, with its config in a file. */
export function espalier(command: Command): Tunnel {
  return {
    name: 'espalier, ipsec-mb',
    device: () => 'inside0',
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

export function inC(command: Command): Tunnel {
  return {
    name: 'C, TSO, GSO, ipsec-mb',
    device: () => 'tun0',
    start: (spaces, side) => spaces.start(side, [command.file, 'tun0', outer(side), outer((1 - side) as Side)]).pid!,
  };
}

/** wireguard-go's control sockets are named by the device and shared by namespaces. */
const deviceOf = (side: Side): string => `wg${side}`;

export function wireguard(): Tunnel {
  const keys = SIDES.map(() => {
    const secret = spawnSync('wg', ['genkey'], { encoding: 'utf8' }).stdout.trim();
    return { secret, public: spawnSync('wg', ['pubkey'], { encoding: 'utf8', input: secret }).stdout.trim() };
  });
  return {
    name: titled(PEERS.wireguard),
    device: deviceOf,
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

/** Two charons with keys agreed by IKEv2; ESP in UDP through a TUN device of their own. */
export function strongswan(): Tunnel {
  const file = (folder: string, name: string, side: Side): string => resolve(folder, `${name}${side}`);
  const control = (folder: string, side: Side): string => `unix://${file(folder, 'vici', side)}`;
  const plugins = 'random nonce openssl kdf vici kernel-libipsec kernel-netlink socket-default';
  let connect: () => void = () => undefined;
  return {
    name: titled(PEERS.charon),
    device: () => 'ipsec0',
    addressed: 'lo',
    start(spaces, side, folder) {
      const config = file(folder, 'strongswan.conf', side);
      const vici = control(folder, side);
      writeFileSync(
        config,
        `charon-systemd {\n load = ${plugins}\n plugins { vici { socket = ${vici} } }\n}\nswanctl { load = }\n`,
      );
      return spaces.start(side, ['charon-systemd'], { STRONGSWAN_CONF: config }).pid!;
    },
    finish(spaces, side, folder) {
      const peer = (1 - side) as Side;
      const connections = file(folder, 'swanctl.conf', side);
      const swanctl = (...args: string[]) =>
        spaces.run(
          side,
          ...['env', `STRONGSWAN_CONF=${file(folder, 'strongswan.conf', side)}`, 'timeout', '10'],
          ...['swanctl', ...args, '--uri', control(folder, side)],
        );
      writeFileSync(
        connections,
        `connections {
  peer {
    version = 2
    local_addrs = ${outer(side)}
    remote_addrs = ${outer(peer)}
    proposals = aes128gcm16-prfsha256-ecp256
    local {
      auth = psk
      id = side${side}
    }
    remote {
      auth = psk
      id = side${peer}
    }
    children {
      net {
        local_ts = ${inner(side)}/32
        remote_ts = ${inner(peer)}/32
        esp_proposals = aes128gcm16
      }
    }
  }
}
secrets {
  ike {
    secret = known to everybody
  }
}
`,
        { mode: 0o600 },
      );
      swanctl('--load-all', '--noprompt', '--file', connections);
      connect = () => swanctl('--initiate', '--child', 'net');
    },
    connect: () => connect(),
  };
}
