import { readFileSync } from 'node:fs';
import { Row, RowState } from '@espalier/wire';
import { type AlgorithmName, type CryptoEngine, SaKey, XfrmError } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { nodeEngine } from '../src/engines/node.ts';
import { nobleEngine } from '../src/index.ts';
import { Bench, hex, toHex } from './bench-rows.ts';

const read = (name: string): unknown => JSON.parse(readFileSync(new URL(`vectors/${name}`, import.meta.url), 'utf8'));
const engines: [string, () => CryptoEngine][] = [
  ['noble', nobleEngine],
  ['node', nodeEngine],
];

function algorithmOf(name: string, keyBytes: number): AlgorithmName {
  if (name.toUpperCase().includes('CHACHA')) return 'chacha20poly1305';
  return `aes${keyBytes * 8}gcm16` as AlgorithmName;
}

/** Puts an ESP packet in a row as if the path had found it. */
function received(bench: Bench, esp: Uint8Array, key: number, seqHi: number): number {
  const r = bench.put(esp, RowState.RECEIVED);
  bench.slab.rows[r + Row.ESP] = bench.slab.rows[r + Row.START]!;
  bench.slab.rows[r + Row.KEY] = key;
  bench.slab.rows[r + Row.SEQ_HI] = seqHi;
  return r;
}

describe.each(engines)('engine %s', (_, make) => {
  interface EspVector {
    id: string;
    sa: { alg: string; key: string; salt: string; esn: boolean };
    seq: string;
    esp: string;
    plaintext: string;
    expect: string;
  }
  for (const v of read('esp-aead.json') as EspVector[])
    it(`opens ${v.id} at row level, 64-bit halves and all`, () => {
      const engine = make();
      const material = hex(v.sa.key + v.sa.salt);
      const algorithm = algorithmOf(v.sa.alg, material.length - 4);
      const key = engine.install(algorithm, SaKey.import(algorithm, material), { esn: v.sa.esn });
      const bench = new Bench();
      const r = received(bench, hex(v.esp), key, Number(BigInt(v.seq) >> 32n) | 0);
      engine.open(bench.burst);
      expect(bench.slab.rows[r + Row.STATE]).toBe(v.expect === 'ok' ? RowState.OPENED : RowState.ICV_BAD);
      if (v.expect === 'ok') expect(toHex(bench.bytes(0).slice(16, -16))).toBe(v.plaintext);
    });

  /** An AEAD case with 8- or 12-byte associated data is an ESP packet: SPI and number are the associated data. */
  function asEsp(
    algorithm: AlgorithmName,
    key: string,
    iv: string,
    aad: string,
    ct: string,
    tag: string,
  ): boolean | null {
    if (aad.length !== 16 && aad.length !== 24) return null;
    const engine = make();
    const material = hex(key + iv.slice(0, 8));
    const number = engine.install(algorithm, SaKey.import(algorithm, material), { esn: aad.length === 24 });
    const bench = new Bench(4);
    const header = aad.length === 24 ? aad.slice(0, 8) + aad.slice(16) : aad;
    const packet = hex(header + iv.slice(8) + ct + tag);
    if (packet.length > 1700) return null;
    const r = received(bench, packet, number, aad.length === 24 ? Number.parseInt(aad.slice(8, 16), 16) | 0 : 0);
    engine.open(bench.burst);
    const opened = bench.slab.rows[r + Row.STATE] === RowState.OPENED;
    if (!opened)
      expect(
        bench
          .bytes(0)
          .slice(16, -16)
          .every((b) => b === 0),
      ).toBe(true);
    return opened;
  }

  it('agrees with the NIST and Wycheproof cases that have the shape of ESP', () => {
    let ran = 0;
    const nist = read('nist-cavp-gcm.json') as { tests: (Record<string, string> & { fail: boolean })[] };
    for (const t of nist.tests) {
      const opened = asEsp(algorithmOf('gcm', t.key!.length / 2), t.key!, t.iv!, t.aad!, t.ct!, t.tag!);
      if (opened === null) continue;
      expect(opened).toBe(!t.fail);
      ran++;
    }
    for (const name of ['aes_gcm', 'chacha20_poly1305']) {
      const file = read(`wycheproof-${name}.json`) as { testGroups: { tests: Record<string, string>[] }[] };
      for (const group of file.testGroups)
        for (const t of group.tests) {
          const opened = asEsp(algorithmOf(name, t.key!.length / 2), t.key!, t.iv!, t.aad!, t.ct!, t.tag!);
          if (opened === null) continue;
          expect(opened, `${name} ${t.tcId}`).toBe(t.result === 'valid');
          ran++;
        }
    }
    expect(ran).toBeGreaterThan(20);
  });

  it('refuses a key of an unknown algorithm or an ICV it does not have, and forgets keys', () => {
    const engine = make();
    const key = SaKey.import('aes128gcm16', new Uint8Array(20));
    expect(() => engine.install('aes128gcm16', key, { esn: false, icvLength: 8 })).toThrow(XfrmError);
    const number = engine.install('aes128gcm16', key, { esn: false });
    engine.remove(number);
    expect(() => engine.remove(number)).toThrow(RangeError);
  });

  it('never seals a sealed row and leaves rows with a fate alone', () => {
    const engine = make();
    const key = engine.install('aes128gcm16', SaKey.import('aes128gcm16', new Uint8Array(20)), { esn: false });
    const bench = new Bench();
    const a = received(bench, new Uint8Array(100), key, 0);
    bench.slab.rows[a + Row.STATE] = RowState.TO_SEAL;
    const b = received(bench, new Uint8Array(100), key, 0);
    bench.slab.rows[b + Row.STATE] = RowState.TO_SEAL;
    bench.slab.rows[b + Row.FATE] = 1;
    engine.seal(bench.burst);
    const once = toHex(bench.bytes(0));
    engine.seal(bench.burst);
    expect(toHex(bench.bytes(0))).toBe(once);
    expect(bench.bytes(1).every((x) => x === 0)).toBe(true);
  });
});
