// Published vectors, captures and a real kernel's packets, on every engine. Budget: 5 s.
import { readdirSync } from 'node:fs';
import { Row, RowState } from '@espalier/wire';
import { ALGORITHM_NAMES, ALGORITHMS, type AlgorithmName, SaKey, XfrmError } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { NOBLE_SUITE } from '../src/engines/noble.ts';
import { NODE_SUITE } from '../src/engines/node.ts';
import type { CipherSuite } from '../src/transform.ts';
import { Bench, hex, toHex } from './bench-rows.ts';
import { espOf, readPcap, readSnoop, readVectors } from './captures.ts';
import { HERE, MISSING } from './every-engine.ts';
import { received, text } from './rows.ts';

interface Vector {
  id: string;
  sa: { alg: string; key: string; salt?: string; esn: boolean; auth?: string; auth_key?: string };
  seq: string;
  esp: string;
  iv: string;
  plaintext: string;
  expect: string;
}

/** What these files call a transform, in our words; null for one that we do not have. */
function algorithmOf({ alg, key, auth }: Vector['sa']): AlgorithmName | null {
  const bits = (key.length * 4) as 128 | 192 | 256;
  if (alg === 'CHACHA20-POLY1305') return 'chacha20poly1305';
  if (alg === 'AES-GCM-16') return `aes${bits}gcm16`;
  const hash = { 'HMAC-SHA2-256-128': 'sha256', 'HMAC-SHA2-384-192': 'sha384', 'HMAC-SHA2-512-256': 'sha512' }[auth!];
  return alg === 'AES-CBC' && hash !== undefined ? (`aes${bits}cbc-${hash}` as AlgorithmName) : null;
}

const materialOf = ({ key, salt, auth_key }: Vector['sa']): Uint8Array => hex(key + (salt ?? '') + (auth_key ?? ''));

const vectors = readVectors<Vector[]>('esp-vectors.json');
const bare = vectors.filter((v) => v.sa.auth === 'NULL');
const ours = vectors.filter((v) => algorithmOf(v.sa) !== null);

/** Triple-DES and HMAC-MD5 are MUST NOT and SHOULD NOT (RFC 8221 5, 6); so is encryption without integrity. */
it('knows which of the published vectors no engine shall open', () => {
  const not = vectors.filter((v) => algorithmOf(v.sa) === null && v.sa.auth !== 'NULL').map((v) => v.sa);
  expect(not.every((sa) => sa.alg === '3DES-CBC' || sa.auth === 'HMAC-MD5-96')).toBe(true);
  expect([ours.length, bare.length, not.length]).toEqual([14, 5, 5]);
  for (const name of ['aes128cbc', 'aes128ctr', 'aes256', 'null', '3des-sha256', '__proto__', 'toString'])
    expect(() => SaKey.import(name as AlgorithmName, new Uint8Array(16))).toThrow(XfrmError);
});

it.skip.each(MISSING)('engine %s', () => {});

const SHAPED = { aes_gcm: 5, chacha20_poly1305: 47 } as const;

type Opener = (esp: Uint8Array, hi: number) => Uint8Array | null;

