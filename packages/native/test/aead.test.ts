import { createHmac } from 'node:crypto';
import { constants } from 'node:os';
import { type AeadProvider, nativeEngine, nobleEngine } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { type Burst, createBurst, createSlab, Row, RowState, resetRow } from '@espalier/wire';
import { ALGORITHMS, type AlgorithmName, type CryptoEngine, SaKey } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { random } from '../../../scripts/random.ts';
import { aead, load } from '../src/index.ts';

const addon = aead();
const found = load();
const why = found.binding === null ? `no addon: ${found.reason}` : '';

function rig(frames = 32): { burst: Burst; bytes: Uint8Array; rows: Int32Array } {
  const slab = createSlab({ frames });
  const burst = createBurst(slab, frames);
  burst.length = frames;
  for (let i = 0; i < frames; i++) burst.list[i] = i;
  return { burst, bytes: slab.bytes, rows: slab.rows };
}

const numberOf = (i: number): number => 0xfffffff0 + i;

/** Writes the low half of row `i` into its ESP header. */
function number(bytes: Uint8Array, i: number): void {
  new DataView(bytes.buffer).setUint32(i * 2048 + 260, numberOf(i));
}

/** Row `i` as an ESP packet with `text` bytes of payload. */
function place(
  { bytes, rows }: { bytes: Uint8Array; rows: Int32Array },
  i: number,
  text: number,
  state: RowState,
  key: number,
  algorithm: AlgorithmName = 'aes128gcm16',
): void {
  const start = i * 2048 + 256;
  const { ivLength, icvLength } = ALGORITHMS[algorithm];
  resetRow(rows, i, start, start + 8 + ivLength + text + icvLength, state);
  const r = i * Row.WORDS;
  rows[r + Row.ESP] = start;
  rows[r + Row.KEY] = key;
  rows[r + Row.SEQ_LO] = numberOf(i);
  rows[r + Row.SEQ_HI] = i;
  number(bytes, i);
}

function keyOf(algorithm: AlgorithmName): SaKey {
  return SaKey.import(
    algorithm,
    Uint8Array.from({ length: ALGORITHMS[algorithm].keyLength }, (_, i) => 17 * i + 3),
  );
}

