/** What the main job found, as a table, and which of its promises broke. */
import type { GatewayStats } from 'espalier';
import { type JobResult, LEAST_SHARE } from './job.ts';
import { LINKS, PAIRS } from './plans.ts';
import type { Seen } from './stage.ts';

const COLUMNS = [
  'slave',
  'handles',
  'sealed',
  'sent',
  'unsent',
  'clear',
  'opened',
  'no handle',
  'refused',
  'share',
] as const;

function table(side: string, { slaves }: GatewayStats, share: (i: number) => string): string[] {
  const rows = slaves.map((s, i) => [
    s.name,
    ...[s.replicas, s.sealed, s.sent, s.unsent, s.clear, s.opened, s.noHandle, s.refused].map(String),
    share(i),
  ]);
  const widths = COLUMNS.map((title, c) =>
    Math.max(title.length, ...rows.map((row) => row[c]!.length), c === 0 ? 5 : 7),
  );
  const line = (cells: readonly string[]): string =>
    cells.map((cell, c) => (c === 0 ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!))).join('  ');
  return [line([`at ${side}`, ...COLUMNS.slice(1)]), ...rows.map(line)];
}

const dropsOf = ({ drops }: GatewayStats): string =>
  Object.entries(drops)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ') || 'none';

/**
 * ICV too: a copy so late that its number has left the window is taken for one of the next 2^32 under ESN (RFC 4303 A2.2),
 * and found out by its ICV. Nothing else here has a bad one.
 */
function replaysRefused({ sides }: JobResult): number {
  const { REPLAYED = 0, STALE = 0, ICV = 0 } = sides[1].drops;
  return REPLAYED + STALE + ICV;
}

/** The lines between the live line and the verdict. */
export function reportLines(engine: string, traffic: string, result: JobResult): string[] {
  const { bytes, seconds, outcome, before, cut, withdrawn, rekeyed, seen, sides, echoes } = result;
  const total = before.shares.reduce((sum, n) => sum + n, 0);
  const gbit = (rate: number): string => `${((rate * 8) / 1e9).toFixed(3)} Gb/s`;
  const moved = [...seen.moved].sort((x, y) => x - y);
  return [
    `engine ${engine}, ${traffic}: ${(bytes / 1e6).toFixed(1)} MB over ${PAIRS} streams in ${seconds.toFixed(2)} s, ${gbit(bytes / seconds)} (${gbit(before.rate)} before the cut); SHA-256 equal on ${outcome.same} of ${PAIRS}${outcome.error ? ` (${outcome.error})` : ''}`,
    ...(result.extra === null ? [] : [result.extra]),
    ...table('A', sides[0], (i) => `${((100 * before.shares[i]!) / total).toFixed(1)} %`),
    ...table('B', sides[1], () => ''),
    '(share: of the packets before the cut. unsent: sealed, then not taken by a link that went down under them; sealed = sent + unsent. refused: nothing was sealed.)',
    `failover: ${sides[0].slaves[cut]!.name} cut; ${moved.length === 0 ? 'nothing came up elsewhere' : `first packet elsewhere after ${moved[0]!.toFixed(1)} ms, ${moved.length} of its ${seen.cut} SAs by ${moved[moved.length - 1]!.toFixed(1)} ms`}`,
    `replica of ${withdrawn.sa} on ${withdrawn.slave} withdrawn for ${withdrawn.ms.toFixed(0)} ms: ${withdrawn.refused} packets refused with NO_LOWER_HANDLE`,
    `rekey: all ${2 * PAIRS} SAs replaced under traffic: new ones in after ${rekeyed.installed.toFixed(0)} ms, switched ${rekeyed.switched.toFixed(0)} ms later, old ones gone after ${rekeyed.gone.toFixed(0)} ms more; ${rekeyed.packets} packets by the new ones, ${rekeyed.lost} without an SA or a handle meanwhile`,
    `replays: ${seen.replayed} injected, ${replaysRefused(result)} refused`,
    `observer: ${seen.frames} frames, ${seen.esp} ESP, ${seen.plaintext} plaintext, ${seen.marked} with the marker, ${seen.lost} not seen`,
    `ICMP: ${echoes === null ? 'there is no ping here' : `${echoes.answered} of ${echoes.sent} echo replies`}`,
    `drops at A: ${dropsOf(sides[0])}`,
    `drops at B: ${dropsOf(sides[1])}`,
  ];
}

export function selfTestLine(seen: Seen): string {
  return `self-test: lowers made to leak; the observer saw ${seen.plaintext} frames that are not ESP and ${seen.marked} with the marker, of ${seen.frames}`;
}

export function selfTestHolds(seen: Seen): boolean {
  return seen.plaintext > 0 && seen.marked > seen.plaintext;
}

/** Sentences of the promises that broke. */
export function broken(result: JobResult): string[] {
  const { outcome, before, cut, withdrawn, rekeyed, seen, sides, echoes } = result;
  const total = before.shares.reduce((sum, n) => sum + n, 0);
  const slaves = sides.flatMap((side) => side.slaves);
  const promises: [holds: boolean, sentence: string][] = [
    [outcome.same === PAIRS, 'every stream arrives whole'],
    [seen.plaintext === 0 && seen.marked === 0, 'no plaintext on any link'],
    [seen.esp === seen.frames && seen.frames > 0, 'everything on the links is ESP'],
    [seen.lost === 0, 'the observer sees every frame'],
    [seen.replayed > 0, 'frames are replayed'],
    [replaysRefused(result) === seen.replayed, 'replays refused equal those injected'],
    [withdrawn.refused > 0, 'no handle, no packet'],
    [
      slaves.every((s) => s.sealed === s.sent + s.unsent && s.clear === 0),
      'sealed equals sent and unsent, nothing is clear',
    ],
    [slaves.every((s, i) => s.unsent === 0 || i % LINKS === cut), 'only the link that was cut leaves anything unsent'],
    [rekeyed.lost === 0 && rekeyed.packets > 0, 'a rekey under traffic finds an SA and a handle for every packet'],
    [
      sides.every(({ sas }) => sas.length === 2 * PAIRS && sas.every((sa) => sa.name.endsWith('+'))),
      'every SA has been replaced',
    ],
    [slaves.every((s) => s.replicas === 2 * PAIRS), 'every SA has a handle on every slave in the end'],
    [before.shares.every((n) => n >= LEAST_SHARE * total), 'each slave carries at least a tenth before the cut'],
    [seen.cut > 0 && seen.moved.length > 0, 'SAs of the cut link go on elsewhere'],
    [echoes === null || echoes.answered * 2 > echoes.sent, 'echo requests are answered'],
  ];
  return promises.filter(([holds]) => !holds).map(([, sentence]) => sentence);
}
