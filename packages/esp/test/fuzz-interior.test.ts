/**
 * Hostile interiors under a valid ICV against a plain second opinion: fast-check makes them, and shrinks what fails.
 * 4,000 of them in about 2 s; ESPALIER_FUZZ says how many frames fuzz.test.ts gets, and this a tenth; ESPALIER_SEED repeats.
 */
import { ReplayWindow } from '@espalier/replay';
import { Row, RowState } from '@espalier/wire';
import { ALGORITHMS, type AlgorithmName, dropName, SaKey } from '@espalier/xfrm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EspPath } from '../src/index.ts';
import { Bench, ipv4, ipv6 } from './bench-rows.ts';
import { FUZZED, whole } from './every-engine.ts';
import { V4 } from './rig.ts';
import { toSeal } from './rows.ts';

const RUNS = Number(process.env.ESPALIER_FUZZ ?? (process.env.ESPALIER_LONG === '1' ? 5_000_000 : 40_000)) / 10;
const SEED = Number(process.env.ESPALIER_SEED ?? 0xe5b);
const SPI = 0x1001;

/** What shall become of a tunnel's plaintext, written from RFC 4303 2.4, 2.6, 2.7 and 3.4.4.1, RFC 791, RFC 8200. */
function opinion(plain: Uint8Array, block: number): { fate: string; inner: Uint8Array } {
  const drop = (fate: string): { fate: string; inner: Uint8Array } => ({ fate, inner: new Uint8Array(0) });
  if (plain.length % block !== 0) return drop('BAD_LENGTH');
  if (plain.length < 2) return drop('BAD_PAD');
  const [pad, next] = [plain[plain.length - 2]!, plain[plain.length - 1]!];
  if (pad > plain.length - 2) return drop('BAD_PAD');
  const text = plain.slice(0, plain.length - 2 - pad);
  const padding = plain.slice(text.length, plain.length - 2);
  if (!padding.every((byte, i) => byte === i + 1)) return drop('BAD_PAD');
  if (next === 59) return drop('DUMMY');
  if (next !== 4 && next !== 41) return drop('BAD_NEXT_HEADER');
  if (next === 4) {
    if (text.length < 20 || text[0]! >> 4 !== 4) return drop('BAD_INNER');
    const header = (text[0]! & 15) * 4;
    const length = (text[2]! << 8) | text[3]!;
    if (header < 20 || length < header || length > text.length) return drop('BAD_INNER');
    return { fate: 'NONE', inner: text.slice(0, length) };
  }
  if (text.length < 40 || text[0]! >> 4 !== 6) return drop('BAD_INNER');
  const length = 40 + ((text[4]! << 8) | text[5]!);
  return length > text.length ? drop('BAD_INNER') : { fate: 'NONE', inner: text.slice(0, length) };
}

const rarely = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | null> =>
  fc.oneof({ weight: 6, arbitrary: fc.constant(null) }, arbitrary);

/** A packet, some of its bytes changed, cut, and a trailer that may lie. */
const interior = fc
  .record({
    packet: fc.oneof(
      fc.integer({ min: 20, max: 90 }).map((n) => ipv4(n)),
      fc.integer({ min: 40, max: 90 }).map((n) => ipv6(n)),
      fc.uint8Array({ maxLength: 60 }),
    ),
    changes: fc.array(fc.tuple(fc.nat(47), fc.nat(255)), { maxLength: 2 }),
    cut: rarely(fc.nat(90)),
    tfc: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(40)),
    pad: rarely(fc.nat(255)),
    padding: rarely(fc.tuple(fc.nat(12), fc.nat(255))),
    next: fc.oneof(fc.constantFrom(4, 41, 59, 17), fc.nat(255), { weight: 6, arbitrary: fc.constant(-1) }),
    part: fc.oneof({ weight: 20, arbitrary: fc.constant(0) }, fc.nat(15)),
  })
  .map(({ packet, changes, cut, tfc, pad, padding, next, part }) => {
    for (const [at, value] of changes) if (at < packet.length) packet[at] = value;
    const body = cut === null ? packet : packet.slice(0, cut);
    const length = body.length + tfc;
    const fill = (16 - ((length + 2) % 16)) % 16;
    const text = new Uint8Array(length + fill + 2);
    text.set(body);
    for (let i = 0; i < fill; i++) text[length + i] = i + 1;
    if (padding !== null && padding[0] < fill) text[length + padding[0]] = padding[1];
    text[length + fill] = pad ?? fill;
    text[length + fill + 1] = next < 0 ? (packet[0]! >> 4 === 6 ? 41 : 4) : next;
    return text.slice(part);
  });

describe.each(FUZZED)('a hostile interior under a valid ICV, engine %s', (name) => {
  it.each(['aes128gcm16', 'aes256cbc-sha256', 'null-sha256', 'chacha20poly1305'] as const)(
    'meets the verdict of a plain second opinion, byte for byte, in %s',
    (algorithm: AlgorithmName) => {
      const { keyLength, icvLength, blockLength } = ALGORITHMS[algorithm];
      const key = SaKey.import(algorithm, new Uint8Array(keyLength).fill(5));
      // CBC seals whole blocks only: what is none it cannot make, and bad-input.test.ts does.
      const block = blockLength === 16 ? 16 : 1;
      const [sealer, opener] = [whole(name), whole(name)];
      const number = sealer.install(algorithm, key, { esn: true, icvLength });
      const window = ReplayWindow.create({ size: 64, esn: true });
      const bench = new Bench(1);
      const path = new EspPath({ slab: bench.slab, engine: opener, maxSas: 1, linkType: 'esp-udp', offloads: null });
      path.addInbound({
        slot: 0,
        spi: SPI,
        ...V4,
        mode: 'tunnel',
        algorithm,
        icvLength,
        esn: true,
        key: key.share(),
        encap: null,
        window: { memory: window.memory, offset: 0 },
      });
      const met = new Map<string, number>();
      let seq = 0;
      fc.assert(
        fc.property(interior, (text) => {
          const plain = block === 16 ? text.slice(0, text.length - (text.length % 16)) : text;
          bench.clear();
          const r = toSeal(bench, algorithm, plain, number, SPI, ++seq, 0);
          sealer.seal(bench.burst);
          const { rows } = bench.slab;
          rows[r + Row.STATE] = RowState.RECEIVED;
          rows[r + Row.SEQ_HI] = -1;
          path.inbound(bench.burst);
          const want = opinion(plain, block);
          const fate = dropName(rows[r + Row.FATE]!);
          met.set(fate, (met.get(fate) ?? 0) + 1);
          expect(fate).toBe(want.fate);
          // The number is used up whatever was inside.
          expect(window.top()).toBe(seq);
          if (fate === 'NONE') expect(Buffer.compare(bench.bytes(0), want.inner)).toBe(0);
        }),
        { numRuns: Math.ceil(RUNS / 4), seed: SEED },
      );
      console.log(`${name}, ${algorithm}, seed ${SEED}: ${[...met].map((m) => m.join(' ')).join(', ')}`);
      for (const fate of ['NONE', 'BAD_PAD', 'BAD_INNER', 'BAD_NEXT_HEADER', 'DUMMY'])
        expect(met.get(fate), fate).toBeGreaterThan(0);
    },
    3_600_000,
  );
});
