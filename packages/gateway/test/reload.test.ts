import { parseConfig } from 'espalier';
import { describe, expect, it } from 'vitest';
import { successorsIn } from '../src/reload.ts';

let keys = 0;
const sa = (name: string, over: object = {}): Record<string, unknown> => ({
  name,
  direction: 'out',
  spi: 0x1000 + 2 * name.length,
  source: '192.0.2.1',
  destination: '192.0.2.2',
  algorithm: 'aes128gcm16',
  key: (++keys).toString(16).padEnd(40, 'c'),
  ...over,
});
const o = sa('o');
const oo = sa('oo', { replaces: 'o' });
const ooo = sa('ooo', { replaces: 'oo' });
const plan = (sas: object[], protects: string, over: object = {}): ReturnType<typeof parseConfig> =>
  parseConfig(
    JSON.stringify({
      bond: { peerMac: '02:00:00:00:00:0b', lowers: [{ kind: 'mock', name: 'm0' }] },
      inside: { kind: 'mock' },
      sas,
      policies: [{ source: '10.1.0.0/24', destination: '10.2.0.0/24', action: 'protect', sa: protects }],
      ...over,
    }),
    'gw.json',
  );
const running = plan([o], 'o');
const names = (next: ReturnType<typeof plan>, current = running): string[] =>
  successorsIn(running, next, current).map(({ name }) => name);

describe('a config file, read again', () => {
  it('asks for nothing when it is the same, or a line of SAs that has been gone through', () => {
    expect(names(plan([o], 'o'))).toEqual([]);
    const rekeyed = plan([oo], 'oo');
    expect(names(plan([oo], 'oo'), rekeyed)).toEqual([]);
    // Still listed, and still named by the policy: gone all the same.
    expect(names(plan([o, oo], 'o'), rekeyed)).toEqual([]);
  });

  it('asks for a rekey to SAs that are new, whichever of a line its policies name', () => {
    for (const protects of ['o', 'oo']) expect(names(plan([o, oo], protects))).toEqual(['oo']);
    expect(names(plan([oo], 'oo'))).toEqual(['oo']);
    expect(names(plan([oo, ooo], 'ooo'), plan([oo], 'oo'))).toEqual(['ooo']);
  });

  it('goes on however often, with a file that is only ever added to', () => {
    const line = [o, oo, ooo];
    for (const last of ['oooo', 'ooooo', 'oooooo']) {
      const predecessor = line.at(-1)! as { name: string };
      const current = plan([predecessor], predecessor.name);
      expect(names(plan(line, 'o'), current)).toEqual([]);
      line.push(sa(last, { replaces: predecessor.name }));
      expect(names(plan(line, 'o'), current)).toEqual([last]);
      // While the old one is still there.
      const both = plan(line.slice(-2), last);
      expect(names(plan(line, 'o'), both)).toEqual([]);
    }
  });

  it('may give an SA the name of one that is gone', () => {
    const rekeyed = plan([oo], 'oo');
    const again = sa('o', { replaces: 'oo' });
    expect(names(plan([sa('oo', { key: oo.key }), again], 'o'), rekeyed)).toEqual(['o']);
  });

  it.each([
    ['a line of SAs that goes in a circle', plan([sa('o', { replaces: 'oo' }), oo], 'o'), 'sas[0].replaces'],
    ['another SA under the name of one that is gone', plan([oo, sa('o')], 'oo'), 'sas[1].replaces'],
  ])('is refused with its path after a rekey: %s', (_, next, path) => {
    expect(() => names(next, plan([oo], 'oo'))).toThrow(
      expect.objectContaining({ code: 'CONFIG', detail: expect.objectContaining({ path }) }),
    );
  });

  it.each([
    ['an SA that replaces none', plan([o, sa('new')], 'o'), 'sas[1].replaces'],
    ['an SA that replaces one that is gone', plan([o, ooo], 'o'), 'sas[1].replaces'],
    ['another key under an old name', plan([sa('o')], 'o'), 'sas[0]'],
    [
      'another policy',
      plan([o, oo], 'o', { policies: [{ source: '0.0.0.0/0', destination: '0.0.0.0/0', action: 'discard' }] }),
      'policies',
    ],
    [
      'another bond',
      plan([o], 'o', { bond: { peerMac: '02:00:00:00:00:0c', lowers: [{ kind: 'mock', name: 'm0' }] } }),
      'bond',
    ],
    ['another number of workers', plan([o], 'o', { workers: 3 }), 'workers'],
    ['a state', plan([o], 'o', { state: { file: '/tmp/state.json' } }), 'state'],
    ['audit events', plan([o], 'o', { audit: {} }), 'audit'],
    ['a port for metrics', plan([o], 'o', { metrics: { port: 9000 } }), 'metricsPort'],
  ])('is refused with its path: %s', (_, next, path) => {
    expect(() => names(next)).toThrow(
      expect.objectContaining({ code: 'CONFIG', detail: expect.objectContaining({ path }) }),
    );
  });
});
