// Every engine against every other. Budget: 6 s.
import { Row, RowState } from '@espalier/wire';
import { ALGORITHM_NAMES, ALGORITHMS, type AlgorithmName, type CryptoEngine } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { Bench, random } from './bench-rows.ts';
import { HERE, MISSING } from './every-engine.ts';
import { install, received, text, toSeal } from './rows.ts';

const make: Record<string, () => CryptoEngine> = Object.fromEntries(
  HERE.map(([name, maker]) => [name, () => maker({ legacy: true })]),
);
const having = (algorithm: AlgorithmName): string[] =>
  Object.keys(make).filter((name) => make[name]!().algorithms.includes(algorithm));
/** Every engine to every other. */
const pairsOf = (algorithm: AlgorithmName): (readonly [string, string])[] =>
  having(algorithm).flatMap((from) =>
    having(algorithm)
      .filter((to) => to !== from)
      .map((to) => [from, to] as const),
  );
const LONGEST = 300;

it.skip.each(MISSING)('engine %s', () => {});

describe.each(ALGORITHM_NAMES)('%s', (algorithm) => {
  const { keyLength, blockLength, ivLength, icvLength, iv, cipher } = ALGORITHMS[algorithm];
  const next = random(keyLength * 7 + icvLength);
  const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, () => next(256));

  it.each(pairsOf(algorithm))(
    'sealed by %s is opened by %s, at every length from 0 to 300, with and without ESN',
    (from, to) => {
      const material = bytes(keyLength);
      for (const esn of [false, true]) {
        const a = make[from]!();
        const b = make[to]!();
        const keyA = install(a, algorithm, material, esn);
        const keyB = install(b, algorithm, material, esn);
        const bench = new Bench(LONGEST + 1);
        const other = new Bench(LONGEST + 1);
        const texts: Uint8Array[] = [];
        for (let n = 0; n <= LONGEST; n += blockLength === 16 ? 16 : 1) {
          const plain = bytes(n);
          texts.push(plain);
          // A start that is not a multiple of 4 now and then, as behind an Ethernet header.
          const numbers = [next(2 ** 32), next(2 ** 32) | 0, esn ? next(1 << 20) : 0] as const;
          toSeal(bench, algorithm, plain, keyA, ...numbers);
          toSeal(other, algorithm, plain, keyB, ...numbers);
        }
        a.seal(bench.burst);
        b.seal(other.burst);
        const wrong: string[] = [];
        const demand = (holds: boolean, i: number, what: string): void => {
          if (!holds) wrong.push(`${texts[i]!.length} bytes: ${what}`);
        };
        texts.forEach((plain, i) => {
          const r = bench.burst.list[i]! * Row.WORDS;
          demand(bench.at(i, Row.STATE) === RowState.SEALED, i, 'not sealed');
          // A random IV makes two seals differ; everything else is a function of key, number and text.
          const same = Buffer.compare(bench.bytes(i), other.bytes(i)) === 0;
          demand(same === (iv !== 'random'), i, `${from} and ${to} ${same ? 'agree' : 'differ'}`);
          const view = bench.slab.view;
          const [hi, lo] = [8, 12].map((at) => view.getInt32(bench.at(i, Row.ESP) + at));
          if (iv === 'number')
            demand(hi === bench.at(i, Row.SEQ_HI) && lo === bench.at(i, Row.SEQ_LO), i, 'the IV is not the number');
          const clear = Buffer.compare(text(bench, i, algorithm), plain) === 0;
          if (plain.length >= 8)
            demand(clear === (cipher === 'null' || cipher === 'aes-gmac'), i, clear ? 'in the clear' : 'changed');
          bench.slab.rows[r + Row.STATE] = RowState.RECEIVED;
          bench.slab.rows[r + Row.KEY] = keyB;
        });
        b.open(bench.burst);
        texts.forEach((plain, i) => {
          demand(bench.at(i, Row.STATE) === RowState.OPENED, i, `${to} did not open it`);
          demand(Buffer.compare(text(bench, i, algorithm), plain) === 0, i, 'opened to something else');
        });
        expect(wrong).toEqual([]);
      }
    },
  );

  it.each(having(algorithm))('lets %s open a packet under the number of its row only', (name) => {
    const material = bytes(keyLength);
    for (const esn of [false, true]) {
      const engine = make[name]!();
      const key = install(engine, algorithm, material, esn);
      const bench = new Bench();
      for (const number of [7, 8]) toSeal(bench, algorithm, bytes(48), key, 0x1234_5678, number, 0);
      engine.seal(bench.burst);
      const [seven, eight] = [bench.bytes(0), bench.bytes(1)];
      bench.clear();
      // Once the row is judged somebody puts another packet in its place, or another number into it.
      const swapped = received(bench, seven, key, 0);
      bench.slab.bytes.set(eight, bench.slab.rows[swapped + Row.START]!);
      const renamed = received(bench, seven, key, 0);
      bench.slab.rows[renamed + Row.SEQ_LO] = 8;
      received(bench, seven, key, 0);
      engine.open(bench.burst);
      const { OPENED, ICV_BAD } = RowState;
      expect([0, 1, 2].map((i) => bench.at(i, Row.STATE))).toEqual([ICV_BAD, ICV_BAD, OPENED]);
      for (const i of [0, 1]) expect(text(bench, i, algorithm).every((x) => x === 0)).toBe(true);
    }
  });

  it.each(having(algorithm))('lets %s refuse every tampered byte and zero what it refused', (name) => {
    const material = bytes(keyLength);
    for (const esn of [false, true]) {
      const engine = make[name]!();
      const key = install(engine, algorithm, material, esn);
      const bench = new Bench(256);
      toSeal(bench, algorithm, bytes(48), key, 0x1234_5678, 7, esn ? 3 : 0);
      engine.seal(bench.burst);
      const good = bench.bytes(0);
      bench.clear();
      for (let at = 0; at < good.length; at++) {
        const bad = good.slice();
        bad[at] = bad[at]! ^ (1 << (at & 7));
        received(bench, bad, key, esn ? 3 : 0);
      }
      if (esn) received(bench, good, key, 4);
      for (const cut of [1, 4, blockLength, 16]) received(bench, good.slice(0, -cut), key, esn ? 3 : 0);
      for (let length = 8; length < 8 + ivLength + icvLength; length++) received(bench, good.slice(0, length), key, 0);
      received(bench, good, key, esn ? 3 : 0);
      engine.open(bench.burst);
      const last = bench.burst.length - 1;
      for (let i = 0; i < last; i++) {
        expect(bench.at(i, Row.STATE), `row ${i}`).toBe(RowState.ICV_BAD);
        const whole = bench.bytes(i).length >= 8 + ivLength + icvLength;
        if (whole) expect(text(bench, i, algorithm).every((x) => x === 0)).toBe(true);
      }
      expect(bench.at(last, Row.STATE)).toBe(RowState.OPENED);
    }
  });
});

