// A key that was in the config is in nothing that anybody can print, whatever becomes of it. Budget: 2 s.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Gateway, loadConfig, openDevices, parseConfig } from 'espalier';
import { afterAll, describe, expect, it } from 'vitest';
import { bundleWorker } from '../../../scripts/bundle.ts';

const workerFile = bundleWorker(join(import.meta.dirname, '..', 'src', 'worker.ts'));
const folder = mkdtempSync(join(tmpdir(), 'espalier-keys-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Bytes d9 d9 ..., and those with 1 added for the second SA: as hexadecimal digits, or in any list of numbers. */
const shown = /(d9|da){4}|\b(217|218)\b\D{1,3}\b(217|218)\b/i;
const OUT = 'd9'.repeat(20);
const IN = 'da'.repeat(20);
const sa = (name: string, direction: string, spi: number, key: unknown, over: object = {}): object => ({
  name,
  direction,
  spi,
  source: direction === 'out' ? '192.0.2.1' : '192.0.2.2',
  destination: direction === 'out' ? '192.0.2.2' : '192.0.2.1',
  algorithm: 'aes128gcm16',
  key,
  ...over,
});
const config = (sas: object[]): string =>
  JSON.stringify({
    bond: { peerMac: '02:00:00:00:00:0b', lowers: [0, 1].map((i) => ({ kind: 'mock', name: `m${i}` })) },
    inside: { kind: 'mock' },
    sas,
    policies: [{ source: '0.0.0.0/0', destination: '0.0.0.0/0', action: 'protect', sa: 'o' }],
  });
const good = [sa('o', 'out', 0x1000, OUT), sa('i', 'in', 0x1002, IN)];

/** Everything a person could make of a value. */
function prints(value: unknown): string[] {
  const error = value instanceof Error ? [value.message, value.stack ?? '', JSON.stringify({ ...value })] : [];
  return [
    inspect(value, { depth: 99, showHidden: true, getters: true, maxArrayLength: null, maxStringLength: null }),
    inspect(structuredCloneable(value), { depth: 99 }),
    String(value),
    `${JSON.stringify(value)}`,
    ...error,
  ];
}

function structuredCloneable(value: unknown): unknown {
  return typeof value === 'object' && value !== null ? { ...value } : value;
}

describe('a key in a config', () => {
  it('is in no print of the plan, from the file itself or from a file of its own', () => {
    writeFileSync(join(folder, 'o.key'), `${OUT}\n`);
    writeFileSync(join(folder, 'gw.json'), config([sa('o', 'out', 0x1000, { file: 'o.key' }), good[1]!]));
    for (const plan of [parseConfig(config(good), 'gw.json'), loadConfig(join(folder, 'gw.json'))]) {
      // It is there, or nothing would be shown by this.
      expect(plan.sas.map((one) => one.key[0])).toEqual([0xd9, 0xda]);
      for (const thing of [plan, plan.sas, plan.sas[0], plan.sas[0]!.key, { ...plan.sas[0] }, [plan]])
        for (const text of prints(thing)) expect(text).not.toMatch(shown);
    }
  });

  it('is in no complaint about the file, wherever the mistake is', () => {
    const bad: string[] = [
      config([sa('o', 'out', 0x1000, `${OUT}d9`)]),
      config([sa('o', 'out', 0x1000, OUT.slice(1))]),
      config([sa('o', 'out', 0x1000, `${OUT.slice(2)}zz`)]),
      config([sa('o', 'out', 0x1000, { file: 'none', key: OUT })]),
      config([sa('o', 'out', 0x1000, [OUT])]),
      config([sa('o', 'out', 0x1000, OUT, { spi: OUT })]),
      config([sa('o', 'out', 0x1000, OUT, { [OUT]: 1 })]).replace(`"${OUT}":1`, '"surprise":1'),
      config([sa('o', 'out', 0x1000, OUT), sa('p', 'out', 0x1004, OUT)]),
      config(good).replace(`"${OUT}"`, `"${OUT}`),
      `key: ${OUT}\n  bad: [`,
    ];
    for (const text of bad) {
      let error: unknown;
      try {
        parseConfig(text, 'gw.json');
      } catch (e) {
        error = e;
      }
      expect(error).toBeInstanceOf(Error);
      for (const print of prints(error)) expect(print).not.toMatch(shown);
    }
  });

  it('is in no print of a gateway that runs with it, its devices, its counters, or what it throws', async () => {
    const plan = parseConfig(config(good), 'gw.json');
    const devices = await openDevices(plan);
    const gateway = await Gateway.start({ plan, workerFile, ...devices });
    const things: unknown[] = [gateway, gateway.bond, devices, gateway.stats()];
    try {
      await gateway.addSa(plan.sas[0]!);
    } catch (error) {
      things.push(error);
    }
    await gateway.stop();
    things.push(gateway);
    expect(things.some((thing) => thing instanceof Error)).toBe(true);
    for (const thing of things) for (const text of prints(thing)) expect(text).not.toMatch(shown);
  });
});
