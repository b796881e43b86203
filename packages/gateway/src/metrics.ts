/** Counters for a collector: OpenMetrics 1.0 text, and a server for it on the loopback interface. */
import { createServer } from 'node:http';
import { XfrmError } from '@espalier/xfrm';
import type { GatewayStats, SaStats, SlaveStats } from './stats.ts';

const CONTENT_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8';
const LOOPBACK = '127.0.0.1';

type Labels = Readonly<Record<string, string>>;
type Sample = readonly [labels: Labels, value: number];
type Type = 'counter' | 'gauge';

const SLAVES: readonly [name: string, type: Type, help: string, of: (s: SlaveStats) => number][] = [
  ['slave_usable', 'gauge', 'Whether the slave carries traffic.', (s) => Number(s.usable)],
  ['slave_handles', 'gauge', 'SAs that have a handle on the slave.', (s) => s.replicas],
  ['slave_sent_packets', 'counter', 'Frames sent.', (s) => s.sent],
  ['slave_received_packets', 'counter', 'Frames received.', (s) => s.received],
  ['slave_sealed_packets', 'counter', 'Packets sealed under a handle of the slave.', (s) => s.sealed],
  ['slave_opened_packets', 'counter', 'Packets opened under a handle of the slave.', (s) => s.opened],
  ['slave_clear_packets', 'counter', 'Packets sent unsealed, by policy or as keepalives.', (s) => s.clear],
  ['slave_no_handle_packets', 'counter', 'Packets refused for want of a handle.', (s) => s.noHandle],
  ['slave_refused_packets', 'counter', 'Packets refused for another reason.', (s) => s.refused],
  ['slave_unsent_packets', 'counter', 'Packets sealed and then not taken.', (s) => s.unsent],
  ['slave_overrun_packets', 'counter', 'Frames lost before they were read.', (s) => s.overrun],
];

const SAS: readonly [name: string, type: Type, help: string, of: (s: SaStats) => number | undefined][] = [
  ['sa_packets', 'counter', 'Inner packets that went through.', (s) => s.packets],
  ['sa_bytes', 'counter', 'Bytes of them.', (s) => s.bytes],
  ['sa_software_packets', 'counter', 'Of them sealed or opened by no handle.', (s) => s.software],
  ['sa_age_seconds', 'gauge', 'Time since the SA was installed.', (s) => s.age],
  ['sa_packets_left', 'gauge', 'Packets until the hard limit.', (s) => s.left.packets],
  ['sa_bytes_left', 'gauge', 'Bytes until the hard limit.', (s) => s.left.bytes],
  ['sa_seconds_left', 'gauge', 'Seconds until the hard limit.', (s) => s.left.seconds],
  ['sa_numbers_left', 'gauge', 'Sequence numbers until the last.', (s) => s.numbers?.left],
  ['sa_path_mtu_bytes', 'gauge', 'Path MTU that ICMP has told of; 0 = none.', (s) => s.pathMtu],
  ['sa_window_lost_packets', 'counter', 'Numbers that left the replay window unseen.', (s) => s.window?.lost],
  ['sa_window_lateness', 'gauge', 'How far behind the newest an accepted number has been.', (s) => s.window?.lateness],
];

/** One scrape: `espalier_` metrics of a gateway. */
export function openMetrics(stats: GatewayStats): string {
  const lines: string[] = [];
  const family = (name: string, type: Type, help: string, samples: readonly Sample[]): void => {
    if (samples.length === 0) return;
    lines.push(`# TYPE espalier_${name} ${type}`, `# HELP espalier_${name} ${help}`);
    const suffix = type === 'counter' ? '_total' : '';
    for (const [labels, value] of samples) lines.push(`espalier_${name}${suffix}${textOf(labels)} ${value}`);
  };
  for (const [name, type, help, of] of SLAVES)
    family(
      name,
      type,
      help,
      stats.slaves.map((s) => [{ slave: s.name }, of(s)]),
    );
  for (const [name, type, help, of] of SAS)
    family(
      name,
      type,
      help,
      stats.sas.flatMap((s) => (of(s) === undefined ? [] : [[labelsOf(s), of(s)!] as const])),
    );
  const handles = stats.sas.flatMap((s) => s.handles.map((slave) => [{ ...labelsOf(s), slave }, 1] as const));
  family('sa_handle', 'gauge', 'That the SA has a handle on the slave.', handles);
  const ofSas = stats.sas.flatMap((s) =>
    Object.entries(s.drops).map(([reason, n]) => [{ ...labelsOf(s), reason }, n] as const),
  );
  family('sa_dropped_packets', 'counter', 'Packets of the SA that ended, by reason.', ofSas);
  const drops = Object.entries(stats.drops).map(([reason, n]) => [{ reason }, n] as const);
  family('dropped_packets', 'counter', 'Packets that ended, by reason.', drops);
  family('too_big_answers', 'counter', 'ICMP answers to packets too big.', [[{}, stats.answers]]);
  family('dummy_packets', 'counter', 'Dummy packets sent.', [[{}, stats.dummies]]);
  family('keepalive_packets', 'counter', 'NAT keepalives sent.', [[{}, stats.keepalives]]);
  family('audit_suppressed_events', 'counter', 'Auditable drops not told of.', [[{}, stats.suppressed]]);
  return `${lines.join('\n')}\n# EOF\n`;
}

function labelsOf({ name, direction, spi }: SaStats): Labels {
  return { sa: name, direction, spi: `0x${spi.toString(16).padStart(8, '0')}` };
}

function textOf(labels: Labels): string {
  const all = Object.entries(labels).map(([name, value]) => `${name}="${value.replace(/[\\"\n]/g, escapeOf)}"`);
  return all.length === 0 ? '' : `{${all.join(',')}}`;
}

const escapeOf = (c: string): string => (c === '\n' ? '\\n' : `\\${c}`);

export interface MetricsServer {
  /** The one it listens on. */
  readonly port: number;
  close(): void;
}

/** Answers GET /metrics on 127.0.0.1, to nobody but this machine. Rejects with XfrmError SYSTEM when the port is taken. 0 = any port. */
export function serveMetrics(port: number, stats: () => GatewayStats): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    if (request.url !== '/metrics') response.writeHead(404).end();
    else if (request.method !== 'GET') response.writeHead(405, { allow: 'GET' }).end();
    else response.writeHead(200, { 'content-type': CONTENT_TYPE }).end(openMetrics(stats()));
  });
  return new Promise((resolve, reject) => {
    server.once('error', ({ code = 'an error' }: NodeJS.ErrnoException) =>
      reject(new XfrmError({ code: 'SYSTEM', call: 'listen', errno: code, what: `metrics on ${LOOPBACK}:${port}` })),
    );
    server.listen(port, LOOPBACK, () => {
      server.unref();
      const { port: found } = server.address() as { port: number };
      resolve({
        port: found,
        close: () => {
          server.close();
          server.closeAllConnections();
        },
      });
    });
  });
}
