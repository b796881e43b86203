/** Two network namespaces by pid, as root or inside a user namespace of our own, and four veth links between them. */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';

const ROOT = process.getuid?.() === 0;

/** Why the real thing cannot run here, or null. */
export function obstacle(): { reason: string; mend: string } | null {
  if (process.platform !== 'linux')
    return { reason: `namespaces need Linux, this is ${process.platform}`, mend: 'run on Linux' };
  for (const [tool, pack] of [
    ['unshare', 'util-linux'],
    ['nsenter', 'util-linux'],
    ['ip', 'iproute2'],
    ['cc', 'gcc libc6-dev'],
  ] as const)
    if (spawnSync(tool, ['--version']).error && spawnSync(tool, ['-V']).error)
      return { reason: `there is no "${tool}"`, mend: `apt-get install ${pack}` };
  const probe = spawnSync(
    'unshare',
    [...(ROOT ? ['-n'] : ['-Urn']), 'ip', 'link', 'add', 'v0', 'type', 'veth', 'peer', 'name', 'v1'],
    { encoding: 'utf8' },
  );
  if (probe.status !== 0)
    return {
      reason: `no network namespace with veth here: ${probe.stderr.trim()}`,
      mend: 'run as root, or allow user namespaces',
    };
  return null;
}

export class Namespaces {
  readonly #holders: ChildProcess[] = [];
  readonly #pids: [number, number];

  private constructor(holders: ChildProcess[]) {
    this.#holders = holders;
    this.#pids = [holders[0]!.pid!, holders[1]!.pid!];
  }

  /** Each lives as long as a `cat` on a pipe of ours: whatever becomes of us, it goes too. */
  static async create(): Promise<Namespaces> {
    const a = spawn('unshare', [...(ROOT ? ['-n'] : ['-Urn']), 'cat'], {
      stdio: ['pipe', 'ignore', 'inherit'],
      detached: true,
    });
    await entered(a.pid!);
    const inside = ROOT ? [] : ['nsenter', '-t', String(a.pid), '-U', '--preserve-credentials'];
    const [command, ...rest] = [...inside, 'unshare', '-n', 'cat'];
    const b = spawn(command!, rest, { stdio: ['pipe', 'ignore', 'inherit'], detached: true });
    await entered(b.pid!);
    return new Namespaces([a, b]);
  }

  pid(side: 0 | 1): number {
    return this.#pids[side];
  }

  /** The command line that runs something inside. */
  wrap(side: 0 | 1, command: readonly string[]): [string, string[]] {
    const user = ROOT ? [] : ['-U', '--preserve-credentials'];
    return ['nsenter', ['-t', String(this.#pids[side]), ...user, '-n', ...command]];
  }

  spawn(side: 0 | 1, command: readonly string[], options: SpawnOptions): ChildProcess {
    const [program, args] = this.wrap(side, command);
    return spawn(program, args, { ...options, detached: true });
  }

  /** Runs to the end; throws with what it said. */
  run(side: 0 | 1, ...command: string[]): string {
    const [program, args] = this.wrap(side, command);
    const result = spawnSync(program, args, { encoding: 'utf8' });
    if (result.status !== 0) throw new Error(`${command.join(' ')}: ${(result.stderr || String(result.error)).trim()}`);
    return result.stdout;
  }

  /** `a0`-`b0` and so on; nothing but what we send is ever on them. */
  link(count: number): void {
    for (const side of [0, 1] as const) {
      this.run(
        side,
        'sh',
        '-c',
        'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6',
      );
      this.run(side, 'ip', 'link', 'set', 'lo', 'up');
    }
    for (let i = 0; i < count; i++) {
      this.run(
        0,
        'ip',
        'link',
        'add',
        `a${i}`,
        'type',
        'veth',
        'peer',
        'name',
        `b${i}`,
        'netns',
        String(this.#pids[1]),
      );
      this.run(0, 'ip', 'link', 'set', `a${i}`, 'arp', 'off', 'up');
      this.run(1, 'ip', 'link', 'set', `b${i}`, 'arp', 'off', 'up');
    }
  }

  close(): void {
    for (const holder of this.#holders) holder.stdin?.end();
  }
}

/** Waits until a holder has become `cat`, that is, is inside its namespaces. */
async function entered(pid: number): Promise<void> {
  const { readFileSync } = await import('node:fs');
  for (let i = 0; i < 200; i++) {
    try {
      if (readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'cat') return;
    } catch {
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('a namespace could not be made');
}
