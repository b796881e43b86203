/**
 * A config file becomes a GatewayPlan or an XfrmError CONFIG that names the file, the path inside it, what was expected and
 * what was there. Parse, don't validate: nothing behind this file looks at text again. Key material is never quoted.
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type BondMode, demandReorderBudget, replicates, XMIT_HASH_POLICIES } from '@espalier/bond';
import { ESP_UDP_PORT, UDP_HEADER_LENGTH } from '@espalier/wire';
import { ALGORITHM_NAMES, ALGORITHMS, NO_HANDLE_NAMES, SPREADS, XfrmError } from '@espalier/xfrm';
import * as v from 'valibot';
import { LineCounter, parseDocument } from 'yaml';
import {
  address,
  hex,
  hexOf,
  integer,
  interfaceName,
  label,
  mac,
  oneOf,
  prefix,
  prefix4,
  protocol,
  spi,
  yesOrNo,
} from './config-values.ts';
import { BATCH } from './datapath.ts';
import { ENGINE_NAMES } from './engine.ts';
import {
  type GatewayPlan,
  type LowerPlan,
  MAX_LOWERS,
  MAX_SAS,
  MAX_WORKERS,
  type PolicyPlan,
  type SaPlan,
} from './plan.ts';

/** Packets of a NIC's queue that the peer's kernel takes at once (its NAPI weight). */
const RECEIVE_BATCH = 64;

const MODES = ['active-backup', 'balance-xor', '802.3ad'] as const satisfies readonly BondMode[];

const port = integer(1, 65_535, 'a port');

const lower = v.variant(
  'kind',
  [
    v.strictObject({ kind: v.literal('af-packet'), name: interfaceName }),
    v.strictObject({
      kind: v.literal('af-xdp'),
      name: interfaceName,
      attach: v.optional(oneOf(['auto', 'driver', 'generic']), 'auto'),
    }),
    v.strictObject({
      kind: v.literal('udp'),
      name: label,
      local: address,
      peer: address,
      localPort: v.optional(port, ESP_UDP_PORT),
      peerPort: v.optional(port, ESP_UDP_PORT),
      sourcePorts: v.optional(integer(0, 64, 'source ports'), 0),
      device: v.optional(interfaceName),
    }),
    v.strictObject({
      kind: v.literal('mock'),
      name: interfaceName,
      saSlots: v.optional(integer(0, 1024, 'SAs that it takes'), 64),
    }),
  ],
  'one of af-packet, af-xdp, mock, udp',
);

const count = v.exactOptional(integer(1, Number.MAX_SAFE_INTEGER, 'how many'));

const sa = v.strictObject(
  {
    name: label,
    direction: oneOf(['in', 'out']),
    spi,
    source: address,
    destination: address,
    algorithm: oneOf(ALGORITHM_NAMES),
    key: v.union([v.strictObject({ file: label }), hex], 'hexadecimal digits in quotes, or { file: PATH }'),
    esn: v.optional(yesOrNo, true),
    window: v.optional(integer(32, 1 << 20, 'numbers in the replay window'), 4096),
    offload: v.optional(oneOf(['crypto', 'none']), 'crypto'),
    noHandle: v.optional(oneOf(NO_HANDLE_NAMES), 'drop'),
    spread: v.optional(oneOf(SPREADS)),
    peer: v.optional(
      v.strictObject(
        {
          window: integer(0, 1 << 20, "numbers in the peer's replay window"),
          rate: integer(1, 1_000_000_000, 'packets per second at the peak'),
          skewMs: integer(0, 10_000, 'milliseconds between the fastest and the slowest link'),
        },
        'the peer: window, rate, skewMs',
      ),
    ),
    lifetime: v.optional(
      v.strictObject(
        { softPackets: count, hardPackets: count, softBytes: count, hardBytes: count },
        'a lifetime: softPackets, hardPackets, softBytes, hardBytes',
      ),
    ),
    selectors: v.optional(
      v.array(
        v.strictObject({ source: prefix, destination: prefix }, 'a selector: source, destination'),
        'a list of selectors',
      ),
    ),
  },
  'an SA: name, direction, spi, source, destination, algorithm, key ...',
);

