import { spawnSync } from 'node:child_process';
import { AfPacketDevice, type AfPacketTicket, openAfPacketPort } from '@espalier/af-packet';
import { createUmem, openXskPort, XskDevice, type XskTicket } from '@espalier/af-xdp';
import { nobleEngine } from '@espalier/esp';
import { createBurst, createPool, Row, RowState, resetRow } from '@espalier/wire';
import { DropReason, dropName, type LowerDevice, type Port, type PortContext } from '@espalier/xfrm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ip, vethPair } from '../../native/test/veth.ts';

const pair = vethPair('espg');
const reason = typeof pair === 'string' ? pair : null;
const [a, b] = typeof pair === 'string' ? ['', ''] : [pair.a, pair.b];
const space = `${a}ns`;
afterAll(() => {
  if (typeof pair !== 'string') pair.close();
  ip('netns', 'del', space);
});

const inside = (command: string): string =>
  spawnSync('ip', ['netns', 'exec', space, 'bash', '-c', command], { encoding: 'utf8' }).stdout;
const peerMac = (): string => inside(`cat /sys/class/net/${b}/address`).trim();
const received = (): number => Number(inside(`cat /sys/class/net/${b}/statistics/rx_packets`));
const V4 = (text: string): number[] => text.split('.').map(Number);
const V6 = (net: number, last: number): number[] => [0xfd, 0, 0, net, ...new Array(11).fill(0), last];

interface Lower {
  readonly device: LowerDevice;
  readonly port: Port;
  /** Sends one packet; the link address that it left for, or the name of its fate. */
  send(address: readonly number[]): string;
}

function lower(open: () => LowerDevice, port: (device: LowerDevice, context: PortContext) => Port): Lower {
  const slab = createUmem({ frames: 256, sockets: 1 });
  const pool = createPool(slab, 0, 256, 0);
  const device = open();
  const made = port(device, { slab, pool, engine: nobleEngine(), handles: { resolve: () => 0 } });
  const burst = createBurst(slab, 1);
  return {
    device,
    port: made,
    send(address) {
      made.reap();
      const row = pool.take();
      const start = row * slab.frameSize + slab.headroom;
      const bytes = slab.bytes.subarray(start, start + 100).fill(0);
      bytes.set(address.length === 4 ? [0x08, 0, 0x45] : [0x86, 0xdd, 0x60], 12);
      bytes.set(address, address.length === 4 ? 30 : 38);
      resetRow(slab.rows, row, start, start + 100, RowState.CLEAR);
      burst.list[0] = row;
      burst.length = 1;
      made.xmit(burst);
      const fate = slab.rows[row * Row.WORDS + Row.FATE]!;
      if (fate === 0)
        return Buffer.from(bytes.subarray(0, 6))
          .toString('hex')
          .replace(/(..)(?=.)/g, '$1:');
      pool.give(row);
      return dropName(fate);
    },
  };
}

const LOWERS = {
  'af-packet': () =>
    lower(
      () => AfPacketDevice.open({ name: a, index: 0, ports: 1, receiver: 0, neighbours: true }),
      (device, context) => openAfPacketPort(device.ticket(0) as AfPacketTicket, context),
    ),
  'af-xdp': () =>
    lower(
      () => XskDevice.open({ name: a, index: 0, ports: 1, neighbours: true }),
      (device, context) => openXskPort(device.ticket(0) as XskTicket, context),
    ),
};
const NO_NEIGHBOUR = dropName(DropReason.NO_NEIGHBOUR);

async function settles(one: Lower, address: readonly number[], want: string, ms = 3000): Promise<void> {
  const end = performance.now() + ms;
  let got = one.send(address);
  while (got !== want && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    got = one.send(address);
  }
  expect(got).toBe(want);
}