it('agrees on an SA that is busy, however many of those there are, and on those after it', () => {
  // noble's GCM changes its tables after 4096 packets of an SA, for up to 32 SAs at a time.
  const engines = ['noble', 'node'].map((name) => make[name]!());
  const next = random(5);
  const bench = [0, 1].map(() => new Bench(64));
  for (let sa = 0; sa < 40; sa++) {
    const material = Uint8Array.from({ length: 20 }, () => next(256));
    const keys = engines.map((e) => install(e, 'aes128gcm16', material, false));
    for (let packet = 0; packet < 4096 + 64; packet += 64) {
      if (sa > 1 && packet >= 64 && packet < 4096) {
        // Node need not seal what is not compared.
        bench[0]!.clear();
        for (let i = 0; i < 64; i++) toSeal(bench[0]!, 'aes128gcm16', new Uint8Array(2), keys[0]!, sa, packet + i, 0);
        engines[0]!.seal(bench[0]!.burst);
        continue;
      }
      const plain = Uint8Array.from({ length: 40 }, () => next(256));
      engines.forEach((e, n) => {
        bench[n]!.clear();
        for (let i = 0; i < 64; i++) toSeal(bench[n]!, 'aes128gcm16', plain, keys[n]!, sa, packet + i, 0);
        e.seal(bench[n]!.burst);
      });
      for (let i = 0; i < 64; i++) expect(Buffer.compare(bench[0]!.bytes(i), bench[1]!.bytes(i))).toBe(0);
    }
    if (sa % 3 === 0) engines[0]!.remove(keys[0]!);
  }
});