const policy = v.strictObject(
  {
    source: prefix,
    destination: prefix,
    protocol: v.optional(protocol, 'any'),
    action: oneOf(['protect', 'bypass', 'discard']),
    sa: v.optional(label),
  },
  'a policy: source, destination, action ...',
);

const config = v.strictObject(
  {
    workers: v.optional(integer(1, MAX_WORKERS, 'worker threads'), 2),
    engine: v.optional(oneOf(ENGINE_NAMES), 'auto'),
    bond: v.strictObject(
      {
        name: v.optional(label, 'bond0'),
        mode: v.optional(oneOf(MODES), '802.3ad'),
        resilient: v.optional(yesOrNo, false),
        xmitHashPolicy: v.optional(oneOf(XMIT_HASH_POLICIES), 'layer3+4'),
        mac: v.optional(mac),
        peerMac: v.optional(mac),
        mtu: v.optional(integer(576, 9000, 'bytes'), 1500),
        lowers: v.pipe(
          v.array(lower, 'a list of lowers'),
          v.minLength(1, 'at least one lower'),
          v.maxLength(MAX_LOWERS, `at most ${MAX_LOWERS} lowers`),
        ),
      },
      'a bond: lowers, peerMac ...',
    ),
    inside: v.strictObject(
      {
        kind: v.optional(oneOf(['tun', 'mock']), 'tun'),
        name: v.optional(interfaceName, 'tun0'),
        mtu: v.optional(integer(576, 9000, 'bytes'), 1400),
        address: v.optional(prefix4),
      },
      'the inside: name, address ...',
    ),
    sas: v.pipe(
      v.array(sa, 'a list of SAs'),
      v.minLength(1, 'at least one SA'),
      v.maxLength(MAX_SAS, `at most ${MAX_SAS} SAs`),
    ),
    policies: v.pipe(v.array(policy, 'a list of policies'), v.minLength(1, 'at least one policy')),
  },
  'a map with bond, inside, sas, policies ...',
);
type Parsed = v.InferOutput<typeof config>;
type ParsedSa = Parsed['sas'][number];

/** Reads and parses. Throws XfrmError CONFIG. */
export function loadConfig(file: string): GatewayPlan {
  return parseConfig(read(file, file, '', 'a readable file'), file);
}

/** YAML 1.2, and so JSON. `file` is for messages, and key files are relative to it. Throws XfrmError CONFIG. */
export function parseConfig(source: string, file: string): GatewayPlan {
  const lines = new LineCounter();
  // Pretty errors would quote the line, and a line may hold a key.
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false });
  const [mistake] = document.errors;
  if (mistake) {
    const { line, col } = lines.linePos(mistake.pos[0]);
    const got = mistake.message
      .split('\n')[0]!
      .replace(/["'`].*$/, '')
      .trim();
    throw fault(file, `line ${line}, column ${col}`, 'YAML or JSON', got);
  }
  const parsed = v.safeParse(config, document.toJS({ maxAliasCount: 100 }), { abortEarly: true });
  if (!parsed.success) throw faultOf(file, parsed.issues[0]);
  return planOf(parsed.output, file);
}

function fault(file: string, path: string, expected: string, got?: string): XfrmError {
  return new XfrmError({ code: 'CONFIG', file, path, expected, ...(got === undefined ? {} : { got }) });
}

function read(name: string, file: string, path: string, expected: string): string {
  try {
    return readFileSync(name, 'utf8');
  } catch (error) {
    throw fault(file, path, expected, (error as NodeJS.ErrnoException).code ?? 'an error');
  }
}

/** The deepest complaint of an issue: a union hides what its one plausible option says. */
function faultOf(file: string, issue: v.BaseIssue<unknown>): XfrmError {
  const keys = (issue.path ?? []).map((item) => (item as { key: unknown }).key as string | number);
  const path = keys.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : text === '' ? key : `${text}.${key}`),
    '',
  );
  if (issue.type === 'strict_object' && issue.expected === 'never')
    return fault(file, path, 'no such setting here', 'one');
  const missing = issue.input === undefined;
  return fault(
    file,
    path,
    missing && issue.type === 'strict_object' ? 'a value' : issue.message,
    missing ? 'nothing' : describe(issue.input, keys),
  );
}

