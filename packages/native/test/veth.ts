/** Pairs of veth interfaces for tests, and lowers on them as the conformance suite wants them. */
import { spawnSync } from 'node:child_process';
import type { LowerDevice } from '@espalier/xfrm';
import type { Rig } from '@espalier/xfrm/conformance';
import { load, probe } from '../src/index.ts';

export function ip(...args: string[]): { readonly status: number | null; readonly stderr: string } {
  return spawnSync('ip', args, { encoding: 'utf8' });
}

/** Two interfaces of this process's namespace, end to end, with nothing on them but what we send. */
export interface VethPair {
  readonly a: string;
  readonly b: string;
  up(): void;
  close(): void;
}

let made = 0;

/** A pair with names of its own, or why there can be none. At most 4 letters of `prefix`. */
export function vethPair(prefix: string, queues = 1): VethPair | string {
  const found = load();
  if (found.binding === null) return `no addon: ${found.reason}`;
  const { afPacket } = probe();
  if (afPacket !== 'supported') return JSON.stringify(afPacket);
  const name = `${prefix}${process.pid % 100_000}${made++}`;
  const [a, b] = [`${name}a`, `${name}b`];
  const each = ['numrxqueues', String(queues), 'numtxqueues', String(queues)];
  const result = ip('link', 'add', a, ...each, 'type', 'veth', 'peer', 'name', b, ...each);
  if (result.status !== 0)
    return `no veth pair: ${result.stderr?.trim() || 'there is no "ip", apt-get install iproute2'}`;
  for (const end of [a, b]) spawnSync('sh', ['-c', `echo 1 > /proc/sys/net/ipv6/conf/${end}/disable_ipv6`]);
  const pair: VethPair = {
    a,
    b,
    up() {
      for (const end of [a, b]) ip('link', 'set', end, 'arp', 'off', 'up');
    },
    close: () => void ip('link', 'del', a),
  };
  pair.up();
  return pair;
}

type Watched = LowerDevice & { refresh(): void };

/** Both ends of the pair as lowers: carrier goes and comes with the other end. */
export function vethRig(
  pair: VethPair,
  lower: (name: string, index: number) => Watched,
  more: Pick<Rig, 'open' | 'slab'>,
): Rig {
  pair.up();
  const [a, b] = [lower(pair.a, 0), lower(pair.b, 1)];
  return {
    a,
    b,
    saSlots: 4096,
    ...more,
    deliver: () => new Promise((resolve) => setTimeout(resolve, 1)),
    powers: {
      setCarrier(device: LowerDevice, carrier: boolean) {
        ip('link', 'set', device === a ? pair.b : pair.a, carrier ? 'up' : 'down');
        // The kernel tells of it a moment later, and the suite does not wait.
        const sleeper = new Int32Array(new SharedArrayBuffer(4));
        for (let i = 0; i < 200 && device.carrier !== carrier; i++) {
          Atomics.wait(sleeper, 0, 0, 5);
          (device as Watched).refresh();
        }
      },
    },
    close: async () => {
      await a.close();
      await b.close();
    },
  };
}