describe.each(HERE)('engine %s', (name, make) => {
  const has = (algorithm: AlgorithmName): boolean => make({ legacy: true }).algorithms.includes(algorithm);
  // noble and node have every transform of these files, the addon some.
  const least = (count: number): number => (name.startsWith('native') ? 1 : count);

  function opener(algorithm: AlgorithmName, material: Uint8Array, esn: boolean): Opener {
    const engine = make();
    const key = engine.install(algorithm, SaKey.import(algorithm, material), { esn });
    const bench = new Bench(1, 16_384);
    return (esp, hi) => {
      bench.clear();
      received(bench, esp, key, hi);
      engine.open(bench.burst);
      return bench.at(0, Row.STATE) === RowState.OPENED ? text(bench, 0, algorithm) : null;
    };
  }

  it.each(ours.filter((v) => has(algorithmOf(v.sa)!)).map((v) => [v.id, v] as const))(
    'opens %s, 64-bit halves and all',
    (_id, v) => {
      const algorithm = algorithmOf(v.sa)!;
      const plain = opener(algorithm, materialOf(v.sa), v.sa.esn)(hex(v.esp), Number(BigInt(v.seq) >> 32n) | 0);
      expect(plain && toHex(plain)).toBe(v.plaintext);
    },
  );

  it('opens the packet of RFC 7634 Appendix A as the snoop file has it', () => {
    const sa = vectors.find((v) => v.id === 'rfc7634-A')!;
    const frames = readSnoop('rfc7634.snoop').map(espOf);
    const esp = frames.filter((f) => f !== null);
    expect(esp.length).toBeGreaterThan(0);
    const open = opener('chacha20poly1305', materialOf(sa.sa), false);
    const plain = esp.map((f) => toHex(open(f, 0)!));
    expect(plain).toContain(sa.plaintext);
  });

  it('opens what strongSwan sent, packet by packet', () => {
    interface Capture {
      pcap: string;
      inner: string;
      sas: (Vector['sa'] & { spi: number })[];
      esp_packets: number;
    }
    const captures = readVectors<Capture[]>('strongswan.json').filter((c) =>
      c.sas.every((sa) => has(algorithmOf(sa)!)),
    );
    expect(captures.length).toBeGreaterThanOrEqual(least(2));
    for (const capture of captures) {
      // A few inner packets left as outer fragments, which the capture does not have.
      const inner = readPcap(capture.inner).map(toHex);
      const open = new Map(capture.sas.map((sa) => [sa.spi, opener(algorithmOf(sa)!, materialOf(sa), sa.esn)]));
      const packets = readPcap(capture.pcap)
        .map(espOf)
        .filter((f) => f !== null);
      for (const esp of packets) {
        const plain = open.get(new DataView(esp.buffer).getUint32(0))!(esp, 0)!;
        expect(plain.at(-1)).toBe(4);
        const at = inner.indexOf(toHex(plain.slice(0, -2 - plain.at(-2)!)));
        expect(at).toBeGreaterThanOrEqual(0);
        inner.splice(at, 1);
      }
      expect(packets.length).toBe(capture.esp_packets);
    }
  });

  it('opens every packet that a Linux kernel sealed', () => {
    const names = readdirSync(new URL('vectors/', import.meta.url)).filter((n) => /^linux-(aes|chacha).*json$/.test(n));
    let packets = 0;
    let files = 0;
    const wrong: string[] = [];
    for (const file of names) {
      const v = readVectors<{
        key: string;
        authKey: string | null;
        algorithm: string;
        mode: string;
        esn: boolean;
        packets: { seq: string; inner: string; wire: string | null }[];
      }>(file);
      const [, bits] = /aes-(?:cbc|gcm)-(\d+)/.exec(v.algorithm) ?? [];
      const kind = v.algorithm.includes('cbc') ? `aes${bits}cbc-sha256` : `aes${bits}gcm16`;
      const algorithm = (v.algorithm.startsWith('chacha') ? 'chacha20poly1305' : kind) as AlgorithmName;
      if (!has(algorithm)) continue;
      files++;
      const open = opener(algorithm, hex(v.key + (v.authKey ?? '')), v.esn);
      for (const p of v.packets) {
        if (p.wire === null) continue;
        const esp = espOf(hex(p.wire))!;
        const hi = v.esn ? Number(BigInt(p.seq) >> 32n) : 0;
        const plain = open(esp, hi);
        const inner = plain && toHex(plain.slice(0, -2 - plain.at(-2)!));
        // In transport mode the inner packet's own header is outside.
        const want = v.mode === 'tunnel' ? p.inner : p.inner.slice(p.inner.startsWith('4') ? 40 : 80);
        if (inner !== want) wrong.push(`${file} ${p.seq}`);
        packets++;
      }
    }
    expect(wrong).toEqual([]);
    expect(names).toHaveLength(36);
    if (!name.startsWith('native')) expect([files, packets]).toEqual([36, 1224]);
    expect(packets).toBeGreaterThan(500);
  });

  it('opens and seals what scapy makes, for every transform that it has', () => {
    interface Made {
      algorithm: AlgorithmName;
      key: string;
      esn: boolean;
      hi: number;
      inner: string;
      esp: string;
    }
    const { packets } = readVectors<{ packets: Made[] }>('scapy.json');
    const engine = make({ legacy: true });
    const bench = new Bench(1);
    const wrong: string[] = [];
    const mine = packets.filter((p) => has(p.algorithm));
    for (const { algorithm, key, esn, hi, inner, esp } of mine) {
      const { iv } = ALGORITHMS[algorithm];
      const number = engine.install(algorithm, SaKey.import(algorithm, hex(key)), { esn });
      bench.clear();
      const r = received(bench, hex(esp), number, hi);
      engine.open(bench.burst);
      const plain = text(bench, 0, algorithm);
      const { rows } = bench.slab;
      if (rows[r + Row.STATE] !== RowState.OPENED) wrong.push(`${algorithm} is not opened`);
      if (toHex(plain.slice(0, -2 - plain.at(-2)!)) !== inner) wrong.push(`${algorithm} opens to something else`);
      rows[r + Row.STATE] = RowState.TO_SEAL;
      engine.seal(bench.burst);
      if (iv !== 'random' && toHex(bench.bytes(0)) !== esp) wrong.push(`${algorithm} seals to something else`);
      engine.remove(number);
    }
    expect(wrong).toEqual([]);
    expect(new Set(mine.map((p) => p.algorithm)).size).toBe(
      ALGORITHM_NAMES.filter((n) => !/gcm(8|12)$|iiv$/.test(n) && has(n)).length,
    );
  });

  /** Those whose AAD has the length of ours, with and without ESN: the packet they would be. */
  it.each([
    ['aes_gcm', 96],
    ['chacha20_poly1305', 96],
  ] as const)('agrees with every Wycheproof case of %s that has the shape of ESP', (file, ivSize) => {
    const { testGroups } = readVectors<{
      testGroups: { ivSize: number; tests: Record<string, string>[] }[];
    }>(`wycheproof-${file}.json`);
    const tests = testGroups
      .filter((g) => g.ivSize === ivSize)
      .flatMap((g) => g.tests)
      .filter((t) => t.aad!.length === 16 || t.aad!.length === 24);
    const wrong = tests.filter((t) => {
      const esn = t.aad!.length === 24;
      const algorithm = (file === 'aes_gcm' ? `aes${t.key!.length * 4}gcm16` : 'chacha20poly1305') as AlgorithmName;
      const open = opener(algorithm, hex(t.key! + t.iv!.slice(0, 8)), esn);
      const esp = hex(t.aad!.slice(0, 8) + t.aad!.slice(-8) + t.iv!.slice(8) + t.ct! + t.tag!);
      const plain = open(esp, esn ? Number.parseInt(t.aad!.slice(8, 16), 16) | 0 : 0);
      return t.result === 'valid' ? plain === null || toHex(plain) !== t.msg : plain !== null;
    });
    expect(wrong.map((t) => t.tcId)).toEqual([]);
    expect(tests).toHaveLength(SHAPED[file]);
  });
});

