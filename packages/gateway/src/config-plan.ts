/** From a file's values to a plan: what no single value shows, since it takes several, or other files. */
import { dirname, resolve } from 'node:path';
import { fault } from './config-fault.ts';
import { saOf, selectorOf } from './config-sa.ts';
import type { Parsed } from './config-schema.ts';
import type { GatewayPlan, LowerPlan, PolicyPlan, SaPlan } from './plan.ts';

/** Throws XfrmError CONFIG. `file` is for messages, and key files are relative to it. */
export function planOf(parsed: Parsed, file: string): GatewayPlan {
  const { bond, inside, rekey, audit, state, metrics } = parsed;
  distinct(file, 'bond.lowers', bond.lowers, (one) => one.name, 'name');
  demandLowers(parsed, file);
  distinct(file, 'sas', parsed.sas, (one) => one.name, 'name');
  distinct(file, 'sas', parsed.sas, (one) => `${one.direction} ${one.spi} ${one.destination}`, 'spi');
  const sas = parsed.sas.map((one, i) => saOf(one, i, parsed, file));
  // Two senders under one key would use the same numbers, and with them the same nonces.
  distinct(file, 'sas', sas, (one) => hexText(one.key), 'key');
  demandSuccessors(sas, file);
  return {
    workers: parsed.workers,
    engine: parsed.engine,
    bond: {
      name: bond.name,
      mode: bond.mode,
      policy: bond.xmitHashPolicy,
      resilient: bond.resilient,
      upDelay: bond.upDelay,
      downDelay: bond.downDelay,
      ...(bond.adSelect === undefined ? {} : { adSelect: bond.adSelect }),
      ...(bond.joinRefused === undefined ? {} : { joinRefused: bond.joinRefused }),
      ...(bond.mac === undefined ? {} : { mac: bond.mac }),
      ...(bond.peerMac === undefined ? {} : { peerMac: bond.peerMac }),
      lowers: bond.lowers as LowerPlan[],
      mtu: bond.mtu,
    },
    inside: {
      kind: inside.kind,
      name: inside.name,
      mtu: inside.mtu,
      addresses: inside.address === undefined ? [] : [inside.address],
      ...(inside.tooBig === undefined ? {} : { tooBig: inside.tooBig }),
    },
    sas,
    policies: parsed.policies.map((one, i) => policyOf(one, i, sas, file)),
    ...(state === undefined ? {} : { state: { ...state, file: resolve(dirname(file), state.file) } }),
    ...(metrics === undefined ? {} : { metricsPort: metrics.port }),
    ...(audit === undefined ? {} : { audit }),
    ...(rekey === undefined
      ? {}
      : { rekey: { switchAfterMs: rekey.switchAfter * 1000, overlapMs: rekey.overlap * 1000 } }),
  };
}

/** Slaves have one link type, and an aggregator in 802.3ad alone; the kernel knows the peer's link address, of a wire in memory nobody does. */
function demandLowers({ bond }: Parsed, file: string): void {
  if (bond.adSelect !== undefined && bond.mode !== '802.3ad')
    throw fault(file, 'bond.adSelect', `nothing: ${bond.mode} has no aggregators`, bond.adSelect);
  const sockets = bond.lowers.filter((one) => one.kind === 'udp');
  if (sockets.length === 0) {
    if (bond.peerMac === undefined && bond.lowers.some((one) => one.kind === 'mock'))
      throw fault(file, 'bond.peerMac', 'a link address such as 02:00:5e:00:53:01', 'nothing');
    return;
  }
  if (sockets.length < bond.lowers.length) throw fault(file, 'bond.lowers', 'udp lowers, or none of them udp', 'both');
  for (const [i, { local, peer }] of sockets.entries())
    if (local.length !== peer.length)
      throw fault(file, `bond.lowers[${i}].peer`, "an address of the local one's family");
}

function distinct<T>(
  file: string,
  path: string,
  list: readonly T[],
  of: (one: T) => string | null,
  field: string,
): void {
  const seen = new Map<string | null, number>();
  for (const [i, one] of list.entries()) {
    const first = seen.get(of(one));
    if (first !== undefined && of(one) !== null)
      throw fault(file, `${path}[${i}].${field}`, 'one of its own', `that of ${path}[${first}]`);
    seen.set(of(one), i);
  }
}

/** An SA in a file may be one that is gone by now; if it is there, it has the same direction. */
function demandSuccessors(sas: readonly SaPlan[], file: string): void {
  for (const [i, { name, direction, replaces }] of sas.entries()) {
    const old = sas.find((one) => one.name === replaces);
    if (replaces === name || (old !== undefined && old.direction !== direction))
      throw fault(file, `sas[${i}].replaces`, `another SA of direction ${direction}`, replaces);
  }
  distinct(file, 'sas', sas, (one) => one.replaces ?? null, 'replaces');
}

function policyOf(one: Parsed['policies'][number], i: number, sas: readonly SaPlan[], file: string): PolicyPlan {
  const at = `policies[${i}]`;
  const { action, sa: name } = one;
  const matched = selectorOf(one, at, file);
  const sa = sas.find((s) => s.direction === 'out' && s.name === name);
  const outbound = sas.filter((s) => s.direction === 'out').map((s) => s.name);
  if (action === 'protect' && sa === undefined)
    throw fault(
      file,
      `${at}.sa`,
      `one of the outbound SAs: ${outbound.join(', ') || 'there is none'}`,
      name ?? 'nothing',
    );
  if (action !== 'protect' && name !== undefined)
    throw fault(file, `${at}.sa`, `nothing: the action is ${action}`, name);
  if (sa?.mode === 'transport') demandHost(matched, sa, at, file);
  return { ...matched, action, sa: name ?? null };
}

/** What goes by a transport mode SA keeps its addresses, and the peer finds the SA by them. */
function demandHost(matched: Omit<PolicyPlan, 'sa' | 'action'>, sa: SaPlan, at: string, file: string): void {
  for (const end of ['source', 'destination'] as const)
    if (matched[`${end}Bits`] < sa[end].length * 8 || hexText(matched[end]) !== hexText(sa[end]))
      throw fault(file, `${at}.${end}`, `the ${end} of SA "${sa.name}" itself: its mode is transport`);
}

function hexText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
