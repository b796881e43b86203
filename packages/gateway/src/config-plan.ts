/** From a file's values to a plan: what no single value shows, since it takes several, or other files. */
import { dirname, resolve } from 'node:path';
import { demandReorderBudget, replicates } from '@espalier/bond';
import { UDP_HEADER_LENGTH } from '@espalier/wire';
import { ALGORITHMS, type AlgorithmName, conceal, keyParts } from '@espalier/xfrm';
import { fault, read } from './config-fault.ts';
import type { Parsed, ParsedSa } from './config-schema.ts';
import { hexOf } from './config-values.ts';
import { BATCH } from './datapath.ts';
import type { GatewayPlan, LowerPlan, PolicyPlan, SaPlan } from './plan.ts';

/** Packets of a NIC's queue that the peer's kernel takes at once (its NAPI weight). */
const RECEIVE_BATCH = 64;

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

/** Slaves have one link type; the kernel knows the peer's link address, of a wire in memory nobody does. */
function demandLowers({ bond }: Parsed, file: string): void {
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

function saOf(one: ParsedSa, i: number, parsed: Parsed, file: string): SaPlan {
  const { bond, inside } = parsed;
  const at = `sas[${i}]`;
  const { keyLength, saltLength, ivLength, icvLength, blockLength } = ALGORITHMS[one.algorithm];
  if (one.source.length !== one.destination.length)
    throw fault(file, `${at}.destination`, 'an address of the same family as the source');
  const key = keyOf(one.key, `${at}.key`, file);
  if (key.length !== keyLength)
    throw fault(
      file,
      `${at}.key`,
      `${keyLength} bytes for ${one.algorithm} (${keyLength - saltLength} of key, ${saltLength} of salt)`,
      `${key.length} bytes`,
    );
  demandKey(one.algorithm, key, `${at}.key`, file);
  if (one.offload === 'crypto' && bond.mode !== 'active-backup' && !replicates(bond.mode, bond.xmitHashPolicy))
    throw fault(file, `${at}.offload`, `none: ${bond.mode} replicates SAs with layer3+4 only`, 'crypto');
  if (one.direction === 'out' && one.selectors !== undefined)
    throw fault(file, `${at}.selectors`, 'nothing: policies choose what goes out');
  if (one.direction === 'in' && one.spread !== undefined)
    throw fault(file, `${at}.spread`, 'nothing: the peer shares out what comes in', one.spread);
  demandOutbound(one, at, parsed, file);
  if (one.spread === 'inner' || one.spread === 'spray') demandSpread(one, at, parsed, file);
  // The longest inner packet: padded with its two bytes of trailer to whole blocks (RFC 4303 2.4).
  const padded = Math.ceil((inside.mtu + 2) / blockLength) * blockLength;
  const udp = bond.lowers[0]!.kind === 'udp' || one.encap !== undefined ? UDP_HEADER_LENGTH : 0;
  const outer = (one.source.length === 4 ? 20 : 40) + udp + 8 + ivLength + padded + icvLength;
  if (one.direction === 'out' && outer > bond.mtu)
    throw fault(
      file,
      'inside.mtu',
      `at most ${inside.mtu - (outer - bond.mtu)} with ${at} and bond.mtu ${bond.mtu}`,
      String(inside.mtu),
    );
  demandLifetime(one, at, file);
  const { selectors, key: _, peer: __, spread, lifetime, replaces, ...rest } = one;
  return {
    ...rest,
    key,
    ...(spread === undefined ? {} : { spread }),
    ...(lifetime === undefined ? {} : { lifetime }),
    ...(replaces === undefined ? {} : { replaces }),
    ...(selectors === undefined
      ? {}
      : {
          selectors: selectors.map((s) => ({
            source: s.source.address,
            sourceBits: s.source.bits,
            destination: s.destination.address,
            destinationBits: s.destination.bits,
          })),
        }),
  };
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

/** A soft limit behind its hard one would never be told. */
function demandLifetime({ lifetime }: ParsedSa, at: string, file: string): void {
  for (const unit of ['Packets', 'Bytes', 'Seconds'] as const) {
    const { [`soft${unit}` as const]: soft, [`hard${unit}` as const]: hard } = lifetime ?? {};
    if (soft !== undefined && hard !== undefined && soft > hard)
      throw fault(file, `${at}.lifetime.soft${unit}`, `at most hard${unit}, ${hard}`, String(soft));
  }
}

/** What only an outbound SA can say, and what needs UDP around it. */
function demandOutbound(one: ParsedSa, at: string, { bond }: Parsed, file: string): void {
  if (one.direction === 'in') {
    for (const what of ['tfc', 'dummies', 'keepaliveSeconds'] as const)
      if (one[what] !== undefined) throw fault(file, `${at}.${what}`, 'nothing: the SA is inbound', 'a value');
    if (one.mss === 'mtu') throw fault(file, `${at}.mss`, 'bytes: an inbound SA has no MTU', 'mtu');
  }
  if (one.encap !== undefined && bond.lowers[0]!.kind === 'udp')
    throw fault(file, `${at}.encap`, 'nothing: the lowers are UDP sockets', 'a value');
  if (one.keepaliveSeconds !== undefined && one.encap === undefined)
    throw fault(file, `${at}.keepaliveSeconds`, 'nothing without encap', String(one.keepaliveSeconds));
}

/** One SA over several links: by layer3+4 only, and only as far as the peer's window goes. */
function demandSpread(one: ParsedSa, at: string, { bond, workers }: Parsed, file: string): void {
  const spread = one.spread!;
  if (bond.xmitHashPolicy !== 'layer3+4') throw fault(file, `${at}.spread`, 'sa, or xmitHashPolicy layer3+4', spread);
  if (one.peer === undefined) throw fault(file, `${at}.peer`, `window, rate and skewMs, since spread is ${spread}`);
  const { window, rate, skewMs } = one.peer;
  const facts = { spread, rate, skew: skewMs / 1000, workers, block: BATCH, batch: RECEIVE_BATCH };
  demandReorderBudget(facts, window, `${at}.spread`, file);
}

function keyOf(key: ParsedSa['key'], path: string, file: string): Uint8Array {
  if (key instanceof Uint8Array) return conceal(key, '[key]');
  const text = read(resolve(dirname(file), key.file), file, `${path}.file`, 'a readable file').trim();
  const bytes = hexOf(text);
  if (bytes === null)
    throw fault(file, `${path}.file`, 'a file of hexadecimal digits', `text of ${text.length} characters`);
  return conceal(bytes, '[key]');
}

/** A key that somebody forgot to draw, or to draw twice. */
function demandKey(algorithm: AlgorithmName, key: Uint8Array, path: string, file: string): void {
  const { cipher, integrity } = keyParts(algorithm, key);
  for (const part of [cipher, integrity])
    if (part.length > 0 && part.every((byte) => byte === 0)) throw fault(file, path, 'random bytes', 'zeros');
  const common = Math.min(cipher.length, integrity.length);
  if (common > 0 && cipher.subarray(0, common).every((byte, i) => byte === integrity[i]))
    throw fault(file, path, 'an integrity key of its own', 'that of the cipher');
}

function policyOf(one: Parsed['policies'][number], i: number, sas: readonly SaPlan[], file: string): PolicyPlan {
  const at = `policies[${i}]`;
  if (one.source.address.length !== one.destination.address.length)
    throw fault(file, `${at}.destination`, 'a prefix of the same family as the source');
  const outbound = sas.filter((s) => s.direction === 'out').map((s) => s.name);
  if (one.action === 'protect' && !outbound.includes(one.sa ?? ''))
    throw fault(
      file,
      `${at}.sa`,
      `one of the outbound SAs: ${outbound.join(', ') || 'there is none'}`,
      one.sa ?? 'nothing',
    );
  if (one.action !== 'protect' && one.sa !== undefined)
    throw fault(file, `${at}.sa`, `nothing: the action is ${one.action}`, one.sa);
  return {
    source: one.source.address,
    sourceBits: one.source.bits,
    destination: one.destination.address,
    destinationBits: one.destination.bits,
    protocol: one.protocol,
    action: one.action,
    sa: one.sa ?? null,
  };
}

function hexText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
