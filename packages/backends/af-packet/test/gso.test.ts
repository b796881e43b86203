import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { vethPair } from '../../../native/test/veth.ts';

const python = spawnSync('python3', ['--version']).status === 0;
const pair = python ? vethPair('espg') : 'no python3';
afterAll(() => typeof pair !== 'string' && pair.close());

describe.skipIf(typeof pair === 'string')(
  `segmentation of ESP by the kernel${typeof pair === 'string' ? ` (skipped: ${pair})` : ''}`,
  () => {
    it('is refused with every GSO type, where that of UDP is done', () => {
      if (typeof pair === 'string') return;
      const args = [join(import.meta.dirname, 'gso.py'), pair.a, pair.b];
      const { stdout, stderr, status } = spawnSync('python3', args, { encoding: 'utf8', timeout: 30_000 });
      expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
      const {
        'ESP, short': short,
        'UDP, UDP_L4': udp,
        ...long
      } = JSON.parse(stdout) as Record<string, [number, number]>;
      expect(short).toEqual([0, 1]);
      expect(udp![0]).toBe(0);
      expect(udp![1]).toBeGreaterThan(0);
      expect(Object.keys(long)).toHaveLength(10);
      for (const [name, [error, came]] of Object.entries(long))
        expect({ name, refused: error !== 0, came }).toEqual({ name, refused: true, came: 0 });
    });
  },
);
