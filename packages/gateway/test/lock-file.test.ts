import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { bundleWorker } from '../../../scripts/bundle.ts';
import { lock, unlock } from '../src/lock-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'espalier-lock-'));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
const fresh = (): string => join(folder, `${++files}.pid`);
const busy = expect.objectContaining({ code: 'BUSY' });
/** Beyond the greatest pid of Linux. */
const NOBODY = 4194305;
const token = 'a'.repeat(32);
/** Names that begin with that of a lock: what is left of it and its line. */
const left = (file: string): string[] => readdirSync(folder).filter((name) => join(folder, name).startsWith(file));

describe('a lock file', () => {
  it('is held until it is given back, and leaves nothing', () => {
    const file = fresh();
    const text = lock(file);
    expect(readFileSync(file, 'utf8')).toBe(text);
    expect(() => lock(file)).toThrow(busy);
    expect(left(file).length).toBe(1);
    unlock(file, text);
    expect(left(file)).toEqual([]);
  });

  it.each([
    ['of a process that is gone', `${NOBODY} boot/1 ${token}`],
    ['of a process that is gone, with no more than its number', String(NOBODY)],
    ['of an earlier process of this number', `${process.pid} boot/1 ${token}`],
    ['of this number, left by one that gave no birth', String(process.pid)],
  ])('%s is taken over', (_, text) => {
    const file = fresh();
    writeFileSync(file, text);
    const own = lock(file);
    expect(readFileSync(file, 'utf8')).toBe(own);
    expect(left(file).length).toBe(1);
    unlock(file, own);
  });

  it.skipIf(process.platform !== 'linux')(
    'of a number that another process has by now is taken over (needs /proc)',
    () => {
      const file = fresh();
      writeFileSync(file, `${process.ppid} boot/1 ${token}`);
      unlock(file, lock(file));
      writeFileSync(file, String(process.ppid));
      expect(() => lock(file)).toThrow(busy);
    },
  );

  it.skipIf(process.platform !== 'linux')(
    'of a process of another PID namespace stands, whatever lives under its number here (needs /proc)',
    () => {
      const file = fresh();
      const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
      for (const pid of [NOBODY, process.pid]) {
        writeFileSync(file, `${pid} ${boot}/1/pid:[1] ${token}`);
        expect(() => lock(file)).toThrow(/another PID namespace/);
        // Of an earlier boot: nobody has it any more.
        writeFileSync(file, `${pid} boot/1/pid:[1] ${token}`);
        unlock(file, lock(file));
      }
    },
  );

  it('keeps out two that are both process 1 of a PID namespace of their own', async (context) => {
    const own = ['--user', '--map-root-user', '--pid', '--fork', '--mount-proc'];
    if (spawnSync('unshare', [...own, 'true']).status !== 0) context.skip('unshare --pid is not allowed here');
    const child = bundleWorker(join(import.meta.dirname, 'lock-holder.ts'));
    const file = fresh();
    const first = spawn('unshare', [...own, '--kill-child', process.execPath, child, file], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const [said] = await once(first.stdout, 'data');
    expect(String(said)).toMatch(/^1 /);
    const second = spawnSync('unshare', [...own, process.execPath, child, file], { input: '', encoding: 'utf8' });
    expect([second.stdout, first.exitCode]).toEqual(['BUSY', null]);
    first.stdin.end();
    await once(first, 'close');
    expect(left(file)).toEqual([]);
  });

  it.each(['', 'x', '12 '.repeat(3)])('that does not say whose it is may be in the making, and stands: %j', (text) => {
    const file = fresh();
    writeFileSync(file, text);
    expect(() => lock(file)).toThrow(busy);
    expect(readFileSync(file, 'utf8')).toBe(text);
    expect(left(file).length).toBe(1);
  });

  it('that was being taken over by one that was killed in turn is taken over all the same', () => {
    const file = fresh();
    const next = (text: string): string => `${file}.${createHash('sha256').update(text).digest('hex').slice(0, 32)}`;
    const [first, second] = [`${NOBODY} boot/1 ${token}`, `${NOBODY} boot/2 ${token}`];
    writeFileSync(file, first);
    writeFileSync(next(first), second);
    const own = lock(file);
    expect([readFileSync(file, 'utf8'), left(file).length]).toEqual([own, 1]);
    // Whoever is at the end of the line has it, before it has cleared the line too.
    writeFileSync(file, first);
    writeFileSync(next(first), own);
    expect(() => lock(file)).toThrow(busy);
  });

  it('does not take away what is somebody else’s by now', () => {
    const file = fresh();
    const text = lock(file);
    writeFileSync(file, 'another');
    unlock(file, text);
    expect(existsSync(file)).toBe(true);
  });

  it('left by a dead process goes to one of many that want it at once, again and again', async () => {
    const child = bundleWorker(join(import.meta.dirname, 'lock-child.ts'));
    const file = fresh();
    writeFileSync(file, `${NOBODY} boot/1 ${token}`);
    const start = Date.now() + 800;
    const children = Array.from({ length: 4 }, () =>
      spawn(process.execPath, [child, file, String(start)], { stdio: ['ignore', 'pipe', 'inherit'] }),
    );
    const said = await Promise.all(
      children.map(async (one) => {
        let text = '';
        one.stdout.on('data', (bytes) => {
          text += bytes;
        });
        await once(one, 'close');
        return JSON.parse(text) as { won: number; together: number };
      }),
    );
    expect(said.reduce((sum, { together }) => sum + together, 0)).toBe(0);
    expect(said.reduce((sum, { won }) => sum + won, 0)).toBeGreaterThan(20);
  });
});
