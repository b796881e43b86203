import { nobleEngine } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { load } from '@espalier/native';
import { openUdpPort, UdpDevice, type UdpTicket } from '@espalier/udp';
import { conformance, type Rig } from '@espalier/xfrm/conformance';
import { describe, expect, it } from 'vitest';
import { SOFT_SKIPS } from '../../../esp/test/soft-skips.ts';

const found = load();
const reason = found.binding === null ? `no addon: ${found.reason}` : null;
const V4 = Uint8Array.of(127, 0, 0, 1);
const V6 = Uint8Array.from({ length: 16 }, (_, i) => (i === 15 ? 1 : 0));

// Another pair of ports for every rule: what an earlier one left in a socket is not this one's.
let next = 20_000 + (process.pid % 1000) * 40;

const moment = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1));

/** Datagrams that one port has put into its ring and the other side's thread has not taken from its socket: see dgram.ts. */
function underWay(from: UdpDevice, to: UdpDevice): number {
  const [PUT, LOST, HEADER, RING] = [0, 2, 16, 16 + 256 * 514];
  const count = (device: UdpDevice, ring: number, word: number): number =>
    Atomics.load(new Int32Array(device.ticket(0).dgram!), HEADER + ring * RING + word);
  return count(from, 0, PUT) - count(to, 1, PUT) - count(to, 1, LOST);
}

function rig(address: Uint8Array, sourcePorts: number, sockets: 'native' | 'dgram'): Rig {
  const [p, q] = [next++, next++];
  const lower = (name: string, index: number, port: number, peerPort: number): UdpDevice =>
    UdpDevice.open({
      name,
      index,
      ports: 1,
      local: { address, port },
      peer: { address, port: peerPort },
      sourcePorts,
      sockets,
    });
  const a = lower('u0', 0, p, q);
  const b = lower('u1', 1, q, p);
  return {
    a,
    b,
    saSlots: 4096,
    open: (_, ticket, context) => openUdpPort(ticket as UdpTicket, context),
    deliver: async () => {
      await moment();
      for (let i = 0; sockets === 'dgram' && i < 1000 && underWay(a, b) + underWay(b, a) > 0; i++) await moment();
    },
    powers: {},
    close: async () => {
      await a.close();
      await b.close();
    },
  };
}

const skip = [...SOFT_SKIPS, { rules: ['on-change', 'link-down'], reason: 'a socket has no carrier of its own' }];

describe.skipIf(reason !== null)(`UDP over loopback${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  for (const [name, address, sourcePorts] of [
    ['udp', V4, 0],
    ['udp over IPv6', V6, 0],
    ['udp from 8 source ports', V4, 8],
  ] as const)
    for (const engine of [nobleEngine, nodeEngine])
      conformance({
        it,
        expect,
        engine,
        name: `${name}, ${engine().name}`,
        create: () => rig(address, sourcePorts, 'native'),
        skip,
      });
});

describe('UDP over loopback without the addon', () => {
  for (const [name, address, sourcePorts] of [
    ['node:dgram', V4, 0],
    ['node:dgram over IPv6 from 4 source ports', V6, 4],
  ] as const)
    conformance({ it, expect, engine: nodeEngine, name, create: () => rig(address, sourcePorts, 'dgram'), skip });

  it('says which sockets it has, and what it cannot bind', async () => {
    const local = { address: V4, port: next++ };
    const options = { name: 'u', index: 0, ports: 1, local, peer: { address: V4, port: next++ } } as const;
    const one = UdpDevice.open({ ...options, sockets: 'dgram' });
    expect(one.describe()).toMatch(/node:dgram/);
    expect(() => UdpDevice.open({ ...options, sockets: 'dgram' })).toThrow(expect.objectContaining({ code: 'BUSY' }));
    const foreign = { ...options, local: { address: Uint8Array.of(203, 0, 113, 9), port: next++ } };
    expect(() => UdpDevice.open({ ...foreign, sockets: 'dgram' })).toThrow(
      expect.objectContaining({ code: 'NOT_FOUND' }),
    );
    await one.close();
  });
});