describe.each(['ipsec-mb', 'openssl'] as AeadProvider[])('provider %s', (provider) => {
  const engine = addon === null ? null : nativeEngine(addon, provider);
  const reason =
    why || `${provider} is not on this machine${provider === 'ipsec-mb' ? ': apt-get install libipsec-mb1' : ''}`;
  const here = it.skipIf(engine === null);
  const skipped = engine === null ? ` (skipped: ${reason})` : '';

  here(`seals and opens as noble and node do, all its transforms and lengths, ESN and not${skipped}`, () => {
    const others: CryptoEngine[] = [nobleEngine(), nodeEngine()];
    const next = random(7);
    for (const algorithm of engine!.algorithms)
      for (const esn of [false, true])
        for (let base = 0; base <= 320; base += 32) {
          const { blockLength, iv } = ALGORITHMS[algorithm];
          const fit = (n: number): number => (blockLength === 16 ? n - (n % 16) : n);
          const texts = Array.from({ length: 32 }, (_, i) => fit(base === 320 ? next(1700) : base + i));
          const plain = Uint8Array.from({ length: 32 * 2048 }, () => next(256));
          const seal = (e: CryptoEngine): Uint8Array => {
            const { burst, bytes, rows } = rig();
            bytes.set(plain);
            // SPI and low number are in the header already.
            for (let i = 0; i < 32; i++) number(bytes, i);
            const key = e.install(algorithm, keyOf(algorithm), { esn });
            texts.forEach((t, i) => {
              place({ bytes, rows }, i, t, RowState.TO_SEAL, key, algorithm);
            });
            e.seal(burst);
            for (let i = 0; i < 32; i++) expect(rows[i * Row.WORDS + Row.STATE]).toBe(RowState.SEALED);
            e.remove(key);
            return bytes;
          };
          const open = (e: CryptoEngine, sealed: Uint8Array): void => {
            const { burst, bytes, rows } = rig();
            bytes.set(sealed);
            const key = e.install(algorithm, keyOf(algorithm), { esn });
            texts.forEach((t, i) => {
              place({ bytes, rows }, i, t, RowState.RECEIVED, key, algorithm);
            });
            e.open(burst);
            texts.forEach((t, i) => {
              expect(rows[i * Row.WORDS + Row.STATE]).toBe(RowState.OPENED);
              const at = i * 2048 + 256 + 8 + ALGORITHMS[algorithm].ivLength;
              expect(Buffer.compare(bytes.subarray(at, at + t), plain.subarray(at, at + t))).toBe(0);
            });
            e.remove(key);
          };
          const ours = seal(engine!);
          for (const other of others) {
            const theirs = seal(other);
            if (iv !== 'random') expect(Buffer.compare(ours, theirs)).toBe(0);
            open(engine!, theirs);
            open(other, ours);
          }
        }
  });

  here(`refuses a change of any byte and zeroes the payload, of one packet or the second of six${skipped}`, () => {
    for (const algorithm of engine!.algorithms)
      for (const [packets, bad] of [
        [1, 0],
        [6, 1],
      ] as const) {
        const text = 48;
        const { burst, bytes, rows } = rig(packets);
        const key = engine!.install(algorithm, keyOf(algorithm), { esn: true });
        for (let i = 0; i < packets; i++) place({ bytes, rows }, i, text, RowState.TO_SEAL, key, algorithm);
        engine!.seal(burst);
        const good = bytes.slice();
        const { ivLength } = ALGORITHMS[algorithm];
        const payload = bad * 2048 + 256 + 8 + ivLength;
        for (let at = bad * 2048 + 256; at < rows[bad * Row.WORDS + Row.END]!; at++) {
          bytes.set(good);
          bytes[at] = bytes[at]! ^ (1 << (at & 7));
          for (let i = 0; i < packets; i++) rows[i * Row.WORDS + Row.STATE] = RowState.RECEIVED;
          // The number in the header is read where an implicit IV comes from; rows carry it already.
          engine!.open(burst);
          for (let i = 0; i < packets; i++)
            expect(rows[i * Row.WORDS + Row.STATE]).toBe(i === bad ? RowState.ICV_BAD : RowState.OPENED);
          expect(bytes.subarray(payload, payload + text).every((b) => b === 0)).toBe(true);
        }
        engine!.remove(key);
      }
  });

  here(`takes bursts of any length, of many keys and transforms in any order, as noble does${skipped}`, () => {
    const next = random(11);
    const noble = nobleEngine();
    const names = engine!.algorithms;
    for (const frames of [1, 2, 3, 4, 5, 31, 33, 64, 200]) {
      const mine = rig(frames);
      const theirs = rig(frames);
      const keys = names.map((name, i) => ({
        name,
        ours: engine!.install(name, keyOf(name), { esn: i % 2 === 0 }),
        noble: noble.install(name, keyOf(name), { esn: i % 2 === 0 }),
      }));
      for (let i = 0; i < mine.bytes.length; i++) mine.bytes[i] = next(256);
      for (let i = 0; i < frames; i++) number(mine.bytes, i);
      const plain = mine.bytes.slice();
      // Runs of up to nine rows of one key.
      let left = 0;
      let key = keys[0]!;
      const of = Array.from({ length: frames }, (_, i) => {
        if (left-- <= 0) {
          left = next(9);
          key = keys[next(keys.length)]!;
        }
        const text = 16 * next(90);
        place(mine, i, text, RowState.TO_SEAL, key.ours, key.name);
        place(theirs, i, text, RowState.RECEIVED, key.noble, key.name);
        return { key, text };
      });
      // Listed twice, it is sealed once.
      const twice = Int32Array.from([...mine.burst.list, ...mine.burst.list]);
      engine!.seal({ ...mine.burst, list: twice, length: 2 * frames });
      for (let i = 0; i < frames; i++) expect(mine.rows[i * Row.WORDS + Row.STATE]).toBe(RowState.SEALED);
      theirs.bytes.set(mine.bytes);
      noble.open(theirs.burst);
      for (let i = 0; i < frames; i++) mine.rows[i * Row.WORDS + Row.STATE] = RowState.RECEIVED;
      engine!.open({ ...mine.burst, list: twice, length: 2 * frames });
      of.forEach(({ key, text }, i) => {
        const at = i * 2048 + 256 + 8 + ALGORITHMS[key.name].ivLength;
        for (const { bytes, rows } of [mine, theirs]) {
          expect(rows[i * Row.WORDS + Row.STATE]).toBe(RowState.OPENED);
          expect(Buffer.compare(bytes.subarray(at, at + text), plain.subarray(at, at + text))).toBe(0);
        }
      });
      for (const { ours, noble: number } of keys) {
        engine!.remove(ours);
        noble.remove(number);
      }
    }
  });

  here(`takes what of a CBC packet is no whole block, or nothing at all, for a later check to refuse${skipped}`, () => {
    const name = 'aes128cbc-sha256';
    if (!engine!.algorithms.includes(name)) return;
    const noble = nobleEngine();
    const keyBytes = Uint8Array.from({ length: ALGORITHMS[name].keyLength }, (_, i) => 17 * i + 3);
    const { burst, bytes, rows } = rig(8);
    const key = engine!.install(name, SaKey.import(name, keyBytes), { esn: true });
    // An ICV that holds over 0 to 7 bytes more than a block, or over none: as only whoever has the key can make.
    for (let i = 0; i < 8; i++) {
      const text = i === 7 ? 0 : 16 + i;
      place({ bytes, rows }, i, text, RowState.RECEIVED, key, name);
      const start = i * 2048 + 256;
      const mac = createHmac('sha256', keyBytes.subarray(16));
      mac.update(bytes.subarray(start, start + 24 + text)).update(Uint8Array.of(0, 0, 0, i));
      bytes.set(mac.digest().subarray(0, 16), start + 24 + text);
    }
    const other = rig(8);
    other.bytes.set(bytes);
    other.rows.set(rows);
    const theirs = noble.install(name, SaKey.import(name, keyBytes), { esn: true });
    for (let i = 0; i < 8; i++) other.rows[i * Row.WORDS + Row.KEY] = theirs;
    engine!.open(burst);
    noble.open(other.burst);
    for (let i = 0; i < 8; i++) expect(rows[i * Row.WORDS + Row.STATE]).toBe(other.rows[i * Row.WORDS + Row.STATE]);
    expect(Buffer.compare(bytes, other.bytes)).toBe(0);
    expect(rows[Row.STATE]).toBe(RowState.OPENED);
    engine!.remove(key);
    noble.remove(theirs);
  });

  here(`draws another IV for every CBC packet, in every burst${skipped}`, () => {
    if (!engine!.algorithms.includes('aes128cbc-sha256')) return;
    const { burst, bytes, rows } = rig(32);
    const key = engine!.install('aes128cbc-sha256', keyOf('aes128cbc-sha256'), { esn: true });
    const ivs = new Set<string>();
    let sealed = 0;
    for (let length = 1; length <= 32; length++) {
      burst.length = length;
      sealed += length;
      for (let i = 0; i < length; i++) place({ bytes, rows }, i, 64, RowState.TO_SEAL, key, 'aes128cbc-sha256');
      engine!.seal(burst);
      for (let i = 0; i < length; i++)
        ivs.add(Buffer.from(bytes.subarray(i * 2048 + 264, i * 2048 + 280)).toString('hex'));
    }
    expect(ivs.size).toBe(sealed);
    engine!.remove(key);
  });

  here(`leaves alone what is not its to seal or open${skipped}`, () => {
    const { burst, bytes, rows } = rig(6);
    const key = engine!.install('aes128gcm16', keyOf('aes128gcm16'), { esn: false });
    place({ bytes, rows }, 0, 64, RowState.SEALED, key);
    place({ bytes, rows }, 1, 64, RowState.TO_SEAL, 0);
    place({ bytes, rows }, 2, 64, RowState.TO_SEAL, key);
    rows[2 * Row.WORDS + Row.FATE] = 5;
    place({ bytes, rows }, 3, 64, RowState.TO_SEAL, 0x7fffffff);
    place({ bytes, rows }, 4, 64, RowState.TO_SEAL, key);
    rows[4 * Row.WORDS + Row.END] = 0x7fffffff;
    place({ bytes, rows }, 5, 64, RowState.TO_SEAL, key);
    rows[5 * Row.WORDS + Row.ESP] = -4;
    const before = bytes.slice();
    const states = [0, 1, 2, 3, 4, 5].map((i) => rows[i * Row.WORDS + Row.STATE]);
    engine!.seal(burst);
    engine!.open(burst);
    expect(Buffer.compare(before, bytes)).toBe(0);
    expect([0, 1, 2, 3, 4, 5].map((i) => rows[i * Row.WORDS + Row.STATE])).toEqual(states);
    engine!.remove(key);
  });

  here(`touches what lies from IV to ICV inside a row alone, and no row that is too short for them${skipped}`, () => {
    const next = random(23);
    for (const algorithm of engine!.algorithms)
      for (const packets of [1, 5]) {
        const { burst, bytes, rows } = rig(packets);
        for (let i = 0; i < bytes.length; i++) bytes[i] = next(256);
        for (let i = 0; i < packets; i++) number(bytes, i);
        const before = bytes.slice();
        const key = engine!.install(algorithm, keyOf(algorithm), { esn: true });
        const { ivLength, icvLength } = ALGORITHMS[algorithm];
        const overhead = 8 + ivLength + icvLength;
        const states = (state: RowState, expected: RowState): void => {
          for (let i = 0; i < packets; i++) rows[i * Row.WORDS + Row.STATE] = state;
          if (state === RowState.TO_SEAL) engine!.seal(burst);
          else engine!.open(burst);
          for (let i = 0; i < packets; i++) expect(rows[i * Row.WORDS + Row.STATE]).toBe(expected);
        };
        for (const text of [-1, -icvLength, -icvLength - 1, -overhead, -overhead - 1]) {
          for (let i = 0; i < packets; i++) place({ bytes, rows }, i, text, RowState.TO_SEAL, key, algorithm);
          states(RowState.TO_SEAL, RowState.TO_SEAL);
          states(RowState.RECEIVED, RowState.ICV_BAD);
          expect(Buffer.compare(before, bytes)).toBe(0);
        }
        // In the middle of a frame, and at the end of the memory.
        for (const gap of [500, 0]) {
          bytes.set(before);
          for (let i = 0; i < packets; i++) {
            place({ bytes, rows }, i, 32, RowState.TO_SEAL, key, algorithm);
            rows[i * Row.WORDS + Row.ESP] = i * 2048 + 2048 - gap - overhead - 32;
            rows[i * Row.WORDS + Row.END] = i * 2048 + 2048 - gap;
            new DataView(bytes.buffer).setUint32(rows[i * Row.WORDS + Row.ESP]! + 4, numberOf(i));
          }
          const laid = bytes.slice();
          const outside = (): void => {
            for (let i = 0; i < packets; i++) {
              const [start, end] = [rows[i * Row.WORDS + Row.ESP]!, rows[i * Row.WORDS + Row.END]!];
              for (const [a, b] of [
                [i * 2048, start + 8],
                [end, i * 2048 + 2048],
              ] as const)
                expect(Buffer.compare(bytes.subarray(a, b), laid.subarray(a, b))).toBe(0);
            }
          };
          states(RowState.TO_SEAL, RowState.SEALED);
          outside();
          states(RowState.RECEIVED, RowState.OPENED);
          outside();
        }
        rows[(packets - 1) * Row.WORDS + Row.END]!++;
        rows[(packets - 1) * Row.WORDS + Row.ESP]!++;
        rows[(packets - 1) * Row.WORDS + Row.STATE] = RowState.TO_SEAL;
        engine!.seal({ ...burst, list: burst.list.subarray(packets - 1), length: 1 });
        expect(rows[(packets - 1) * Row.WORDS + Row.STATE]).toBe(RowState.TO_SEAL);
        engine!.remove(key);
      }
  });

  here(`gives a removed key's number out again, and none that lives${skipped}`, () => {
    const keys = Array.from({ length: 200 }, () =>
      engine!.install('chacha20poly1305', keyOf('chacha20poly1305'), { esn: true }),
    );
    expect(new Set(keys).size).toBe(200);
    engine!.remove(keys[50]!);
    expect(engine!.install('aes256gcm16', keyOf('aes256gcm16'), { esn: false })).toBe(keys[50]);
    for (const key of keys) engine!.remove(key);
  });
});

