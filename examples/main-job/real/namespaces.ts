/** Two network namespaces by pid, as root or inside a user namespace of our own, and veth links between them. */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Side } from '../stage.ts';

const ROOT = process.getuid?.() === 0;
/** Flags of `unshare` for a namespace that is ours. */
export const UNSHARE: readonly string[] = ROOT ? ['-n'] : ['-Urn'];

/**
 * What keeps a stream from filling a receive ring of 4096 frames when the machine is busy: half a MiB under way at most.
 * IPv6 is off so that nothing but what we send is ever on the links.
 */
const SETTINGS = [
  'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6',
  'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6',
  'echo "4096 131072 524288" > /proc/sys/net/ipv4/tcp_rmem',
  'echo "4096 131072 524288" > /proc/sys/net/ipv4/tcp_wmem',
  'ip link set lo up',
].join('; ');

export class Namespaces {
  readonly #holders: ChildProcess[] = [];

  /** Each lives as long as a `cat` on a pipe of ours: whatever becomes of us, it goes too. */
  static async create(): Promise<Namespaces> {
    const spaces = new Namespaces();
    try {
      await spaces.#hold('unshare', [...UNSHARE, 'cat']);
      const inside = ROOT ? [] : ['nsenter', '-t', String(spaces.pid(0)), '-U', '--preserve-credentials'];
      const [command, ...rest] = [...inside, 'unshare', '-n', 'cat'];
      await spaces.#hold(command!, rest);
      return spaces;
    } catch (error) {
      spaces.close();
      throw error;
    }
  }

  async #hold(command: string, args: readonly string[]): Promise<void> {
    const holder = spawn(command, args, { stdio: ['pipe', 'ignore', 'inherit'], detached: true });
    this.#holders.push(holder);
    // It has become `cat` when it is inside.
    for (let i = 0; i < 500 && holder.exitCode === null; i++) {
      try {
        if (readFileSync(`/proc/${holder.pid}/comm`, 'utf8').trim() === 'cat') return;
      } catch {
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error('a namespace could not be made');
  }

  pid(side: Side): number {
    return this.#holders[side]!.pid!;
  }

  /** The command line that runs something inside. */
  wrap(side: Side, command: readonly string[]): [string, string[]] {
    const user = ROOT ? [] : ['-U', '--preserve-credentials'];
    return ['nsenter', ['-t', String(this.pid(side)), ...user, '-n', ...command]];
  }

  /** In a process group of its own: Ctrl-C is ours to pass on. */
  spawn(side: Side, command: readonly string[], options: SpawnOptions): ChildProcess {
    const [program, args] = this.wrap(side, command);
    return spawn(program, args, { ...options, detached: true });
  }

  /** Runs to the end; throws with what it said. */
  run(side: Side, ...command: string[]): string {
    const [program, args] = this.wrap(side, command);
    const result = spawnSync(program, args, { encoding: 'utf8' });
    if (result.status !== 0) throw new Error(`${command.join(' ')}: ${(result.stderr || String(result.error)).trim()}`);
    return result.stdout;
  }

  /** `a0`-`b0` and so on. */
  link(count: number): void {
    for (const side of [0, 1] as const) this.run(side, 'sh', '-c', SETTINGS);
    const links = Array.from({ length: count }, (_, i) => i);
    const make = (i: number): string => `ip link add a${i} type veth peer name b${i} netns ${this.pid(1)}`;
    const up = (name: string): string => `ip link set ${name} arp off up`;
    this.run(0, 'sh', '-ec', links.map((i) => `${make(i)}; ${up(`a${i}`)}`).join('; '));
    this.run(1, 'sh', '-ec', links.map((i) => up(`b${i}`)).join('; '));
  }

  close(): void {
    for (const holder of this.#holders) holder.stdin?.end();
  }
}
