import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { MockDevice } from '@espalier/mock';
import { type Devices, Gateway, openDevices, parseConfig } from 'espalier';
import { describe, expect, it } from 'vitest';
import { bundleWorker } from '../../../scripts/bundle.ts';

const workerFile = bundleWorker(join(import.meta.dirname, '..', 'src', 'worker.ts'));
const dying = bundleWorker(join(import.meta.dirname, 'dying-worker.ts'));

const sa = (name: string, direction: string, spi: number): object => ({
  name,
  direction,
  spi,
  source: direction === 'out' ? '192.0.2.1' : '192.0.2.2',
  destination: direction === 'out' ? '192.0.2.2' : '192.0.2.1',
  algorithm: 'aes128gcm16',
  key: ((spi & 0xff) + 1).toString(16).padStart(2, '0').repeat(20),
});
const plan = parseConfig(
  JSON.stringify({
    bond: { peerMac: '02:00:00:00:00:0b', lowers: [0, 1, 2].map((i) => ({ kind: 'mock', name: `m${i}` })) },
    inside: { kind: 'mock' },
    sas: [0, 1, 2, 3].map((i) => sa(`s${i}`, i < 2 ? 'in' : 'out', 0x1000 + 2 * i)),
    policies: [{ source: '0.0.0.0/0', destination: '0.0.0.0/0', action: 'protect', sa: 's2' }],
  }),
  'plan',
);
const descriptors = (): number => (process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0);
const installed = ({ lowers }: Devices): number[] => (lowers as MockDevice[]).map((lower) => lower.nic!.installed);

describe('a gateway', () => {
  it('does not start over a link that its longest packets do not fit through', async () => {
    const devices = await openDevices(plan);
    const [, second] = devices.lowers;
    Object.defineProperty(second, 'mtu', { value: 1499 });
    await expect(Gateway.start({ plan, ...devices, workerFile })).rejects.toMatchObject({
      code: 'CONFIG',
      detail: { path: 'bond.mtu', expected: 'at most 1499, the MTU of m1', got: '1500' },
    });
  });

  it('is ended to the last step, whatever one of them throws', async () => {
    const devices = await openDevices(plan);
    const closed: string[] = [];
    const end = (one: { close(): unknown }, name: string, error: Error | null): void => {
      const close = one.close.bind(one);
      one.close = async () => {
        await close();
        closed.push(name);
        if (error !== null) throw error;
      };
    };
    for (const [i, lower] of devices.lowers.entries()) end(lower, `m${i}`, i < 2 ? new Error(`m${i}`) : null);
    end(devices.inside, 'inside', null);
    const gateway = await Gateway.start({ plan, workerFile, ...devices });
    await expect(gateway.stop()).rejects.toThrow('m0');
    expect(closed).toEqual(['m0', 'm1', 'm2', 'inside']);
  });

  it('has every SA on every slave while it runs, and nothing open after it', async () => {
    await (await Gateway.start({ plan, workerFile, ...(await openDevices(plan)) })).stop();
    const before = descriptors();
    const devices = await openDevices(plan);
    const gateway = await Gateway.start({ plan, workerFile, ...devices });
    expect(gateway.stats().slaves.map((s) => [s.name, s.usable, s.replicas])).toEqual([
      ['m0', true, 4],
      ['m1', true, 4],
      ['m2', true, 4],
    ]);
    await Promise.all([gateway.stop(), gateway.stop()]);
    expect(installed(devices)).toEqual([0, 0, 0]);
    expect(descriptors()).toBe(before);
  });

  it('leaves no handle, thread or descriptor behind, whichever SA on whichever slave is refused', async () => {
    const before = descriptors();
    for (const slave of [0, 1, 2])
      for (let nth = 1; nth <= 4; nth++) {
        const devices = await openDevices(plan);
        (devices.lowers[slave] as MockDevice).nic!.refuseAdd(nth);
        await expect(Gateway.start({ plan, workerFile, ...devices })).rejects.toMatchObject({ code: 'ROLLED_BACK' });
        expect(installed(devices)).toEqual([0, 0, 0]);
      }
    expect(descriptors()).toBe(before);
  });

  it('says what a worker could not open, with its code, and leaves nothing', async () => {
    const devices = await openDevices(plan);
    const before = descriptors();
    const inside = { ticket: () => ({ kind: 'carrier-pigeon', index: -1, port: 0 }), close: () => undefined };
    const started = Gateway.start({ plan, workerFile, ...devices, inside });
    await expect(started).rejects.toMatchObject({ code: 'UNSUPPORTED', message: /ports of kind "carrier-pigeon"/ });
    expect(descriptors()).toBe(before);
  });

  it('tells its owner when a worker dies, and still stops', async () => {
    const failures: string[] = [];
    let tell = (): void => undefined;
    const failed = new Promise<void>((resolve) => {
      tell = resolve;
    });
    const gateway = await Gateway.start({
      plan,
      workerFile: dying,
      ...(await openDevices(plan)),
      onFailure: (error) => {
        failures.push(error.message);
        tell();
      },
    });
    await failed;
    expect(failures[0]).toMatch(/told to die/);
    // What is left can still be changed.
    await gateway.removeSa('s0');
    await gateway.switchOutbound('s2', 's3');
    await gateway.removeSa('s2');
    expect(gateway.current.sas.map(({ name }) => name)).toEqual(['s1', 's3']);
    await gateway.stop();
    expect(failures.length).toBeLessThanOrEqual(plan.workers);
  });
});