const suites: [string, CipherSuite][] = [
  ['noble', NOBLE_SUITE],
  ['node', NODE_SUITE],
];

describe.each(suites)('the pieces of %s', (_, suite) => {
  it.each(bare.map((v) => [v.id, v] as const))('has the cipher of %s, which has no integrity', (_id, v) => {
    const cipher = suite.ciphers['aes-cbc']!(hex(v.sa.key));
    const work = hex(v.esp).slice(24);
    cipher.decrypt(work, 0, work.length, hex(v.iv));
    expect(toHex(work)).toBe(v.plaintext);
    cipher.encrypt(work, 0, work.length, hex(v.iv));
    expect(toHex(work)).toBe(v.esp.slice(48));
  });

  it.each([
    [
      'ae6852f8121067cc4bf7a5765577f39e',
      '00000030',
      '0000000000000000',
      '53696e676c6520626c6f636b206d7367',
      'e4095d4fb7a7b3792d6175a3261311b8',
    ],
    [
      '16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb78515',
      '00000048',
      '36733c147d6d93cb',
      '53696e676c6520626c6f636b206d7367',
      '4b55384fe259c9c84e7935a003cbe928',
    ],
    [
      '776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104',
      '00000060',
      'db5672c97aa8f0b2',
      '53696e676c6520626c6f636b206d7367',
      '145ad01dbf824ec7560863dc71e3e0c0',
    ],
  ])('has the counter mode of RFC 3686 6 under key %s', (key, salt, iv, plain, sealed) => {
    const work = hex(plain);
    suite.ciphers['aes-ctr']!(hex(key)).encrypt(work, 0, work.length, hex(`${salt}${iv}00000001`));
    expect(toHex(work)).toBe(sealed);
  });

  it('agrees with every NIST CAVP case, any length of AAD', () => {
    const nist = readVectors<{ tests: (Record<string, string> & { fail: boolean })[] }>('nist-cavp-gcm.json');
    const wrong = nist.tests.filter((t) => {
      const aead = suite.aeads['aes-gcm']!(hex(t.key!), 16);
      const work = hex(t.ct! + t.tag!);
      const opened = aead.open(work, 0, work.length - 16, hex(t.iv!), hex(t.aad!));
      if (opened === t.fail) return true;
      if (t.fail) return false;
      const good = toHex(work.slice(0, -16)) === t.pt;
      aead.seal(work, 0, work.length - 16, hex(t.iv!), hex(t.aad!));
      return !good || toHex(work) !== t.ct! + t.tag!;
    });
    expect(wrong).toEqual([]);
    expect(nist.tests.length).toBe(1125);
  });

  it.each([
    ['aes_gcm', 'aes-gcm', 197],
    ['chacha20_poly1305', 'chacha20-poly1305', 316],
  ] as const)('agrees with every Wycheproof case of %s with a 96-bit IV', (file, cipher, count) => {
    const { testGroups } = readVectors<{
      testGroups: { ivSize: number; tests: Record<string, string>[] }[];
    }>(`wycheproof-${file}.json`);
    const tests = testGroups.filter((g) => g.ivSize === 96).flatMap((g) => g.tests);
    const wrong = tests.filter((t) => {
      const aead = suite.aeads[cipher]!(hex(t.key!), 16);
      const work = hex(t.ct! + t.tag!);
      const opened = aead.open(work, 0, work.length - 16, hex(t.iv!), hex(t.aad!));
      return opened !== (t.result === 'valid') || (opened && toHex(work.slice(0, -16)) !== t.msg);
    });
    expect(wrong.map((t) => t.tcId)).toEqual([]);
    expect(tests.length).toBe(count);
  });

  it.each(['sha256', 'sha384', 'sha512'] as const)('agrees with every Wycheproof case of HMAC-%s', (hash) => {
    const { testGroups } = readVectors<{ testGroups: { tests: Record<string, string>[] }[] }>(
      `wycheproof-hmac_${hash}.json`,
    );
    const tests = testGroups.flatMap((g) => g.tests);
    const wrong = tests.filter((t) => {
      const message = hex(t.msg!);
      // In two parts, as the high half of the number comes behind the packet.
      const cut = Math.max(0, message.length - 4);
      const mac = suite.macs[hash]!(hex(t.key!)).compute(message, 0, cut, message.slice(cut));
      return (toHex(mac.slice(0, t.tag!.length / 2)) === t.tag) !== (t.result === 'valid');
    });
    expect(wrong.map((t) => t.tcId)).toEqual([]);
    expect(tests.length).toBe(174);
  });
});
