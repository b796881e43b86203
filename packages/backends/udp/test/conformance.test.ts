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

function rig(address: Uint8Array, sourcePorts: number): Rig {
  const [p, q] = [next++, next++];
  const lower = (name: string, index: number, port: number, peerPort: number): UdpDevice =>
    UdpDevice.open({
      name,
      index,
      ports: 1,
      local: { address, port },
      peer: { address, port: peerPort },
      sourcePorts,
    });
  const a = lower('u0', 0, p, q);
  const b = lower('u1', 1, q, p);
  return {
    a,
    b,
    saSlots: 4096,
    open: (_, ticket, context) => openUdpPort(ticket as UdpTicket, context),
    deliver: () => new Promise((resolve) => setTimeout(resolve, 1)),
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
        create: () => rig(address, sourcePorts),
        skip,
      });
});