describe('a provider', () => {
  it.skipIf(addon === null)('that is on this machine gives the known answers', () => {
    // -ENOSYS: found, but of a version that nobody has tried, or wrong.
    for (const number of [1, 2]) expect([0, -constants.errno.ENOENT]).toContain(addon!.ready(number));
  });
});

describe('the entry points', () => {
  it.skipIf(addon === null)('answer nonsense with a TypeError', () => {
    const list = new Int32Array(4);
    const calls: (() => unknown)[] = [
      () => addon!.ready(0),
      () => addon!.ready(99),
      () => addon!.install(null as never, 1, 1, 0, 8, 16, 4, 0),
      () => addon!.install(new Float64Array(20) as never, 1, 1, 0, 8, 16, 4, 0),
      () => addon!.install(new Uint8Array(20), 7, 1, 0, 8, 16, 4, 0),
      () => addon!.install(new Uint8Array(20), 2, 1, 0, 99, 16, 4, 0),
      () => addon!.install(new Uint8Array(2), 2, 1, 0, 8, 16, 4, 0),
      () => addon!.install(new Uint8Array(20), 2, 1, 0, 8, 3, 4, 0),
      () => addon!.remove(0),
      () => addon!.remove(-1),
      () => addon!.remove(1 << 30),
      () => addon!.seal(-1, list, 1),
      () => addon!.seal(65_535, list, 1),
      () => addon!.open(0, new Uint8Array(4) as never, 1),
      () => addon!.open(0, list, 5),
      () => addon!.open(0, list, -1),
      () => (addon!.seal as unknown as () => void)(),
    ];
    const { burst } = rig(4);
    addon!.slabId(burst.slab);
    for (const call of calls) expect(call).toThrow(TypeError);
  });

  it.skipIf(addon === null)('take rows of any content without a crash', () => {
    const next = random(99);
    const { burst, rows } = rig(64);
    const id = addon!.slabId(burst.slab);
    const key = addon!.install(new Uint8Array(20), 2, 1, 1, 8, 16, 4, 0);
    expect(key).toBeGreaterThan(0);
    for (let round = 0; round < 20_000; round++) {
      for (let i = 0; i < 64; i++) {
        const r = i * Row.WORDS;
        burst.list[i] = next(8) === 0 ? next(2 ** 32) | 0 : next(64);
        rows[r + Row.ESP] = next(3) === 0 ? next(2 ** 32) | 0 : next(64 * 2048);
        rows[r + Row.END] = next(3) === 0 ? next(2 ** 32) | 0 : rows[r + Row.ESP]! + next(2100);
        rows[r + Row.KEY] = next(4) === 0 ? next(2 ** 32) | 0 : key;
        rows[r + Row.STATE] = next(2) === 0 ? RowState.TO_SEAL : RowState.RECEIVED;
        rows[r + Row.FATE] = 0;
      }
      addon!.seal(id, burst.list, 64);
      addon!.open(id, burst.list, 64);
    }
    addon!.remove(key);
  });
});
