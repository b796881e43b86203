import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { obstacle } from '../obstacle.ts';
import { LINKS, PAIRS, slaveOf, spisOf } from '../plans.ts';

const ROOT = join(import.meta.dirname, '..', '..', '..');
const folder = mkdtempSync(join(tmpdir(), 'espalier-job-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Ended {
  readonly code: number | null;
  readonly out: string;
}

/** The job with a small load, all of its processes marked; `mark` finds them again. */
function job(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  act?: (child: ChildProcess, out: string) => void,
): Promise<Ended> {
  const child = spawn(process.execPath, [join(ROOT, 'scripts', 'dev.mjs'), 'start', '--bytes', '8000000', ...args], {
    cwd: ROOT,
    env: { ...process.env, CI: '', ...env },
    detached: true,
  });
  return new Promise((resolve) => {
    let out = '';
    const take = (d: Buffer): void => {
      out += d;
      act?.(child, out);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('close', (code) => resolve({ code, out }));
  });
}

let marks = 0;
const newMark = (): string => `${process.pid}-${++marks}`;

/** Processes that carry a mark, and the network namespaces they are in. */
function living(mark: string): { pids: string[]; spaces: Set<string> } {
  const pids: string[] = [];
  const spaces = new Set<string>();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name)))
    try {
      if (!readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`ESPALIER_MARK=${mark}\0`)) continue;
      pids.push(pid);
      spaces.add(readlinkSync(`/proc/${pid}/ns/net`));
    } catch {
      // Gone meanwhile, or not ours.
    }
  return { pids, spaces };
}

/** Whether anything lives in one of these namespaces or keeps one mounted. */
function inhabited(spaces: ReadonlySet<string>): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name)))
    try {
      if (spaces.has(readlinkSync(`/proc/${pid}/ns/net`))) found.push(pid);
    } catch {
      // Gone meanwhile, or not ours.
    }
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
  for (const space of spaces) if (mounts.includes(space)) found.push(space);
  return found;
}

const devices = (): string[] =>
  readFileSync('/proc/net/dev', 'utf8')
    .split('\n')
    .slice(2)
    .map((line) => line.split(':')[0]!.trim())
    .filter((name) => /^([ab]\d|tun0|v0|v1|t0)$/.test(name));

/** A PATH without one of the tools. */
function without(tool: string): string {
  const bin = join(folder, `without-${tool}`);
  execFileSync('mkdir', ['-p', bin]);
  for (const dir of process.env.PATH!.split(delimiter).reverse()) {
    if (!existsSync(dir)) continue;
    for (const name of readdirSync(dir)) {
      if (name === tool) continue;
      rmSync(join(bin, name), { force: true });
      symlinkSync(join(dir, name), join(bin, name));
    }
  }
  return bin;
}

const held = (out: string): string[] => out.split('\n').filter((line) => /^BROKEN|^every promise held/.test(line));

describe('the plans of the main job', () => {
  it('give every slave the same number of SAs each way, with even SPIs', () => {
    for (const [from, generation] of [
      [0, 0],
      [1, 0],
      [0, 1],
      [1, 1],
    ] as const) {
      const spis = spisOf(from, generation);
      expect(spis.every((spi) => spi % 2 === 0)).toBe(true);
      const share = Array.from({ length: LINKS }, (_, i) => spis.filter((spi) => slaveOf(from, spi) === i).length);
      expect(share).toEqual(new Array(LINKS).fill(PAIRS / LINKS));
      // What the stride is for.
      for (const spi of spis) expect(slaveOf(from, spi + 1)).toBe(slaveOf(from, spi));
    }
  });
});

describe('the main job on the mock wire', () => {
  it('holds its promises, and says that it was asked for', async () => {
    const { code, out } = await job(['--mock'], {});
    expect(out).toContain('On the mock wire, as --mock asks');
    expect(held(out)[0]).toMatch(/^every promise held/);
    expect(code).toBe(0);
  });

  it('is what a machine without unshare gets, with the reason and what would mend it', async () => {
    const { code, out } = await job([], { PATH: without('unshare') });
    expect(out).toContain(
      'On the mock wire, because there is no "unshare"; for real links: apt-get install util-linux.',
    );
    expect(held(out)[0]).toMatch(/^every promise held/);
    expect(code).toBe(0);
  });
});

const why = obstacle();
const reason = why === null ? '' : `(${why.reason})`;
describe('the main job on real links', () => {
  beforeAll(() => chmodSync(folder, 0o755));

  it.skipIf(why)(`holds its promises and leaves nothing behind ${reason}`, async () => {
    const mark = newMark();
    const spaces = new Set<string>();
    const before = devices();
    const { code, out } = await job([], { ESPALIER_MARK: mark, TMPDIR: folder }, () => {
      for (const space of living(mark).spaces) spaces.add(space);
    });
    expect(held(out)[0]).toMatch(/^every promise held/);
    expect(code).toBe(0);
    spaces.delete(readlinkSync('/proc/self/ns/net'));
    expect(spaces.size).toBeGreaterThanOrEqual(2);
    expect(living(mark).pids).toEqual([]);
    expect(inhabited(spaces)).toEqual([]);
    expect(devices()).toEqual(before);
    expect(readdirSync(folder).filter((name) => !name.startsWith('without-'))).toEqual([]);
  });

  it.skipIf(why)(`leaves nothing behind when it is interrupted in the middle ${reason}`, async () => {
    const mark = newMark();
    const spaces = new Set<string>();
    const before = devices();
    const { code } = await job(['--bytes', '2000000000'], { ESPALIER_MARK: mark, TMPDIR: folder }, (child, out) => {
      for (const space of living(mark).spaces) spaces.add(space);
      // As Ctrl-C does: the whole group at once. By the second live line traffic flows on all links.
      if (/ MB .* MB /s.test(out)) process.kill(-child.pid!, 'SIGINT');
    });
    expect(code).toBe(130);
    spaces.delete(readlinkSync('/proc/self/ns/net'));
    expect(spaces.size).toBeGreaterThanOrEqual(2);
    expect(living(mark).pids).toEqual([]);
    expect(inhabited(spaces)).toEqual([]);
    expect(devices()).toEqual(before);
    expect(readdirSync(folder).filter((name) => !name.startsWith('without-'))).toEqual([]);
  });

  it.skipIf(why)(`is not replaced by the mock wire on a CI machine that could have it ${reason}`, async () => {
    const { code, out } = await job([], { CI: 'true', PATH: without('unshare') });
    expect(out).toContain('BROKEN: CI=true, and the kernel here could run the real thing');
    expect(code).toBe(1);
  });
});
