import { inspect } from 'node:util';
import { Row, RowState } from '@espalier/wire';
import { ALGORITHM_NAMES, ALGORITHMS, type AlgorithmName, type CryptoEngine, SaKey, XfrmError } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { nodeEngine } from '../src/engines/node.ts';
import { type EngineOptions, nobleEngine } from '../src/index.ts';
import { Bench, toHex } from './bench-rows.ts';
import { install, received, text, toSeal } from './rows.ts';

const engines: [string, (options?: EngineOptions) => CryptoEngine][] = [
  ['noble', nobleEngine],
  ['node', nodeEngine],
];
const key = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 29 + 5);

describe.each(engines)('engine %s', (name, make) => {
  /** One packet sealed under an SA whose key depends on the key's length alone. */
  function sealed(algorithm: AlgorithmName, esn = false): { packet: Uint8Array; text: string } {
    const engine = make({ legacy: true });
    const number = install(engine, algorithm, key(ALGORITHMS[algorithm].keyLength), esn);
    const bench = new Bench(1);
    toSeal(bench, algorithm, new Uint8Array(64).fill(7), number, 0x1234, 5, esn ? 6 : 0);
    engine.seal(bench.burst);
    return { packet: bench.bytes(0), text: toHex(text(bench, 0, algorithm)) };
  }

  it('has every algorithm, those for old peers only when asked', () => {
    expect(make({ legacy: true }).algorithms).toEqual(ALGORITHM_NAMES);
    const legacy = ALGORITHM_NAMES.filter((n) => ALGORITHMS[n].legacy);
    expect(legacy).toEqual(ALGORITHM_NAMES.filter((n) => n.endsWith('sha1')));
    expect(make().algorithms).toEqual(ALGORITHM_NAMES.filter((n) => !legacy.includes(n)));
    for (const algorithm of legacy)
      expect(() => install(make(), algorithm, key(ALGORITHMS[algorithm].keyLength), false)).toThrow(XfrmError);
  });

  it('refuses another ICV length than the name says, and names that are none', () => {
    const engine = make();
    const k = SaKey.import('aes128gcm16', new Uint8Array(20));
    for (const icvLength of [0, 4, 8, 12, 15, 17])
      expect(() => engine.install('aes128gcm16', k, { esn: false, icvLength })).toThrow(XfrmError);
    for (const none of ['aes128cbc', 'aes128gcm4', 'null', 'constructor'])
      expect(() => engine.install(none as AlgorithmName, k, { esn: false })).toThrow(XfrmError);
  });

  it('forgets a key once', () => {
    const engine = make();
    const number = install(engine, 'aes128gcm16', key(20), false);
    engine.remove(number);
    expect(() => engine.remove(number)).toThrow(RangeError);
    const bench = new Bench(1);
    const r = toSeal(bench, 'aes128gcm16', new Uint8Array(32), number, 1, 1, 0);
    engine.seal(bench.burst);
    expect(bench.slab.rows[r + Row.STATE]).toBe(RowState.TO_SEAL);
    expect(
      bench
        .bytes(0)
        .slice(8)
        .every((x) => x === 0),
    ).toBe(true);
  });

  it('never seals a sealed row and leaves rows with a fate alone', () => {
    const engine = make();
    const number = install(engine, 'aes128gcm16', key(20), false);
    const bench = new Bench();
    toSeal(bench, 'aes128gcm16', new Uint8Array(68), number, 0, 0, 0);
    const b = toSeal(bench, 'aes128gcm16', new Uint8Array(68), number, 0, 0, 0);
    bench.slab.rows[b + Row.FATE] = 1;
    engine.seal(bench.burst);
    const once = toHex(bench.bytes(0));
    engine.seal(bench.burst);
    expect(toHex(bench.bytes(0))).toBe(once);
    expect(bench.bytes(1).every((x) => x === 0)).toBe(true);
  });

  it.each(['aes128gcm', 'aes256gcm'] as const)(
    'cuts the ICV of %s short and changes nothing else (RFC 4106 6)',
    (n) => {
      const whole = toHex(sealed(`${n}16`).packet);
      expect(whole.startsWith(toHex(sealed(`${n}12`).packet))).toBe(true);
      expect(whole.startsWith(toHex(sealed(`${n}8`).packet))).toBe(true);
    },
  );

  it.each([
    ['aes128gcm16', 'aes128gcm16iiv'],
    ['aes192gcm16', 'aes192gcm16iiv'],
    ['aes256ccm8', 'aes256ccm8iiv'],
    ['chacha20poly1305', 'chacha20poly1305iiv'],
  ] as const)('leaves out the IV of %s and changes nothing else (RFC 8750 3)', (explicit, implicit) => {
    for (const esn of [false, true]) {
      const a = sealed(explicit, esn).packet;
      expect(toHex(sealed(implicit, esn).packet)).toBe(toHex(Uint8Array.from([...a.slice(0, 8), ...a.slice(16)])));
    }
  });

  it.each(ALGORITHM_NAMES)('takes no ICV of %s that is shorter than the whole', (algorithm) => {
    const { icvLength } = ALGORITHMS[algorithm];
    const engine = make({ legacy: true });
    const number = install(engine, algorithm, key(ALGORITHMS[algorithm].keyLength), false);
    const { packet } = sealed(algorithm);
    // The packet ends where the memory ends, so that a slice of the ICV comes out short and nothing behind it helps.
    for (const left of [0, 1, 4, 8, 12].filter((n) => n < icvLength)) {
      const short = packet.slice(0, packet.length - icvLength + left);
      const bench = new Bench(1);
      const { slab } = bench;
      const cut = { ...slab, bytes: slab.bytes.subarray(0, slab.headroom + short.length) };
      const r = received(bench, short, number, 0);
      slab.rows[r + Row.END] = slab.headroom + packet.length;
      engine.open({ ...bench.burst, slab: cut });
      expect(slab.rows[r + Row.STATE], `${left} of ${icvLength}`).toBe(RowState.ICV_BAD);
    }
  });

  it.each(ALGORITHM_NAMES.filter((n) => ALGORITHMS[n].iv === 'random'))(
    'draws a new IV for every packet of %s',
    (n) => {
      const engine = make({ legacy: true });
      const number = install(engine, n, key(ALGORITHMS[n].keyLength), false);
      const seen = new Set<string>();
      const ones = new Float64Array(128);
      for (let round = 0; round < 8; round++) {
        const bench = new Bench(128);
        for (let i = 0; i < 128; i++) toSeal(bench, n, new Uint8Array(16), number, 1, 7, 0);
        engine.seal(bench.burst);
        for (let i = 0; i < 128; i++) {
          const iv = bench.bytes(i).slice(8, 24);
          seen.add(toHex(iv));
          for (let bit = 0; bit < 128; bit++) ones[bit] = ones[bit]! + ((iv[bit >> 3]! >> (bit & 7)) & 1);
        }
      }
      expect(seen.size).toBe(1024);
      // 1024 fair coins stay within 8 standard deviations: no bit of the IV follows the number, which is always 7 here.
      for (const count of ones) expect(Math.abs(count - 512)).toBeLessThan(8 * 16);
    },
  );

  it('shows no key to whoever prints it', () => {
    const engine = make({ legacy: true });
    for (const algorithm of ALGORITHM_NAMES)
      install(engine, algorithm, new Uint8Array(ALGORITHMS[algorithm].keyLength).fill(0xc7), true);
    const printed = inspect(engine, { depth: 99, showHidden: true, maxArrayLength: null }) + JSON.stringify(engine);
    expect(printed).toContain(name);
    expect(printed).not.toMatch(/c7|199/);
  });
});
