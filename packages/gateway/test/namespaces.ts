/** Hosts for tests on real links: network namespaces joined by veth pairs, with a process in each. Root only. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { addonFile } from '../../native/test/isolated.ts';
import { ip } from '../../native/test/veth.ts';

let made = 0;

export class Host {
  readonly name: string;
  readonly #children: ChildProcess[] = [];

  /** Throws where there can be no namespaces. */
  constructor() {
    this.name = `espn${process.pid % 100_000}n${made++}`;
    const { status, stderr } = ip('netns', 'add', this.name);
    if (status !== 0) throw new Error(`no network namespace: ${stderr}`);
    this.run('ip link set lo up');
  }

  /** A shell's output; throws when it fails. */
  run(command: string, timeout = 30_000): string {
    const { status, stdout, stderr } = this.try(command, timeout);
    if (status !== 0) throw new Error(`${command}: ${stderr || stdout}`);
    return stdout;
  }

  try(command: string, timeout = 30_000): { status: number | null; stdout: string; stderr: string } {
    return spawnSync('ip', ['netns', 'exec', this.name, 'bash', '-c', command], { encoding: 'utf8', timeout });
  }

  /** A process that ends with the host; resolves with it once its output has the word. */
  async start(
    file: string,
    args: readonly string[],
    word: string,
  ): Promise<ChildProcess & { readonly said: () => string }> {
    const env = { ...process.env, ESPALIER_ADDON: addonFile };
    const child = spawn('ip', ['netns', 'exec', this.name, process.execPath, file, ...args], { env });
    this.#children.push(child);
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (data) => {
        said += data;
      });
    for (const end = Date.now() + 20_000; !said.includes(word); await new Promise((resolve) => setTimeout(resolve, 20)))
      if (child.exitCode !== null || Date.now() > end) throw new Error(`${file} did not say ${word}: ${said}`);
    return Object.assign(child, { said: () => said });
  }

  async close(): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }
    ip('netns', 'del', this.name);
  }
}

/** Two interfaces of one name, one in each host. Throws. */
export function join(a: Host, b: Host, name: string): void {
  const [end, far] = [`${name}${process.pid % 100_000}x`, `${name}${process.pid % 100_000}y`];
  const { status, stderr } = ip('link', 'add', end, 'type', 'veth', 'peer', 'name', far);
  if (status !== 0) throw new Error(`no veth pair: ${stderr}`);
  for (const [host, link] of [
    [a, end],
    [b, far],
  ] as const) {
    ip('link', 'set', link, 'netns', host.name);
    host.run(
      `ip link set ${link} name ${name}; echo 1 > /proc/sys/net/ipv6/conf/${name}/disable_ipv6; ip link set ${name} up`,
    );
  }
}
