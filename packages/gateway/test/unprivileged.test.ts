import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { dropPrivileges } from 'espalier';
import { afterAll, describe, expect, it } from 'vitest';
import { bundleWorker } from '../../../scripts/bundle.ts';
import { addonFile } from '../../native/test/isolated.ts';
import { vethPair } from '../../native/test/veth.ts';

const pair = process.getuid?.() === 0 ? vethPair('espd') : 'only root has privileges to give up';
afterAll(() => typeof pair !== 'string' && pair.close());

describe.skipIf(typeof pair === 'string')(
  `a process that gives up root${typeof pair === 'string' ? ` (skipped: ${pair})` : ''}`,
  () => {
    it('sends and receives as user 65534 through what it opened before, and can open nothing more', () => {
      if (typeof pair === 'string') return;
      const file = bundleWorker(join(import.meta.dirname, 'unprivileged-child.ts'));
      const env = { ...process.env, ESPALIER_ADDON: addonFile };
      const { stdout, stderr, status } = spawnSync(process.execPath, [file, pair.a, pair.b], {
        env,
        encoding: 'utf8',
        timeout: 30_000,
      });
      expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
      const { user, xdp, packet, sent, refused, free } = JSON.parse(stdout) as Record<string, unknown>;
      expect({ user, free }).toEqual({ user: 65_534, free: true });
      expect(sent).toBeGreaterThanOrEqual(100);
      expect(xdp).toBeGreaterThanOrEqual(50);
      expect(packet).toBeGreaterThanOrEqual(50);
      expect(refused).toEqual([
        'PERMISSION',
        'PERMISSION',
        'PERMISSION',
        'PERMISSION',
        expect.stringContaining('EPERM'),
      ]);
    });
  },
);

describe('giving up root', () => {
  it('refuses to become root, or nobody in particular', () => {
    for (const ids of [
      { uid: 0, gid: 1 },
      { uid: 1, gid: 0 },
      { uid: 1.5, gid: 1 },
      { uid: Number.NaN, gid: 1 },
    ])
      expect(() => dropPrivileges(ids)).toThrow(TypeError);
  });
});
