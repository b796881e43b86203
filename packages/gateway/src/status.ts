/** A gateway in words, for a person at a terminal. */
import type { GatewayPlan } from './plan.ts';
import type { GatewayStats, SaStats } from './stats.ts';

/** What a plan is, in a line. */
export function summary({ workers, engine, bond, inside, sas, policies }: GatewayPlan): string {
  const lowers = bond.lowers.map((l) => l.name).join(', ');
  return `${inside.name} over ${bond.name} (${bond.mode}, ${bond.policy}; ${lowers}), ${sas.length} SAs, ${policies.length} policies, ${workers} workers, engine ${engine}`;
}

/** Counters in a line. */
export function counters({ slaves, drops }: GatewayStats): string {
  const each = slaves.map((s) => `${s.name}${s.usable ? '' : ' (not usable)'} sent ${s.sent} received ${s.received}`);
  return `${each.join(', ')}; drops: ${list(drops)}`;
}

/** Everything: a line per slave, a line per SA, then the drops and what the gateway sent of itself. */
export function status(stats: GatewayStats): string {
  const slaves = stats.slaves.map(
    (s) =>
      `slave ${s.name}: ${s.usable ? 'usable' : `not usable${s.keptOut === null ? '' : ` (${s.keptOut})`}`}, ${s.replicas} handles, sent ${s.sent}, received ${s.received}, sealed ${s.sealed}, opened ${s.opened}, no handle ${s.noHandle}, refused ${s.refused}, unsent ${s.unsent}, overrun ${s.overrun}`,
  );
  const { answers, dummies, keepalives, suppressed } = stats;
  return [
    ...slaves,
    ...stats.sas.map(saLine),
    `drops: ${list(stats.drops)}`,
    `sent: ${answers} too-big answers, ${dummies} dummies, ${keepalives} keepalives; ${suppressed} audit events suppressed`,
  ].join('\n');
}

function saLine(sa: SaStats): string {
  const { packets, bytes, seconds } = sa.left;
  const left = [
    ...(packets === undefined ? [] : [`${packets} packets`]),
    ...(bytes === undefined ? [] : [`${bytes} bytes`]),
    ...(seconds === undefined ? [] : [`${Math.floor(seconds)} s`]),
  ];
  const parts = [
    `${sa.packets} packets, ${sa.bytes} bytes, ${sa.software} in software`,
    `handles on ${sa.handles.join(', ') || 'none'}`,
    ...(sa.numbers === undefined ? [] : [`next number ${sa.numbers.next}`]),
    ...(sa.pathMtu ? [`path MTU ${sa.pathMtu}`] : []),
    ...(sa.window === undefined
      ? []
      : [`window to ${sa.window.top}, ${sa.window.lost} lost, ${sa.window.lateness} late of ${sa.window.size}`]),
    `${Math.floor(sa.age)} s old`,
    ...(left.length === 0 ? [] : [`left: ${left.join(', ')}`]),
    `drops: ${list(sa.drops)}`,
  ];
  return `SA ${sa.name} ${sa.direction} 0x${sa.spi.toString(16).padStart(8, '0')}: ${parts.join('; ')}`;
}

function list(drops: Readonly<Record<string, number>>): string {
  const all = Object.entries(drops).map(([name, count]) => `${name} ${count}`);
  return all.join(', ') || 'none';
}
