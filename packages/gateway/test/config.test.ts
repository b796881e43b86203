import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { XfrmError } from '@espalier/xfrm';
import { loadConfig, parseConfig } from 'espalier';
import { afterAll, describe, expect, it } from 'vitest';

const EXAMPLE = join(import.meta.dirname, '..', '..', '..', 'examples', 'gateway.yaml');
const KEY = 'a1b2c3d4e5f60718293a4b5c6d7e8f9001122334';
const KEY2 = 'b1b2c3d4e5f60718293a4b5c6d7e8f9001122335';
const folder = mkdtempSync(join(tmpdir(), 'espalier-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

const sa = (over: object = {}): Record<string, unknown> => ({
  name: 'out',
  direction: 'out',
  spi: '0x1000',
  source: '192.0.2.1',
  destination: '192.0.2.2',
  algorithm: 'aes128gcm16',
  key: KEY,
  ...over,
});
const base = {
  bond: { peerMac: '02:00:00:00:00:0b', lowers: [{ kind: 'mock', name: 'm0' }] },
  inside: { kind: 'mock' },
  sas: [sa(), sa({ name: 'in', direction: 'in', spi: '0x1100', key: KEY2 })],
  policies: [{ source: '10.1.0.0/24', destination: '10.2.0.0/24', action: 'protect', sa: 'out' }],
};
const bond = (over: object): object => ({ bond: { ...base.bond, ...over } });
const onlySa = (over: object): object => ({ sas: [sa(over)] });
const peer = (window: number): object => ({ peer: { window, rate: 1e6, skewMs: 5 } });
const policy = (over: object): object => ({ policies: [{ ...base.policies[0], ...over }] });

function complaint(text: string): XfrmError {
  try {
    parseConfig(text, 'gw.yaml');
  } catch (error) {
    if (error instanceof XfrmError) return error;
    throw error;
  }
  throw new Error('the config was taken');
}

describe('a config file', () => {
  it('is what the annotated example says', () => {
    const plan = loadConfig(EXAMPLE);
    expect(plan.bond).toMatchObject({ name: 'bond0', mode: '802.3ad', policy: 'layer3+4', mtu: 1500 });
    expect(plan.bond.lowers.map((lower) => lower.name)).toEqual(['eth1', 'eth2']);
    expect(plan.inside.addresses).toEqual([{ address: Uint8Array.of(10, 1, 0, 1), bits: 24 }]);
    expect(plan.sas.map((one) => [one.name, one.spi, one.key.length])).toEqual([
      ['out', 0x1000, 20],
      ['in', 0x1100, 20],
    ]);
    expect(plan.sas[1]!.selectors).toHaveLength(1);
    expect(plan.policies[0]).toMatchObject({ action: 'protect', sa: 'out', protocol: null, sourceBits: 24 });
  });

  it('names UDP endpoints and AF_XDP queues as lowers', () => {
    const udp = { kind: 'udp', name: 'u0', local: '192.0.2.1', peer: '192.0.2.2', sourcePorts: 8 };
    const text = JSON.stringify({ ...base, bond: { lowers: [udp] } });
    expect(parseConfig(text, 'gw.json').bond.lowers[0]).toMatchObject({ localPort: 4500, sourcePorts: 8 });
    const xdp = bond({ lowers: [{ kind: 'af-xdp', name: 'eth1' }] });
    expect(parseConfig(JSON.stringify({ ...base, ...xdp }), 'gw.json').bond.lowers[0]).toMatchObject({
      attach: 'auto',
    });
    const both = { ...base, bond: { lowers: [udp, { kind: 'mock', name: 'm0' }] } };
    expect(complaint(JSON.stringify(both)).message).toContain('bond.lowers');
    const families = { ...base, bond: { lowers: [{ ...udp, peer: '2001:db8::1' }] } };
    expect(complaint(JSON.stringify(families)).message).toContain('bond.lowers[0].peer');
    const nowhere = { ...base, bond: { lowers: [{ kind: 'mock', name: 'm0' }] } };
    expect(complaint(JSON.stringify(nowhere)).message).toContain('bond.peerMac');
  });

  it('asks for transport mode, and for everything that ESP can do with a header', () => {
    const here = { ...base.policies[0], source: '192.0.2.1/32', destination: '192.0.2.2' };
    const ports = { protocol: 'tcp', sourcePorts: '1024-65535', destinationPorts: 443 };
    const out = sa({ mode: 'transport', encap: { sport: 'flow' } });
    const into = sa({
      name: 'in',
      direction: 'in',
      key: KEY2,
      mode: 'transport',
      encap: {},
      original: { source: '10.0.0.1', destination: '10.0.0.2' },
      checkPadding: false,
      selectors: [{ source: '0.0.0.0/0', destination: '0.0.0.0/0', ...ports }],
    });
    const tunnel = sa({
      name: 'o2',
      spi: 0x2000,
      key: `${KEY2.slice(0, -1)}0`,
      outer: { ttl: 'copy', df: 'clear', dscp: { 46: 10, others: 0 }, ecn: 'compatibility', flowLabel: 'flow' },
    });
    const links = bond({
      upDelay: 200,
      downDelay: 100,
      joinRefused: 'software',
      adSelect: 'bandwidth',
      resilient: true,
    });
    const text = JSON.stringify({ ...base, ...links, sas: [out, into, tunnel], policies: [{ ...here, ...ports }] });
    const plan = parseConfig(text, 'gw.json');
    expect(plan.bond).toMatchObject({ upDelay: 200, downDelay: 100, joinRefused: 'software', adSelect: 'bandwidth' });
    expect(plan.sas).toMatchObject([
      { mode: 'transport', encap: { sport: 4500, dport: 4500 }, portEntropy: true },
      {
        mode: 'transport',
        original: { source: Uint8Array.of(10, 0, 0, 1), destination: Uint8Array.of(10, 0, 0, 2) },
        checkPadding: false,
        selectors: [{ protocol: 6, sourcePorts: [1024, 65_535], destinationPorts: [443, 443] }],
      },
      { mode: 'tunnel', outer: { ttl: 'copy', df: 'clear', ecn: 'compatibility', flowLabel: 'flow' } },
    ]);
    const table = plan.sas[2]!.outer!.dscp as number[];
    expect([table.length, table[46], table[45]]).toEqual([64, 10, 0]);
    expect(plan.policies).toMatchObject([{ protocol: 6, sourcePorts: [1024, 65_535], destinationPorts: [443, 443] }]);
  });

  it('is refused in good time when it is cut, huge, deep, or aliases of aliases', () => {
    const bad = {
      cut: JSON.stringify(base).slice(0, 200),
      empty: '',
      'not text': '\0\0\0\0',
      huge: `bond: ${'x'.repeat(100_000_000)}`,
      'deep lists': '['.repeat(100_000),
      'deep maps': '{"a":'.repeat(50_000),
      'deep sequences': '- '.repeat(100_000),
      aliases: `a: &a [${'1,'.repeat(9)}1]\nb: &b [${'*a,'.repeat(9)}*a]\nc: &c [${'*b,'.repeat(9)}*b]\nd: [${'*c,'.repeat(9)}*c]`,
    };
    for (const [name, text] of Object.entries(bad)) {
      const began = performance.now();
      expect(complaint(text).code, name).toBe('CONFIG');
      // A hundredth of it on a machine that does nothing else.
      expect(performance.now() - began, name).toBeLessThan(20_000);
    }
  });

  it('may be JSON, and what is left out has its default', () => {
    const plan = parseConfig(JSON.stringify(base), 'gw.json');
    expect([plan.workers, plan.engine, plan.inside.mtu, plan.bond.mode]).toEqual([2, 'auto', 1400, '802.3ad']);
    expect(plan.sas[0]).toMatchObject({ esn: true, window: 4096, offload: 'crypto', noHandle: 'drop' });
  });

  it('takes keys from files beside it', () => {
    writeFileSync(join(folder, 'out.key'), `${KEY}\n`);
    const plan = parseConfig(
      JSON.stringify({ ...base, ...onlySa({ key: { file: 'out.key' } }) }),
      join(folder, 'gw.yaml'),
    );
    expect(Buffer.from(plan.sas[0]!.key).toString('hex')).toBe(KEY);
  });

  it('keeps its state beside it, unless it says where', () => {
    const text = (file: string): string => JSON.stringify({ ...base, state: { file }, metrics: { port: 9464 } });
    expect(parseConfig(text('state.json'), '/etc/espalier/gw.json')).toMatchObject({
      state: { file: '/etc/espalier/state.json', ahead: 2 ** 20, margin: 1024 },
      metricsPort: 9464,
    });
    expect(parseConfig(text('/var/lib/espalier/state'), 'gw.json').state!.file).toBe('/var/lib/espalier/state');
  });

  it('reads IPv6 everywhere an address may stand', () => {
    const six = { source: '2001:db8::1', destination: '2001:db8::2' };
    const plan = parseConfig(
      JSON.stringify({ ...base, ...onlySa(six), ...policy({ source: '2001:db8:1::/48', destination: '::/0' }) }),
      'gw.yaml',
    );
    expect(plan.sas[0]!.source).toHaveLength(16);
    expect([plan.policies[0]!.sourceBits, plan.policies[0]!.destinationBits]).toEqual([48, 0]);
  });

  const wrong: [what: string, over: object, path: string, expected: RegExp, got: string | undefined][] = [
    ['an unknown setting', { wrokers: 2 }, 'wrokers', /no such setting/, 'one'],
    ['a missing part', { inside: undefined }, 'inside', /a value/, 'nothing'],
    ['a missing field deep down', { sas: [{ ...sa(), spi: undefined }] }, 'sas[0].spi', /a value/, 'nothing'],
    ['too many workers', { workers: 65 }, 'workers', /from 1 to 64/, '65'],
    ['half a worker', { workers: 1.5 }, 'workers', /integer/, '1.5'],
    ['an unknown engine', { engine: 'rot13' }, 'engine', /node, noble/, '"rot13"'],
    ['an unknown mode', bond({ mode: 'balance-rr' }), 'bond.mode', /802.3ad/, '"balance-rr"'],
    ['a bad link address', bond({ peerMac: '02:00' }), 'bond.peerMac', /link address/, '"02:00"'],
    ['no lowers', bond({ lowers: [] }), 'bond.lowers', /at least one/, 'a list'],
    [
      'an unknown kind',
      bond({ lowers: [{ kind: 'xdp', name: 'a' }] }),
      'bond.lowers[0].kind',
      /af-packet, af-xdp, mock, udp/,
      '"xdp"',
    ],
    [
      'one lower twice',
      bond({
        lowers: [
          { kind: 'mock', name: 'm' },
          { kind: 'mock', name: 'm' },
        ],
      }),
      'bond.lowers[1].name',
      /of its own/,
      'that of bond.lowers[0]',
    ],
    ['a long interface name', { inside: { name: 'a-very-long-name' } }, 'inside.name', /1 to 15/, '"a-very-long-name"'],
    ['an octal address', onlySa({ source: '192.0.2.010' }), 'sas[0].source', /an address/, '"192.0.2.010"'],
    ['a short address', onlySa({ source: '192.0.2' }), 'sas[0].source', /an address/, '"192.0.2"'],
    ['mixed families', onlySa({ source: '2001:db8::1' }), 'sas[0].destination', /same family/, undefined],
    ['a reserved SPI', onlySa({ spi: 255 }), 'sas[0].spi', /0x100/, '255'],
    ['an SPI that is a fraction', onlySa({ spi: 4096.5 }), 'sas[0].spi', /0x100/, '4096.5'],
    ['an SPI of 0', onlySa({ spi: 0 }), 'sas[0].spi', /0x100/, '0'],
    ['an SPI that is no number', onlySa({ spi: 'four' }), 'sas[0].spi', /0x100/, '"four"'],
    ['a key of zeros', onlySa({ key: '00'.repeat(20) }), 'sas[0].key', /random bytes/, 'zeros'],
    [
      'one key for cipher and integrity',
      onlySa({ algorithm: 'aes256cbc-sha256', key: 'a1'.repeat(64) }),
      'sas[0].key',
      /of its own/,
      'that of the cipher',
    ],
    ['an SPI of 33 bits', onlySa({ spi: 2 ** 32 }), 'sas[0].spi', /0xffffffff/, String(2 ** 32)],
    ['an unknown algorithm', onlySa({ algorithm: 'rot13' }), 'sas[0].algorithm', /aes128gcm16/, '"rot13"'],
    ['a small window', onlySa({ window: 31 }), 'sas[0].window', /from 32/, '31'],
    [
      'a window that the workers overrun by themselves',
      { workers: 4, sas: [base.sas[0], { ...base.sas[1], window: 255 }] },
      'sas[1].window',
      /at least 256: 4 workers x bursts of 64/,
      '255',
    ],
    ['two SAs of one name', { sas: [sa(), sa({ spi: 0x1002 })] }, 'sas[1].name', /of its own/, 'that of sas[0]'],
    ['two SAs of one SPI', { sas: [sa(), sa({ name: 'o2' })] }, 'sas[1].spi', /of its own/, 'that of sas[0]'],
    [
      'two SAs of one key',
      { sas: [sa(), sa({ name: 'o2', spi: 0x1002 })] },
      'sas[1].key',
      /of its own/,
      'that of sas[0]',
    ],
    ['an SA in its own place', onlySa({ replaces: 'out' }), 'sas[0].replaces', /another SA/, 'out'],
    [
      'an SA in the place of one of the other direction',
      { sas: [sa({ replaces: 'in' }), sa({ name: 'in', direction: 'in', key: KEY2 })] },
      'sas[0].replaces',
      /direction out/,
      'in',
    ],
    [
      'two SAs in the place of one',
      { sas: [sa({ replaces: 'old' }), sa({ name: 'o2', spi: 0x1002, key: KEY2, replaces: 'old' })] },
      'sas[1].replaces',
      /of its own/,
      'that of sas[0]',
    ],
    [
      'a soft limit behind the hard one',
      onlySa({ lifetime: { softSeconds: 61, hardSeconds: 60 } }),
      'sas[0].lifetime.softSeconds',
      /at most hardSeconds, 60/,
      '61',
    ],
    ['a lifetime of no time', onlySa({ lifetime: { hardSeconds: 0 } }), 'sas[0].lifetime.hardSeconds', /from 1/, '0'],
    ['a state of no file', { state: {} }, 'state.file', /a value/, 'nothing'],
    ['numbers that are not reserved', { state: { file: 's', ahead: 0 } }, 'state.ahead', /from 1000/, '0'],
    ['metrics on a port that is none', { metrics: { port: 0 } }, 'metrics.port', /from 1 to 65535/, '0'],
    ['an audit of nothing', { audit: { perSecond: 0 } }, 'audit.perSecond', /from 1 to 10000/, '0'],
    [
      'answers from nowhere',
      { inside: { kind: 'mock', tooBig: { from: ['10.1'] } } },
      'inside.tooBig.from[0]',
      /an address/,
      '"10.1"',
    ],
    ['an MSS that is none', onlySa({ mss: 'least' }), 'sas[0].mss', /mtu, or bytes from 64 to 9000/, '"least"'],
    [
      'dummies inbound',
      { sas: [sa(), sa({ name: 'in', direction: 'in', key: KEY2, dummies: { perSecond: 1 } })] },
      'sas[1].dummies',
      /inbound/,
      'a value',
    ],
    ['dummies without a rate', onlySa({ dummies: { length: 100 } }), 'sas[0].dummies.perSecond', /a value/, 'nothing'],
    ['keepalives without UDP', onlySa({ keepaliveSeconds: 20 }), 'sas[0].keepaliveSeconds', /without encap/, '20'],
    [
      'UDP in UDP',
      {
        bond: { lowers: [{ kind: 'udp', name: 'u0', local: '192.0.2.1', peer: '192.0.2.2' }] },
        ...onlySa({ encap: {} }),
      },
      'sas[0].encap',
      /UDP sockets/,
      'a value',
    ],
    ['an unknown mode of an SA', onlySa({ mode: 'beet' }), 'sas[0].mode', /tunnel, transport/, '"beet"'],
    [
      "transport mode for somebody else's packets",
      onlySa({ mode: 'transport' }),
      'policies[0].source',
      /the source of SA "out" itself/,
      undefined,
    ],
    [
      'transport mode over sockets',
      {
        bond: { lowers: [{ kind: 'udp', name: 'u0', local: '192.0.2.1', peer: '192.0.2.2' }] },
        ...onlySa({ mode: 'transport' }),
      },
      'sas[0].mode',
      /tunnel: .* UDP sockets/,
      'transport',
    ],
    [
      'an outer header in transport mode',
      onlySa({ mode: 'transport', outer: { ttl: 9 } }),
      'sas[0].outer',
      /keeps its header/,
      'a value',
    ],
    ['TFC padding in transport mode', onlySa({ mode: 'transport', tfc: 900 }), 'sas[0].tfc', /no TFC/, '900'],
    [
      'an outer header inbound',
      { sas: [sa(), sa({ name: 'in', direction: 'in', key: KEY2, outer: {} })] },
      'sas[1].outer',
      /inbound/,
      'a value',
    ],
    ['a TTL of no hop', onlySa({ outer: { ttl: 0 } }), 'sas[0].outer.ttl', /copy, or hops from 1 to 255/, '0'],
    ['a DSCP of 7 bits', onlySa({ outer: { dscp: 64 } }), 'sas[0].outer.dscp', /DSCP from 0 to 63/, '64'],
    ['a map from no DSCP', onlySa({ outer: { dscp: { 64: 1 } } }), 'sas[0].outer.dscp', /0 to 63/, 'a map'],
    ['a map to no DSCP', onlySa({ outer: { dscp: { 6: 64 } } }), 'sas[0].outer.dscp', /0 to 63/, 'a map'],
    [
      'a flow label of 21 bits',
      onlySa({ outer: { flowLabel: 2 ** 20 } }),
      'sas[0].outer.flowLabel',
      /1048575/,
      '1048576',
    ],
    ['an unknown DF', onlySa({ outer: { df: 'no' } }), 'sas[0].outer.df', /copy, set, clear/, '"no"'],
    [
      'ports by flow inbound',
      { sas: [sa(), sa({ name: 'in', direction: 'in', key: KEY2, encap: { sport: 'flow' } })] },
      'sas[1].encap.sport',
      /the peer chooses/,
      'flow',
    ],
    [
      'keepalives for ports by flow',
      onlySa({ encap: { sport: 'flow' }, keepaliveSeconds: 20 }),
      'sas[0].keepaliveSeconds',
      /no one mapping/,
      undefined,
    ],
    [
      'original addresses in tunnel mode',
      {
        sas: [
          sa(),
          sa({ name: 'in', direction: 'in', key: KEY2, original: { source: '10.0.0.1', destination: '10.0.0.2' } }),
        ],
      },
      'sas[1].original',
      /without mode transport/,
      'a value',
    ],
    ['no look at padding outbound', onlySa({ checkPadding: false }), 'sas[0].checkPadding', /outbound/, undefined],
    ['ports that end before they begin', policy({ sourcePorts: '9-8' }), 'policies[0].sourcePorts', /a port/, '"9-8"'],
    ['a port of 17 bits', policy({ destinationPorts: 65_536 }), 'policies[0].destinationPorts', /a port/, '65536'],
    [
      'aggregators where there are none',
      bond({ mode: 'balance-xor', adSelect: 'count' }),
      'bond.adSelect',
      /no aggregators/,
      'count',
    ],
    ['a rekey without end', { rekey: { overlap: -1 } }, 'rekey.overlap', /seconds/, '-1'],
    ['selectors outbound', onlySa({ selectors: [] }), 'sas[0].selectors', /policies choose/, undefined],
    ['offload that cannot be', bond({ xmitHashPolicy: 'layer2' }), 'sas[0].offload', /layer3\+4 only/, 'crypto'],
    ['a spread without a peer', onlySa({ spread: 'inner' }), 'sas[0].peer', /window, rate/, undefined],
    [
      'a spread inbound',
      { sas: [sa(), { ...sa({ name: 'in', direction: 'in' }), spread: 'spray' }] },
      'sas[1].spread',
      /peer shares/,
      'spray',
    ],
    [
      'a spread that the peer cannot bear',
      onlySa({ spread: 'spray', ...peer(4096) }),
      'sas[0].spread',
      /window of at least 5192/,
      '"spray": 1000000 packets/s x 0.005 s of skew + 2 workers x 64 + 64',
    ],
    ['a prefix too long', policy({ source: '10.0.0.0/33' }), 'policies[0].source', /a prefix/, '"10.0.0.0/33"'],
    ['prefixes of two families', policy({ source: '::/0' }), 'policies[0].destination', /same family/, undefined],
    ['an unknown SA', policy({ sa: 'in' }), 'policies[0].sa', /outbound SAs: out/, 'in'],
    ['an SA for nothing', policy({ action: 'discard' }), 'policies[0].sa', /nothing/, 'out'],
    ['an unknown protocol', policy({ protocol: 'igmp?' }), 'policies[0].protocol', /tcp/, '"igmp?"'],
    ['packets that cannot fit', { inside: { mtu: 1500 } }, 'inside.mtu', /at most 14/, '1500'],
    ['packets longer than a frame', { inside: { mtu: 8900 } }, 'inside.mtu', /576 to 1728/, '8900'],
  ];
  for (const [what, over, path, expected, got] of wrong)
    it(`is refused with its path: ${what}`, () => {
      const { code, detail } = complaint(JSON.stringify({ ...base, ...over }));
      expect(code).toBe('CONFIG');
      expect(detail).toMatchObject({ file: 'gw.yaml', path });
      expect((detail as { expected: string }).expected).toMatch(expected);
      expect((detail as { got?: string }).got).toBe(got);
    });

  it('is refused with the line when it is no YAML', () => {
    const { message } = complaint('workers: 2\nbond: [\n');
    expect(message).toMatch(/^gw\.yaml: line \d, column \d+: expected YAML or JSON, got /);
  });

  it('is refused when it is not there', () => {
    expect(() => loadConfig(join(folder, 'absent.yaml'))).toThrow(
      /absent\.yaml: .*expected a readable file, got ENOENT/,
    );
  });

  it('never has its keys in a complaint', () => {
    const digits = KEY.slice(0, -1);
    const texts = [
      JSON.stringify({ ...base, ...onlySa({ key: digits }) }),
      JSON.stringify({ ...base, ...onlySa({ key: `${KEY}00` }) }),
      JSON.stringify({ ...base, ...onlySa({ key: { hex: KEY } }) }),
      JSON.stringify({ ...base, ...onlySa({ key: [KEY] }) }),
      JSON.stringify({ ...base, ...onlySa({ key: 1234567890123 }) }),
      JSON.stringify({ ...base, ...onlySa({ algorithm: KEY }) }),
      JSON.stringify({ ...base, ...onlySa({ kye: KEY }) }),
      JSON.stringify({ ...base, ...onlySa({ source: `0x${KEY}` }) }),
      `sas:\n  - key: "${KEY}`,
      `sas: [ { key: ${KEY} ] }`,
    ];
    for (const text of texts) {
      const { message } = complaint(text);
      for (let i = 0; i + 8 <= digits.length; i++) expect(message).not.toContain(digits.slice(i, i + 8));
      expect(message).not.toContain('1234567890123');
    }
  });

  it('makes a plan that does not show its keys when it is printed', () => {
    const plan = parseConfig(JSON.stringify(base), 'gw.yaml');
    expect(Buffer.from(plan.sas[0]!.key).toString('hex')).toBe(KEY);
    const printed = inspect(plan, { depth: 9 }) + JSON.stringify(plan) + String(plan.sas[0]!.key);
    // In hexadecimal, or as a list of bytes.
    for (const part of [KEY.slice(0, 8), '161, 178', '161,178']) expect(printed).not.toContain(part);
    expect(printed).toContain('[key]');
  });

  it('ends in a plan or a complaint whatever a byte of it becomes', () => {
    const text = JSON.stringify(base);
    const step = process.env.ESPALIER_LONG ? 1 : 7;
    let refused = 0;
    for (let at = 0; at < text.length; at += step)
      for (const put of ['', '"', '{', '9', 'x', '\u0000', '&']) {
        try {
          parseConfig(text.slice(0, at) + put + text.slice(at + 1), 'gw.yaml');
        } catch (error) {
          expect(error).toBeInstanceOf(XfrmError);
          refused++;
        }
      }
    expect(refused).toBeGreaterThan(500);
  });

  it('takes a spread whose reordering the window of the peer holds', () => {
    const plan = parseConfig(JSON.stringify({ ...base, ...onlySa({ spread: 'spray', ...peer(5192) }) }), 'gw.yaml');
    expect(plan.sas[0]).toMatchObject({ spread: 'spray' });
  });
});
