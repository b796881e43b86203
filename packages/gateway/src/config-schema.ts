/** What may stand in a config file: names, types and ranges, each with the sentence that an error shows as "expected". */
import { AD_SELECTS, type BondMode, JOIN_REFUSED, XMIT_HASH_POLICIES } from '@espalier/bond';
import { ESP_UDP_PORT } from '@espalier/wire';
import { ALGORITHM_NAMES, NO_HANDLE_NAMES, SPREADS } from '@espalier/xfrm';
import * as v from 'valibot';
import {
  address,
  dscp,
  hex,
  integer,
  interfaceName,
  label,
  mac,
  oneOf,
  path,
  ports,
  prefix,
  prefix4,
  protocol,
  spi,
  wordOr,
  yesOrNo,
} from './config-values.ts';
import { ENGINE_NAMES } from './engine.ts';
import { MAX_LOWERS, MAX_SAS, MAX_WORKERS } from './plan.ts';

const MODES = ['active-backup', 'balance-xor', '802.3ad'] as const satisfies readonly BondMode[];

const port = integer(1, 65_535, 'a port');

const idle = integer(1, 3600, 'seconds without a packet');
/** What a frame of 2048 bytes holds between its headroom and tailroom (createSlab). */
const LONGEST_INSIDE = 1728;

const bytesOrMtu = (from: number): v.GenericSchema<unknown, number | 'mtu'> => wordOr(['mtu'], from, 9000, 'bytes');

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
      keepaliveSeconds: v.exactOptional(idle),
    }),
    v.strictObject({
      kind: v.literal('mock'),
      name: interfaceName,
      saSlots: v.optional(integer(0, 1024, 'SAs that it takes'), 64),
    }),
  ],
  'one of af-packet, af-xdp, mock, udp',
);

/** What inner packets are matched by. */
const matched = {
  source: prefix,
  destination: prefix,
  protocol: v.optional(protocol, 'any'),
  sourcePorts: v.exactOptional(ports),
  destinationPorts: v.exactOptional(ports),
};
const selector = v.strictObject(matched, 'a selector: source, destination, protocol, sourcePorts, destinationPorts');

const outer = v.strictObject(
  {
    ttl: v.exactOptional(wordOr(['copy'], 1, 255, 'hops')),
    df: v.exactOptional(oneOf(['copy', 'set', 'clear'])),
    dscp: v.exactOptional(dscp),
    ecn: v.exactOptional(oneOf(['normal', 'compatibility'])),
    flowLabel: v.exactOptional(wordOr(['copy', 'flow'], 0, 0xf_ffff, 'a flow label')),
  },
  'an outer header: ttl, df, dscp, ecn, flowLabel',
);

const encap = v.strictObject(
  {
    sport: v.optional(wordOr(['flow'], 1, 65_535, 'a port'), ESP_UDP_PORT),
    dport: v.optional(port, ESP_UDP_PORT),
  },
  'UDP ports: sport, dport',
);

const count = v.exactOptional(integer(1, Number.MAX_SAFE_INTEGER, 'how many'));
const seconds = v.exactOptional(integer(1, 1_000_000_000, 'seconds'));

