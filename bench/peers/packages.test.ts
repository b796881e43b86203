import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { PEERS } from './packages.ts';

/** What apt-get would install on a Debian without a single package, and would say of it; nothing is written. */
function fromNothing(names: readonly string[]): { status: number | null; installed: Set<string>; stderr: string } {
  const fresh = ['Dir::State::status=/dev/null', 'Dir::Cache::pkgcache=', 'Dir::Cache::srcpkgcache='];
  const args = ['-s', ...fresh.flatMap((option) => ['-o', option]), 'install', '--no-install-recommends', ...names];
  const { status, stdout, stderr } = spawnSync('apt-get', args, {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  const installed = (stdout ?? '').split('\n').filter((line) => line.startsWith('Inst '));
  return { status, installed: new Set(installed.map((line) => line.split(' ')[1]!)), stderr };
}

const names = [...new Set(Object.values(PEERS).flatMap(({ packages }) => packages))];
const known = fromNothing(['libc6']).status === 0;

it.skipIf(!known)(
  `apt-get knows every package of the peers${known ? '' : ' (skipped: no apt-get, or no package lists)'}`,
  () => {
    const { status, installed, stderr } = fromNothing(names);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(names.filter((name) => !installed.has(name))).toEqual([]);
    expect(fromNothing([...names, 'no-such-package']).status).not.toBe(0);
  },
);