describe.skipIf(reason !== null)(`next hops on veth${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  beforeAll(() => {
    ip('netns', 'add', space);
    ip('link', 'set', b, 'netns', space);
    ip('link', 'set', a, 'arp', 'on', 'up');
    inside(`ip link set ${b} arp on up`);
  });

  /** Both ends have addresses of both families, and routes lead through the peer. */
  function addresses(): void {
    spawnSync('sh', ['-c', `echo 0 > /proc/sys/net/ipv6/conf/${a}/disable_ipv6`]);
    inside(`echo 0 > /proc/sys/net/ipv6/conf/${b}/disable_ipv6`);
    ip('address', 'replace', '10.99.7.1/24', 'dev', a);
    ip('address', 'replace', 'fd00:99::1/64', 'dev', a, 'nodad');
    inside(`ip address replace 10.99.7.2/24 dev ${b}; ip address replace fd00:99::2/64 dev ${b} nodad`);
    ip('route', 'replace', '198.51.100.0/24', 'via', '10.99.7.2', 'dev', a);
    ip('route', 'replace', 'fd00:98::/64', 'via', 'fd00:99::2', 'dev', a);
  }

  for (const [name, open] of Object.entries(LOWERS))
    describe(name, () => {
      let one: Lower;
      beforeAll(() => {
        addresses();
        ip('neigh', 'flush', 'dev', a);
        one = open();
      });
      afterAll(async () => {
        one.port.close();
        await one.device.close();
      });

      it('asks the kernel for a neighbour that it does not know, and sends when it does, from its own address', async () => {
        for (const address of [V4('10.99.7.2'), V6(0x99, 2)]) {
          expect(one.send(address)).toBe(NO_NEIGHBOUR);
          await settles(one, address, peerMac());
        }
      });

      it("takes a route's gateway where the destination is not on the link", async () => {
        await settles(one, V4('198.51.100.77'), peerMac());
        await settles(one, V6(0x98, 5), peerMac());
        // Not through this interface.
        await settles(one, V4('127.0.0.1'), NO_NEIGHBOUR, 200);
      });

      it('follows a neighbour that moved to another link address', async () => {
        const before = peerMac();
        inside(`ip link set ${b} down; ip link set ${b} address 02:00:00:00:77:0${name.length}; ip link set ${b} up`);
        expect(peerMac()).not.toBe(before);
        // It speaks: its own request says where it is now.
        inside('ip neigh flush all; for i in 1 2 3; do echo > /dev/udp/10.99.7.1/9; sleep 0.05; done');
        await settles(one, V4('10.99.7.2'), peerMac());
      });

      it('drops for a neighbour that is silent, asks at most once a second, and goes on when it speaks', async () => {
        // Nothing but ARP on the link.
        spawnSync('sh', ['-c', `echo 1 > /proc/sys/net/ipv6/conf/${a}/disable_ipv6`]);
        await new Promise((resolve) => setTimeout(resolve, 100));
        const silent = V4('10.99.7.77');
        expect(one.send(silent)).toBe(NO_NEIGHBOUR);
        const before = received();
        const start = performance.now();
        while (performance.now() - start < 2100) {
          expect(one.send(silent)).toBe(NO_NEIGHBOUR);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        const asked = received() - before;
        expect(asked).toBeGreaterThan(0);
        expect(asked).toBeLessThanOrEqual(3);
        inside(`ip address add 10.99.7.77/24 dev ${b}`);
        await settles(one, silent, peerMac(), 5000);
        inside(`ip address del 10.99.7.77/24 dev ${b}`);
      });

      it('takes what an administrator has written down', async () => {
        ip('neigh', 'replace', '10.99.7.88', 'lladdr', '02:00:00:00:00:58', 'dev', a);
        await settles(one, V4('10.99.7.88'), '02:00:00:00:00:58');
        ip('neigh', 'del', '10.99.7.88', 'dev', a);
        await settles(one, V4('10.99.7.88'), NO_NEIGHBOUR);
      });
    });
});
