import { spawnSync } from 'node:child_process';
import { AfPacketDevice, type AfPacketTicket, openAfPacketPort } from '@espalier/af-packet';
import { nobleEngine } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { load, probe } from '@espalier/native';
import type { LowerDevice } from '@espalier/xfrm';
import { conformance, type Rig } from '@espalier/xfrm/conformance';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const A = `espa${process.pid % 100_000}`;
const B = `espb${process.pid % 100_000}`;
const ip = (...args: string[]): { status: number | null; stderr: string } =>
  spawnSync('ip', args, { encoding: 'utf8' });

/** Why there can be no veth pair of ours here, or null. */
function obstacle(): string | null {
  const found = load();
  if (found.binding === null) return `no addon: ${found.reason}`;
  const { afPacket } = probe();
  if (afPacket !== 'supported') return JSON.stringify(afPacket);
  const made = ip('link', 'add', A, 'type', 'veth', 'peer', 'name', B);
  if (made.status !== 0) return `no veth pair: ${made.stderr?.trim() || 'there is no "ip", apt-get install iproute2'}`;
  ip('link', 'del', A);
  return null;
}

const reason = obstacle();

beforeAll(() => {
  if (reason !== null) return;
  ip('link', 'add', A, 'type', 'veth', 'peer', 'name', B);
  for (const name of [A, B]) {
    spawnSync('sh', ['-c', `echo 1 > /proc/sys/net/ipv6/conf/${name}/disable_ipv6`]);
    ip('link', 'set', name, 'arp', 'off', 'up');
  }
});
afterAll(() => {
  if (reason === null) ip('link', 'del', A);
});

async function rig(): Promise<Rig> {
  ip('link', 'set', A, 'up');
  ip('link', 'set', B, 'up');
  const lower = (name: string, index: number): AfPacketDevice =>
    AfPacketDevice.open({ name, index, ports: 1, receiver: 0, watchMs: 0 });
  const [a, b] = [lower(A, 0), lower(B, 1)];
  return {
    a,
    b,
    saSlots: 4096,
    open: (_, ticket, context) => openAfPacketPort(ticket as AfPacketTicket, context),
    deliver: () => new Promise((resolve) => setTimeout(resolve, 1)),
    powers: {
      // A veth has carrier while both ends are up.
      setCarrier(device: LowerDevice, carrier: boolean) {
        ip('link', 'set', device.name === A ? B : A, carrier ? 'up' : 'down');
        // The kernel tells of it a moment later.
        const sleeper = new Int32Array(new SharedArrayBuffer(4));
        for (let i = 0; i < 200 && device.carrier !== carrier; i++) {
          Atomics.wait(sleeper, 0, 0, 5);
          (device as AfPacketDevice).refresh();
        }
      },
    },
    close: async () => {
      await a.close();
      await b.close();
    },
  };
}

describe.skipIf(reason !== null)(`AF_PACKET on a veth pair${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  for (const engine of [nobleEngine, nodeEngine])
    conformance({
      it,
      expect,
      engine,
      name: `af-packet, ${engine().name}`,
      create: rig,
      skip: [
        {
          rules: ['add-no-trace', 'close-waits', 'features-refused'],
          reason: 'software takes every SA and feature at once',
        },
        {
          rules: ['esn-told', 'esn-across', 'esn-monotone'],
          reason: 'it opens under the number that was inferred above it',
        },
      ],
    });
});
