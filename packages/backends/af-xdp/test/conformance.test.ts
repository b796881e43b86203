import { createUmem, openXskPort, XskDevice, type XskTicket } from '@espalier/af-xdp';
import { nobleEngine } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { conformance } from '@espalier/xfrm/conformance';
import { afterAll, describe, expect, it } from 'vitest';
import { SOFT_SKIPS } from '../../../esp/test/soft-skips.ts';
import { vethPair, vethRig } from '../../../native/test/veth.ts';

const pair = vethPair('espx');
const reason = typeof pair === 'string' ? pair : null;
afterAll(() => typeof pair !== 'string' && pair.close());

describe.skipIf(reason !== null)(`AF_XDP on a veth pair${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  if (typeof pair === 'string') return;
  for (const engine of [nobleEngine, nodeEngine])
    conformance({
      it,
      expect,
      engine,
      name: `af-xdp, ${engine().name}`,
      create: async () =>
        vethRig(pair, (name, index) => XskDevice.open({ name, index, ports: 1 }), {
          slab: (frames) => createUmem({ frames: 4 * frames, sockets: 2 }),
          open: (_, ticket, context) => openXskPort(ticket as XskTicket, context),
        }),
      skip: SOFT_SKIPS,
    });
});
