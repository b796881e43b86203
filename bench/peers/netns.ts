/** Two network namespaces joined by a veth pair, as root; all that was started in them ends with them. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from './net.ts';

/** 0 or 1. */
export type Side = 0 | 1;
export const SIDES: readonly Side[] = [0, 1];

/** Address of a side on the cable. */
export const outer = (side: Side): string => `192.0.2.${side + 1}`;
/** Address of a side inside the tunnel. */
export const inner = (side: Side): string => `10.9.0.${side + 1}`;

const TICKS_A_SECOND = 100;

export class Namespaces {
  readonly #names: readonly string[];
  readonly #children: ChildProcess[] = [];
  #ending = false;

  constructor(prefix: string) {
    this.#names = SIDES.map((side) => `${prefix}${side}`);
    const [a, b] = this.#names as [string, string];
    try {
      for (const name of this.#names) run('ip', 'netns', 'add', name);
      run('ip', 'link', 'add', 'eth0', 'netns', a, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', b);
      for (const side of SIDES) {
        this.run(side, 'ip', 'link', 'set', 'lo', 'up');
        this.run(side, 'ip', 'addr', 'add', `${outer(side)}/24`, 'dev', 'eth0');
        this.run(side, 'ip', 'link', 'set', 'eth0', 'up');
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  run(side: Side, ...command: string[]): string {
    return run('ip', 'netns', 'exec', this.#names[side]!, ...command);
  }

  /** Runs until the namespaces close. */
  start(side: Side, command: readonly string[], env: Record<string, string> = {}): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this.#names[side]!, ...command], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (d) => {
        said = (said + d).slice(-4000);
      });
    child.on('close', (code) => {
      if (code && !this.#ending) process.stderr.write(`${command.join(' ')} ended with ${code}: ${said}\n`);
    });
    this.#children.push(child);
    return child;
  }

  /** Waits until `ask` does not throw. */
  async until<T>(ask: () => T, seconds = 10): Promise<T> {
    for (let i = 0; ; i++) {
      try {
        return ask();
      } catch (error) {
        if (i === seconds * 20) throw error;
        await sleep(50);
      }
    }
  }

  /** Ends what runs, politely first, and takes the namespaces away. */
  async end(): Promise<void> {
    this.#ending = true;
    const running = this.#children.filter((c) => c.exitCode === null && c.signalCode === null);
    const ended = Promise.all(running.map((c) => new Promise((resolve) => c.once('close', resolve))));
    for (const child of running) child.kill('SIGTERM');
    await Promise.race([ended, sleep(2000)]);
    for (const child of running) child.kill('SIGKILL');
    this.close();
  }

  close(): void {
    for (const name of this.#names) spawnSync('ip', ['netns', 'del', name]);
  }
}

/** CPU seconds that a process has used so far, user and system. `ip netns exec` becomes the command, so its pid is the command's. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND;
}
