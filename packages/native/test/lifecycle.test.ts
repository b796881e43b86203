import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { linkInfo, load } from '../src/index.ts';
import { addonFile, noNamespace, unshare } from './isolated.ts';
import { vethPair } from './veth.ts';

const { binding } = load();
const reason = binding === null ? 'no addon' : noNamespace();
const skipped = reason === null ? '' : ` (skipped: ${reason})`;
const here = it.skipIf(reason !== null);
const LONG = process.env.ESPALIER_LONG === '1';
const SANITIZED = process.env.ASAN_OPTIONS !== undefined;
const child = join(import.meta.dirname, 'life-child.mjs');
const MiB = 2 ** 20;

/** The child in a network of its own. */
function live(way: string, more = ''): { readonly code: number | string; readonly out: string; readonly err: string } {
  const [command, ...args] = [...unshare(), process.execPath, '--expose-gc', child, addonFile, way, more];
  const { status, signal, stdout, stderr } = spawnSync(command!, args, {
    encoding: 'utf8',
    timeout: LONG ? 600_000 : 50_000,
  });
  return { code: signal ?? status ?? -1, out: stdout, err: stderr };
}

describe('a process or thread that ends', () => {
  for (const [way, code] of [
    ['exit', 7],
    ['exit in poll', 7],
    ['end', 0],
    ['throw', 1],
  ] as const)
    here(`with everything open, by ${way}: ends at once and as it should${skipped}`, () => {
      const { code: ended, err } = live(way);
      expect({ ended, err: way === 'throw' ? '' : err }).toEqual({ ended: code, err: '' });
      if (way === 'throw') expect(err).toContain('on purpose');
    });

  const rounds = LONG ? 400 : 12;
  here(
    `${2 * rounds} workers terminated in the middle of bursts and polls, holding devices: the process goes on${skipped}`,
    () => {
      expect(live('terminate', `${rounds}`)).toEqual({ code: 7, out: '', err: '' });
    },
    LONG ? 600_000 : 60_000,
  );
});

describe('memory', () => {
  const times = LONG ? 100_000 : 5000;
  here(
    `and descriptors stay flat over ${times} slabs, lists, keys, events and sockets, opened and closed${skipped}`,
    () => {
      const { code, out, err } = live('flat', `${times}`);
      expect({ code, err }).toEqual({ code: 0, err: '' });
      const { rss, fds } = JSON.parse(out) as { rss: number; fds: number };
      process.stdout.write(`  RSS grew by ${(rss / MiB).toFixed(2)} MiB over ${times} rounds\n`);
      // Node itself has one more or less now and then.
      expect(fds).toBeLessThan(3);
      // A sanitizer keeps what was freed for a while.
      if (!SANITIZED) expect(rss).toBeLessThan(8 * MiB);
    },
    LONG ? 600_000 : 60_000,
  );

  const devices = LONG ? 2000 : 60;
  here(
    `and descriptors stay flat over ${devices} TUN devices, packet and netlink sockets${skipped}`,
    () => {
      const { code, out, err } = live('devices', `${devices}`);
      expect({ code, err }).toEqual({ code: 0, err: '' });
      const { rss, fds } = JSON.parse(out) as { rss: number; fds: number };
      process.stdout.write(`  RSS grew by ${(rss / MiB).toFixed(2)} MiB over ${devices} rounds\n`);
      expect(fds).toBeLessThan(3);
      if (!SANITIZED) expect(rss).toBeLessThan(8 * MiB);
    },
    LONG ? 600_000 : 60_000,
  );
});

const pair = reason === null ? vethPair('espk') : reason;
afterAll(() => typeof pair !== 'string' && pair.close());

describe.skipIf(typeof pair === 'string')(`kill -9${typeof pair === 'string' ? ` (skipped: ${pair})` : ''}`, () => {
  it('takes the XDP program off the interface', async () => {
    if (typeof pair === 'string') return;
    const info = linkInfo(binding!, pair.a);
    if (typeof info === 'number') throw new Error(`${info}`);
    const shown = (): boolean => spawnSync('ip', ['link', 'show', pair.a], { encoding: 'utf8' }).stdout.includes('xdp');
    const holder = spawn(process.execPath, [child, addonFile, 'attach', `${info.index}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(holder, 'exit');
    await Promise.race([once(holder.stdout, 'data'), ended]);
    expect(shown()).toBe(true);
    holder.kill('SIGKILL');
    expect(await ended).toEqual([null, 'SIGKILL']);
    // The kernel lets go of the link a moment after the process.
    for (let i = 0; i < 100 && shown(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(shown()).toBe(false);
  });
});