const sa = v.strictObject(
  {
    name: label,
    replaces: v.exactOptional(label),
    mode: v.optional(oneOf(['tunnel', 'transport']), 'tunnel'),
    direction: oneOf(['in', 'out']),
    spi,
    source: address,
    destination: address,
    algorithm: oneOf(ALGORITHM_NAMES),
    key: v.union([v.strictObject({ file: path }), hex], 'hexadecimal digits in quotes, or { file: PATH }'),
    esn: v.optional(yesOrNo, true),
    window: v.optional(integer(32, 1 << 20, 'numbers in the replay window'), 4096),
    offload: v.optional(oneOf(['crypto', 'none']), 'crypto'),
    noHandle: v.optional(oneOf(NO_HANDLE_NAMES), 'drop'),
    spread: v.exactOptional(oneOf(SPREADS)),
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
    outer: v.exactOptional(outer),
    encap: v.exactOptional(encap),
    original: v.exactOptional(
      v.strictObject({ source: address, destination: address }, "the peer's own addresses: source, destination"),
    ),
    checkPadding: v.exactOptional(yesOrNo),
    mss: v.exactOptional(bytesOrMtu(64)),
    tfc: v.exactOptional(bytesOrMtu(1)),
    dummies: v.exactOptional(
      v.strictObject(
        { perSecond: integer(1, 1000, 'packets per second'), length: v.optional(bytesOrMtu(1), 'mtu') },
        'dummies: perSecond, length',
      ),
    ),
    keepaliveSeconds: v.exactOptional(idle),
    lifetime: v.exactOptional(
      v.strictObject(
        {
          softPackets: count,
          hardPackets: count,
          softBytes: count,
          hardBytes: count,
          softSeconds: seconds,
          hardSeconds: seconds,
        },
        'a lifetime: softPackets, hardPackets, softBytes, hardBytes, softSeconds, hardSeconds',
      ),
    ),
    selectors: v.exactOptional(v.array(selector, 'a list of selectors')),
  },
  'an SA: name, direction, spi, source, destination, algorithm, key ...',
);

const policy = v.strictObject(
  {
    ...matched,
    action: oneOf(['protect', 'bypass', 'discard']),
    sa: v.optional(label),
  },
  'a policy: source, destination, action ...',
);

/** The file as a whole. */
export const config = v.strictObject(
  {
    workers: v.optional(integer(1, MAX_WORKERS, 'worker threads'), 2),
    engine: v.optional(oneOf(ENGINE_NAMES), 'auto'),
    bond: v.strictObject(
      {
        name: v.optional(label, 'bond0'),
        mode: v.optional(oneOf(MODES), '802.3ad'),
        resilient: v.optional(yesOrNo, false),
        adSelect: v.exactOptional(oneOf(AD_SELECTS)),
        upDelay: v.optional(integer(0, 60_000, 'milliseconds'), 0),
        downDelay: v.optional(integer(0, 60_000, 'milliseconds'), 0),
        joinRefused: v.exactOptional(oneOf(JOIN_REFUSED)),
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
        mtu: v.optional(integer(576, LONGEST_INSIDE, 'bytes'), 1400),
        address: v.optional(prefix4),
        tooBig: v.exactOptional(
          v.strictObject(
            {
              perSecond: v.optional(integer(0, 100_000, 'answers per second'), 100),
              from: v.optional(v.array(address, 'a list of addresses'), []),
            },
            'answers to what is too big: perSecond, from',
          ),
        ),
      },
      'the inside: name, address ...',
    ),
    sas: v.pipe(
      v.array(sa, 'a list of SAs'),
      v.minLength(1, 'at least one SA'),
      v.maxLength(MAX_SAS, `at most ${MAX_SAS} SAs`),
    ),
    state: v.exactOptional(
      v.strictObject(
        {
          file: path,
          ahead: v.optional(integer(1000, 2 ** 32, 'numbers'), 2 ** 20),
          margin: v.optional(integer(512, 2 ** 24, 'numbers'), 1024),
        },
        'the state: file, ahead, margin',
      ),
    ),
    metrics: v.exactOptional(v.strictObject({ port }, 'metrics: port')),
    audit: v.exactOptional(
      v.strictObject(
        {
          perSecond: v.optional(integer(1, 10_000, 'events per second of a worker'), 10),
          burst: v.optional(integer(1, 10_000, 'events at once of a worker'), 50),
        },
        'an audit: perSecond, burst',
      ),
    ),
    rekey: v.optional(
      v.strictObject(
        {
          switchAfter: v.optional(integer(0, 86_400, 'seconds'), 10),
          overlap: v.optional(integer(0, 86_400, 'seconds'), 30),
        },
        'a rekey: switchAfter, overlap',
      ),
    ),
    policies: v.pipe(v.array(policy, 'a list of policies'), v.minLength(1, 'at least one policy')),
  },
  'a map with bond, inside, sas, policies ...',
);
export type Parsed = v.InferOutput<typeof config>;
export type ParsedSa = Parsed['sas'][number];
export type ParsedSelector = v.InferOutput<typeof selector>;
