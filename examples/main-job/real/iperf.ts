/** iperf3 over the tunnel where it is installed: one stream per pair of addresses, so per SA, all at once. */
import type { ChildProcess } from 'node:child_process';
import { inner, PAIRS } from '../plans.ts';
import type { Namespaces } from './namespaces.ts';

const SECONDS = 2;

function output(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    child.stdout?.on('data', (d) => {
      text += d;
    });
    child.on('error', () => resolve(''));
    child.on('close', () => resolve(text));
  });
}

/** A line for the report, or null where there is no iperf3. `children` are ended by their owner if we are not done. */
export async function iperf(spaces: Namespaces, children: ChildProcess[]): Promise<string | null> {
  const start = (side: 0 | 1, args: string[]): ChildProcess => {
    const child = spaces.spawn(side, ['iperf3', ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
    children.push(child);
    return child;
  };
  if ((await output(start(1, ['--version']))) === '') return null;
  const pairs = Array.from({ length: PAIRS }, (_, i) => i);
  const servers = pairs.map((i) => start(1, ['-s', '-1', '-B', inner(1, i), '--idle-timeout', '10', '--forceflush']));
  await Promise.all(
    servers.map((s) => new Promise((resolve) => s.stdout!.once('data', resolve).once('close', resolve))),
  );
  const reports = await Promise.all(
    pairs.map((i) => output(start(0, ['-c', inner(1, i), '-B', inner(0, i), '-t', String(SECONDS), '-J']))),
  );
  for (const server of servers) server.kill('SIGKILL');
  let bits = 0;
  for (const report of reports) {
    try {
      bits += (JSON.parse(report) as { end: { sum_received: { bits_per_second: number } } }).end.sum_received
        .bits_per_second;
    } catch {
      return 'iperf3: a stream did not end as it should';
    }
  }
  return `iperf3: ${(bits / 1e9).toFixed(3)} Gb/s over ${PAIRS} streams in ${SECONDS} s, undisturbed`;
}