/** Never a key: nothing below one, and nothing that looks like one. */
function describe(value: unknown, keys: readonly (string | number)[]): string {
  if (typeof value === 'string') {
    if (keys.includes('key') || value.length > 60 || /^(0x)?[0-9a-f]{24,}$/i.test(value))
      return `text of ${value.length} characters`;
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return 'a list';
  if (value === null) return 'nothing';
  if (typeof value === 'object') return 'a map';
  return keys.includes('key') ? `a ${typeof value}` : String(value);
}

function planOf(parsed: Parsed, file: string): GatewayPlan {
  const { bond, inside } = parsed;
  distinct(file, 'bond.lowers', bond.lowers, (one) => one.name, 'name');
  demandLowers(parsed, file);
  distinct(file, 'sas', parsed.sas, (one) => one.name, 'name');
  distinct(file, 'sas', parsed.sas, (one) => `${one.direction} ${one.spi} ${one.destination}`, 'spi');
  const sas = parsed.sas.map((one, i) => saOf(one, i, parsed, file));
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
    },
    sas,
    policies: parsed.policies.map((one, i) => policyOf(one, i, sas, file)),
  };
}

/** Slaves have one link type; Ethernet ones need the peer's address, sockets have theirs. */
function demandLowers({ bond }: Parsed, file: string): void {
  const sockets = bond.lowers.filter((one) => one.kind === 'udp');
  if (sockets.length === 0) {
    if (bond.peerMac === undefined)
      throw fault(file, 'bond.peerMac', 'a link address such as 02:00:5e:00:53:01', 'nothing');
    return;
  }
  if (sockets.length < bond.lowers.length) throw fault(file, 'bond.lowers', 'udp lowers, or none of them udp', 'both');
  for (const [i, { local, peer }] of sockets.entries())
    if (local.length !== peer.length)
      throw fault(file, `bond.lowers[${i}].peer`, "an address of the local one's family");
}

function distinct<T>(file: string, path: string, list: readonly T[], of: (one: T) => string, field: string): void {
  const seen = new Map<string, number>();
  for (const [i, one] of list.entries()) {
    const first = seen.get(of(one));
    if (first !== undefined) throw fault(file, `${path}[${i}].${field}`, 'one of its own', `that of ${path}[${first}]`);
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
  if (one.offload === 'crypto' && bond.mode !== 'active-backup' && !replicates(bond.mode, bond.xmitHashPolicy))
    throw fault(file, `${at}.offload`, `none: ${bond.mode} replicates SAs with layer3+4 only`, 'crypto');
  if (one.direction === 'out' && one.selectors !== undefined)
    throw fault(file, `${at}.selectors`, 'nothing: policies choose what goes out');
  if (one.direction === 'in' && one.spread !== undefined)
    throw fault(file, `${at}.spread`, 'nothing: the peer shares out what comes in', one.spread);
  if (one.spread === 'inner' || one.spread === 'spray') demandSpread(one, at, parsed, file);
  // The longest inner packet: padded with its two bytes of trailer to whole blocks (RFC 4303 2.4).
  const padded = Math.ceil((inside.mtu + 2) / blockLength) * blockLength;
  const udp = bond.lowers[0]!.kind === 'udp' ? UDP_HEADER_LENGTH : 0;
  const outer = (one.source.length === 4 ? 20 : 40) + udp + 8 + ivLength + padded + icvLength;
  if (one.direction === 'out' && outer > bond.mtu)
    throw fault(
      file,
      'inside.mtu',
      `at most ${inside.mtu - (outer - bond.mtu)} with ${at} and bond.mtu ${bond.mtu}`,
      String(inside.mtu),
    );
  const { selectors, key: _, peer: __, spread, lifetime, ...rest } = one;
  return {
    ...rest,
    key,
    ...(spread === undefined ? {} : { spread }),
    ...(lifetime === undefined ? {} : { lifetime }),
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
  if (key instanceof Uint8Array) return key;
  const text = read(resolve(dirname(file), key.file), file, `${path}.file`, 'a readable file').trim();
  const bytes = hexOf(text);
  if (bytes === null)
    throw fault(file, `${path}.file`, 'a file of hexadecimal digits', `text of ${text.length} characters`);
  return bytes;
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
