import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { join } from 'node:path';
import { probe } from '@espalier/native';
import { Gateway, openDevices, parseConfig } from 'espalier';
import { describe, expect, it } from 'vitest';
import { bundleWorker } from '../../../scripts/bundle.ts';

const { addon } = probe();
const why = addon === 'supported' ? '' : `(${JSON.stringify(addon)})`;
// A bundle lies elsewhere than the addon.
process.env.ESPALIER_ADDON ??= join(import.meta.dirname, '../../native/build/espalier.node');

describe('a UDP lower behind a NAT', () => {
  it.skipIf(why)(`sends one byte from each of its ports when nothing else goes out ${why}`, async () => {
    const peer = createSocket('udp4').bind(0, '127.0.0.1');
    await once(peer, 'listening');
    const got: [number, string][] = [];
    peer.on('message', (datagram, { port }) => got.push([port, datagram.toString('hex')]));
    const lower = {
      kind: 'udp',
      name: 'u0',
      local: '127.0.0.1',
      localPort: 45_017,
      peer: '127.0.0.1',
      peerPort: peer.address().port,
    };
    const sa = {
      name: 'out',
      direction: 'out',
      spi: 4096,
      source: '127.0.0.1',
      destination: '127.0.0.1',
      algorithm: 'aes128gcm16',
      key: '01'.repeat(20),
    };
    const plan = parseConfig(
      JSON.stringify({
        bond: { lowers: [{ ...lower, sourcePorts: 3, keepaliveSeconds: 20 }] },
        inside: { kind: 'mock' },
        sas: [sa],
        policies: [{ source: '0.0.0.0/0', destination: '0.0.0.0/0', action: 'protect', sa: 'out' }],
      }),
      'plan',
    );
    let now = 0;
    const workerFile = bundleWorker(join(import.meta.dirname, '..', 'src', 'worker.ts'));
    const gateway = await Gateway.start({ plan, ...(await openDevices(plan)), workerFile, clock: () => now });
    try {
      await new Promise((resolve) => setTimeout(resolve, 120));
      expect(got).toEqual([]);
      now += 20_500;
      for (const end = Date.now() + 5000; got.length < 6 && Date.now() < end; )
        await new Promise((resolve) => setTimeout(resolve, 10));
      // Two workers with three ports each.
      expect(new Set(got.map(([port]) => port)).size).toBe(6);
      expect(got.map(([, bytes]) => bytes)).toEqual(new Array(6).fill('ff'));
      expect(gateway.stats().keepalives).toBe(6);
    } finally {
      await gateway.stop();
      peer.close();
    }
  });
});
