/** One SA of a config file: what no single value of it shows, since it takes several, the lowers, or a key file. */
import { dirname, resolve } from 'node:path';
import { demandReorderBudget, replicates } from '@espalier/bond';
import type { OuterOptions, SelectorTicket } from '@espalier/esp';
import {
  ESP_HEADER_LENGTH,
  ESP_TRAILER_LENGTH,
  ESP_UDP_PORT,
  IPV4_HEADER_LENGTH,
  IPV6_HEADER_LENGTH,
  UDP_HEADER_LENGTH,
} from '@espalier/wire';
import { ALGORITHMS, type AlgorithmName, conceal, keyParts } from '@espalier/xfrm';
import { fault, read } from './config-fault.ts';
import type { Parsed, ParsedSa, ParsedSelector } from './config-schema.ts';
import { hexOf } from './config-values.ts';
import { BATCH } from './datapath.ts';
import type { SaPlan } from './plan.ts';

/** Packets of a NIC's queue that the peer's kernel takes at once (its NAPI weight). */
const RECEIVE_BATCH = 64;
/** What an outbound SA alone can say. */
const OUTBOUND = ['outer', 'tfc', 'dummies', 'keepaliveSeconds'] as const;
/** What an inbound SA alone can say, and who says it outbound. */
const INBOUND = {
  selectors: 'policies choose what goes out',
  original: 'the peer mends what a NAT has changed',
  checkPadding: 'the SA is outbound',
} as const;

/** Throws XfrmError CONFIG. */
export function saOf(one: ParsedSa, i: number, parsed: Parsed, file: string): SaPlan {
  const { bond } = parsed;
  const at = `sas[${i}]`;
  if (one.source.length !== one.destination.length)
    throw fault(file, `${at}.destination`, 'an address of the same family as the source');
  const key = keyOf(one, `${at}.key`, file);
  if (one.offload === 'crypto' && bond.mode !== 'active-backup' && !replicates(bond.mode, bond.xmitHashPolicy))
    throw fault(file, `${at}.offload`, `none: ${bond.mode} replicates SAs with layer3+4 only`, 'crypto');
  demandDirection(one, at, file);
  demandMode(one, at, parsed, file);
  demandEncap(one, at, parsed, file);
  if (one.direction === 'in') demandWindow(one, at, parsed, file);
  if (one.spread === 'inner' || one.spread === 'spray') demandSpread(one, at, parsed, file);
  if (one.direction === 'out') demandFit(one, at, parsed, file);
  demandLifetime(one, at, file);
  const { selectors, key: _, peer: __, encap, outer, ...rest } = one;
  return {
    ...rest,
    key,
    ...(encap === undefined ? {} : encapOf(encap)),
    ...(outer === undefined ? {} : { outer: outerOf(outer) }),
    ...(selectors === undefined
      ? {}
      : { selectors: selectors.map((s, k) => selectorOf(s, `${at}.selectors[${k}]`, file)) }),
  };
}

/** What a policy or a selector matches. Throws XfrmError CONFIG. */
export function selectorOf(
  one: ParsedSelector,
  at: string,
  file: string,
): SelectorTicket & { protocol: number | null } {
  const { source, destination, protocol, sourcePorts, destinationPorts } = one;
  if (source.address.length !== destination.address.length)
    throw fault(file, `${at}.destination`, 'a prefix of the same family as the source');
  return {
    source: source.address,
    sourceBits: source.bits,
    destination: destination.address,
    destinationBits: destination.bits,
    protocol,
    ...(sourcePorts === undefined ? {} : { sourcePorts }),
    ...(destinationPorts === undefined ? {} : { destinationPorts }),
  };
}

/** A soft limit behind its hard one would never be told. */
function demandLifetime({ lifetime }: ParsedSa, at: string, file: string): void {
  for (const unit of ['Packets', 'Bytes', 'Seconds'] as const) {
    const { [`soft${unit}` as const]: soft, [`hard${unit}` as const]: hard } = lifetime ?? {};
    if (soft !== undefined && hard !== undefined && soft > hard)
      throw fault(file, `${at}.lifetime.soft${unit}`, `at most hard${unit}, ${hard}`, String(soft));
  }
}

function demandDirection(one: ParsedSa, at: string, file: string): void {
  if (one.direction === 'out') {
    for (const [what, why] of Object.entries(INBOUND))
      if (one[what as keyof typeof INBOUND] !== undefined) throw fault(file, `${at}.${what}`, `nothing: ${why}`);
    return;
  }
  for (const what of OUTBOUND)
    if (one[what] !== undefined) throw fault(file, `${at}.${what}`, 'nothing: the SA is inbound', 'a value');
  if (one.spread !== undefined)
    throw fault(file, `${at}.spread`, 'nothing: the peer shares out what comes in', one.spread);
  if (one.mss === 'mtu') throw fault(file, `${at}.mss`, 'bytes: an inbound SA has no MTU', 'mtu');
}

