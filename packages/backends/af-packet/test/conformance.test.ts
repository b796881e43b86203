import { AfPacketDevice, type AfPacketTicket, openAfPacketPort } from '@espalier/af-packet';
import { nobleEngine } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { conformance } from '@espalier/xfrm/conformance';
import { afterAll, describe, expect, it } from 'vitest';
import { SOFT_SKIPS } from '../../../esp/test/soft-skips.ts';
import { vethPair, vethRig } from '../../../native/test/veth.ts';

const pair = vethPair('espp');
const reason = typeof pair === 'string' ? pair : null;
afterAll(() => typeof pair !== 'string' && pair.close());

describe.skipIf(reason !== null)(`AF_PACKET on a veth pair${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  if (typeof pair === 'string') return;
  for (const engine of [nobleEngine, nodeEngine])
    conformance({
      it,
      expect,
      engine,
      name: `af-packet, ${engine().name}`,
      create: async () =>
        vethRig(pair, (name, index) => AfPacketDevice.open({ name, index, ports: 1, receiver: 0 }), {
          open: (_, ticket, context) => openAfPacketPort(ticket as AfPacketTicket, context),
        }),
      skip: SOFT_SKIPS,
    });
});