/** In transport mode packets keep their headers, and a socket has none. */
function demandMode({ mode, outer, tfc, original, encap }: ParsedSa, at: string, { bond }: Parsed, file: string): void {
  if (original !== undefined && (mode !== 'transport' || encap === undefined))
    throw fault(file, `${at}.original`, 'nothing without mode transport and encap', 'a value');
  if (mode !== 'transport') return;
  if (bond.lowers[0]!.kind === 'udp')
    throw fault(file, `${at}.mode`, 'tunnel: the lowers are UDP sockets, which have no IP header', mode);
  if (outer !== undefined)
    throw fault(file, `${at}.outer`, 'nothing: in transport mode a packet keeps its header', 'a value');
  if (tfc !== undefined) throw fault(file, `${at}.tfc`, 'nothing: transport mode has no TFC padding', String(tfc));
}

function demandEncap(one: ParsedSa, at: string, { bond }: Parsed, file: string): void {
  const { encap, keepaliveSeconds, direction, original, source } = one;
  if (encap !== undefined && bond.lowers[0]!.kind === 'udp')
    throw fault(file, `${at}.encap`, 'nothing: the lowers are UDP sockets', 'a value');
  if (keepaliveSeconds !== undefined && encap === undefined)
    throw fault(file, `${at}.keepaliveSeconds`, 'nothing without encap', String(keepaliveSeconds));
  if (encap?.sport === 'flow') {
    if (direction === 'in') throw fault(file, `${at}.encap.sport`, 'a port: the peer chooses by flow', 'flow');
    if (keepaliveSeconds !== undefined)
      throw fault(file, `${at}.keepaliveSeconds`, 'nothing: with sport flow there is no one mapping to keep');
  }
  for (const end of ['source', 'destination'] as const)
    if (original !== undefined && original[end].length !== source.length)
      throw fault(file, `${at}.original.${end}`, "an address of the SA's family");
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

/** While a worker has one burst, others may take as many later numbers as their bursts hold. */
function demandWindow({ window }: ParsedSa, at: string, { workers }: Parsed, file: string): void {
  const least = workers > 1 ? workers * BATCH : 0;
  if (window < least)
    throw fault(file, `${at}.window`, `at least ${least}: ${workers} workers x bursts of ${BATCH}`, String(window));
}

/** The longest inner packet fits the links: padded with its trailer to whole blocks (RFC 4303 2.4). */
function demandFit(one: ParsedSa, at: string, { bond, inside }: Parsed, file: string): void {
  const { ivLength, icvLength, blockLength } = ALGORITHMS[one.algorithm];
  const sockets = bond.lowers.filter((lower) => lower.kind === 'udp');
  const addresses = sockets.length > 0 ? sockets.map(({ local }) => local) : [one.source];
  const header = addresses.some(({ length }) => length === 16) ? IPV6_HEADER_LENGTH : IPV4_HEADER_LENGTH;
  const udp = sockets.length > 0 || one.encap !== undefined ? UDP_HEADER_LENGTH : 0;
  // In transport mode the packet's header stays outside.
  const covered = inside.mtu - (one.mode === 'transport' ? header : 0);
  const padded = Math.ceil((covered + ESP_TRAILER_LENGTH) / blockLength) * blockLength;
  const outer = header + udp + ESP_HEADER_LENGTH + ivLength + padded + icvLength;
  if (outer > bond.mtu)
    throw fault(
      file,
      'inside.mtu',
      `at most ${inside.mtu - (outer - bond.mtu)} with ${at} and bond.mtu ${bond.mtu}`,
      String(inside.mtu),
    );
}

function encapOf({ sport, dport }: NonNullable<ParsedSa['encap']>): Pick<SaPlan, 'encap' | 'portEntropy'> {
  return sport === 'flow' ? { encap: { sport: ESP_UDP_PORT, dport }, portEntropy: true } : { encap: { sport, dport } };
}

/** A map of DSCPs becomes a table of all 64. */
function outerOf({ dscp, ...rest }: NonNullable<ParsedSa['outer']>): OuterOptions {
  if (dscp === undefined) return rest;
  if (typeof dscp !== 'object') return { ...rest, dscp };
  const { others, map } = dscp;
  return {
    ...rest,
    dscp: Array.from({ length: 64 }, (_, inner) => map[inner] ?? (others === 'copy' ? inner : others)),
  };
}

function keyOf({ key, algorithm }: ParsedSa, path: string, file: string): Uint8Array {
  const { keyLength, saltLength } = ALGORITHMS[algorithm];
  const bytes = conceal(key instanceof Uint8Array ? key : readKey(key.file, path, file), '[key]');
  if (bytes.length !== keyLength)
    throw fault(
      file,
      path,
      `${keyLength} bytes for ${algorithm} (${keyLength - saltLength} of key, ${saltLength} of salt)`,
      `${bytes.length} bytes`,
    );
  demandKey(algorithm, bytes, path, file);
  return bytes;
}

function readKey(name: string, path: string, file: string): Uint8Array {
  const text = read(resolve(dirname(file), name), file, `${path}.file`, 'a readable file').trim();
  const bytes = hexOf(text);
  if (bytes === null)
    throw fault(file, `${path}.file`, 'a file of hexadecimal digits', `text of ${text.length} characters`);
  return bytes;
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
