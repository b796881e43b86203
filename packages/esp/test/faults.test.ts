/**
 * Faults of the catalogue that no other test is about: fault-catalogue.test.ts says which. Budget: 4 s; ESPALIER_LONG=1 makes
 * the floods and the churn ten times as long.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ReplayWindow, Verdict } from '@espalier/replay';
import { checksum, createSlab, Row, RowState } from '@espalier/wire';
import { ALGORITHM_NAMES, ALGORITHMS, createPortStats, DropReason, type Sa, SaKey, XfrmError } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { nodeEngine } from '../src/engines/node.ts';
import {
  AuditRing,
  EspPath,
  type InboundTicket,
  PathMtu,
  RateLimit,
  SaStat,
  SoftOffload,
  SoftOffloadPort,
} from '../src/index.ts';
import { Bench, ipv4, random, toHex } from './bench-rows.ts';
import { HERE } from './every-engine.ts';
import { type Rig, receive, rig, send, V4, V6, viewOf } from './rig.ts';
import { install, text, toSeal } from './rows.ts';

const MANY = process.env.ESPALIER_LONG === '1' ? 1_000_000 : 100_000;
const PACKET = ipv4(60);
const THROUGH = toHex(PACKET);

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Bytes alive after a collection. */
function alive(): number {
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** The frame with its IPv4 header changed and, unless said, its checksum right again. */
function outer(frame: Uint8Array, change: (header: DataView) => void, mend = true): Uint8Array {
  const copy = frame.slice();
  const view = new DataView(copy.buffer, 14);
  change(view);
  if (!mend) return copy;
  const length = Math.min((view.getUint8(0) & 15) * 4, copy.length - 14);
  view.setUint16(10, 0);
  view.setUint16(10, checksum(view, 0, length));
  return copy;
}

/** The frame with `options` behind its IPv4 header, 4 to 40 bytes. */
function optioned(frame: Uint8Array, options: number): Uint8Array {
  const longer = new Uint8Array(frame.length + options);
  longer.set(frame.subarray(0, 34));
  longer.fill(1, 34, 34 + options);
  longer.set(frame.subarray(34), 34 + options);
  return outer(longer, (v) => {
    v.setUint8(0, 0x45 + options / 4);
    v.setUint16(2, longer.length - 14);
  });
}

describe('an outer header', () => {
  it('of IPv4 is taken with every length of options, and refused with one that cannot be, before the SA is looked for', () => {
    const r = rig();
    for (let options = 4; options <= 40; options += 4)
      expect(receive(r, optioned(send(r, PACKET)[0]!, options)), `${options} bytes`).toEqual([THROUGH]);
    const [frame] = send(r, PACKET);
    for (let ihl = 0; ihl < 5; ihl++)
      expect(
        receive(
          r,
          outer(frame!, (v) => v.setUint8(0, 0x40 + ihl), false),
        ),
      ).toEqual(['BAD_OUTER']);
    // Options that reach behind the packet.
    const short = outer(frame!, (v) => v.setUint16(2, 40), false);
    expect(
      receive(
        r,
        outer(short, (v) => v.setUint8(0, 0x4f), false),
      ),
    ).toEqual(['BAD_OUTER']);
    expect(
      receive(
        r,
        outer(frame!, (v) => v.setUint16(10, v.getUint16(10) ^ 1), false),
      ),
    ).toEqual(['BAD_OUTER']);
    expect(
      receive(
        r,
        outer(frame!, (v) => v.setUint16(2, frame!.length)),
      ),
    ).toEqual(['TRUNCATED']);
    expect(receive(r, frame!)).toEqual([THROUGH]);
  });

  it('of IPv6 is walked past hop-by-hop, routing and destination options, and not for ever', () => {
    const r = rig(V6, V6);
    const chain = (frame: Uint8Array, kinds: number[]): Uint8Array => {
      const longer = new Uint8Array(frame.length + 8 * kinds.length);
      longer.set(frame.subarray(0, 54));
      longer.set(frame.subarray(54), 54 + 8 * kinds.length);
      longer[20] = kinds[0]!;
      kinds.forEach((_kind, i) => {
        longer.set([kinds[i + 1] ?? 50, 0, 1, 4, 0, 0, 0, 0], 54 + 8 * i);
      });
      viewOf(longer).setUint16(18, longer.length - 54);
      return longer;
    };
    for (const kinds of [[0], [43], [60], [0, 60, 43, 60]])
      expect(receive(r, chain(send(r, PACKET)[0]!, kinds)), `${kinds}`).toEqual([THROUGH]);
    const [frame] = send(r, PACKET);
    const endless = chain(frame!, new Array<number>(64).fill(60));
    expect(receive(r, endless)).toEqual(['BAD_OUTER']);
    expect(receive(r, chain(frame!, [44]))).toEqual(['FRAGMENT']);
    expect(receive(r, frame!)).toEqual([THROUGH]);
  });
});

describe.each(HERE)('opening in place, engine %s', (_, make) => {
  it('leaves SPI and number where they were, ESN or not: the window is told the one that was verified', () => {
    const engine = make({ legacy: true });
    for (const algorithm of ALGORITHM_NAMES.filter((name) => engine.algorithms.includes(name)))
      for (const esn of [false, true]) {
        const bench = new Bench(1);
        const number = install(engine, algorithm, new Uint8Array(ALGORITHMS[algorithm].keyLength).fill(3), esn);
        const plain = new Uint8Array(48).fill(0x41);
        const r = toSeal(bench, algorithm, plain, number, 0x1234_5678, 0x9abc_def0, esn ? 7 : 0);
        engine.seal(bench.burst);
        bench.slab.rows[r + Row.STATE] = RowState.RECEIVED;
        engine.open(bench.burst);
        expect(bench.at(0, Row.STATE), algorithm).toBe(RowState.OPENED);
        expect(toHex(bench.bytes(0).slice(0, 8)), algorithm).toBe('123456789abcdef0');
        expect([bench.at(0, Row.SEQ_LO), bench.at(0, Row.SEQ_HI)]).toEqual([0x9abc_def0 | 0, esn ? 7 : 0]);
        expect(toHex(text(bench, 0, algorithm))).toBe(toHex(plain));
        engine.remove(number);
      }
  });
});

describe('numbers', () => {
  it('of 0 are refused, without ESN and in the first subspace with it', () => {
    for (const esn of [false, true]) {
      const r = rig({ esn }, { esn });
      const [frame] = send(r, PACKET);
      const zero = frame!.slice();
      viewOf(zero).setUint32(14 + 20 + 4, 0);
      const [fate] = receive(r, zero);
      expect(['INVALID', 'REPLAYED']).toContain(fate);
      expect(r.bench.at(0, Row.STATE)).toBe(RowState.RECEIVED);
      expect(receive(r, frame!)).toEqual([THROUGH]);
    }
  });

  it('have a window of exactly its size, any legal one, and no other size makes a window', () => {
    for (const size of [32, 33, 64, 65, 128, 1000, 1024, 4096, 65_536, 1 << 20]) {
      const window = ReplayWindow.create({ size, esn: true });
      const top = 3 * size;
      expect(window.commit(top)).toBe(Verdict.ACCEPT);
      expect(window.check(top - size), `${size}`).toBe(Verdict.STALE);
      expect(window.commit(top - size + 1), `${size}`).toBe(Verdict.ACCEPT);
      expect(window.commit(top - size + 1), `${size}`).toBe(Verdict.REPLAYED);
    }
    for (const size of [0, -1, 1, 31, 64.5, Number.NaN, Number.POSITIVE_INFINITY, (1 << 20) + 1])
      expect(() => ReplayWindow.create({ size, esn: true }), `${size}`).toThrow(RangeError);
  });

  it('that jump cost what numbers in order cost, however far they jump', () => {
    const size = 4096;
    const least = (jump: number): number => {
      let fastest = Number.POSITIVE_INFINITY;
      for (let round = 0; round < 20; round++) {
        const window = ReplayWindow.create({ size, esn: true });
        let seq = 0;
        const began = process.hrtime.bigint();
        for (let i = 0; i < 500; i++) if (window.commit((seq += jump)) !== Verdict.ACCEPT) throw new Error(`${seq}`);
        fastest = Math.min(fastest, Number(process.hrtime.bigint() - began));
      }
      return fastest;
    };
    least(1);
    const step = least(1);
    // A bitmap that is cleared on the way would take a hundred times as long from the size of the window on.
    for (const jump of [size - 1, size, size + 1, 2 ** 20, 2 ** 31])
      expect(least(jump) / step, `${jump}`).toBeLessThan(10);
  });

  it('are not banked by a worker that idles: what it sends when it wakes is fresh for the smallest window', () => {
    const r = rig();
    const idle = rig({ allocator: { memory: r.allocator.memory, offset: 0 } });
    const small = ReplayWindow.create({ size: 64, esn: true });
    const receiver = rig({}, { window: { memory: small.memory, offset: 0 } });
    const sent = [...send(idle, PACKET)];
    for (let i = 0; i < 40; i++) sent.push(...send(r, ...new Array<Uint8Array>(25).fill(PACKET)));
    sent.push(...send(idle, PACKET, PACKET), ...send(r, PACKET));
    for (const frame of sent) expect(receive(receiver, frame)).toEqual([THROUGH]);
    expect(small.top()).toBe(1004);
  });

  it('are burnt and counted when nobody takes the sealed packet, and never sent with another one', () => {
    const r = rig();
    const numberOf = (frame: Uint8Array): number => viewOf(frame).getUint32(14 + 20 + 4);
    const [burnt] = send(r, PACKET);
    r.bench.slab.rows[r.bench.burst.list[0]! * Row.WORDS + Row.FATE] = DropReason.NO_ROOM;
    r.a.countUnsent(r.bench.burst);
    const [next] = send(r, ipv4(80));
    expect([numberOf(burnt!), numberOf(next!)]).toEqual([1, 2]);
    expect(r.a.stats[3 * SaStat.COLUMNS + SaStat.DROPS + DropReason.NO_ROOM]).toBe(1);
    expect(receive(r, next!)).toEqual([toHex(ipv4(80))]);
  });
});

describe('a flood', () => {
  it('of forgeries moves no window, writes as many audit events as it may, and is counted to the last packet', () => {
    const audit = AuditRing.create({ perSecond: 10, burst: 50 });
    const r = rig({}, {}, { audit });
    const frames = send(r, ...new Array<Uint8Array>(32).fill(PACKET)).map((frame) => {
      frame[frame.length - 1]! ^= 1;
      return frame;
    });
    const memory = new Uint8Array(r.window.memory);
    const before = memory.slice();
    const rounds = Math.floor(MANY / 5 / 32);
    audit.tick(1000);
    receive(r, ...frames);
    const bytes = alive();
    for (let i = 1; i < rounds; i++) receive(r, ...frames);
    expect(alive() - bytes).toBeLessThan(1 << 20);
    expect(Buffer.compare(memory, before)).toBe(0);
    expect(r.b.stats[3 * SaStat.COLUMNS + SaStat.DROPS + DropReason.ICV]).toBe(rounds * 32);
    expect(audit.drain()).toHaveLength(50);
    expect(audit.suppressed).toBe(rounds * 32 - 50);
  });

  it('of unknown SPIs leaves nothing behind, and the SA that is there goes on', () => {
    const audit = AuditRing.create({ perSecond: 10, burst: 50 });
    const r = rig({}, {}, { audit });
    const next = random(0xf100d);
    const [frame] = send(r, PACKET);
    const { bench, b } = r;
    bench.clear();
    for (let i = 0; i < 32; i++) bench.put(frame!, RowState.RECEIVED);
    const { rows, view } = bench.slab;
    const flood = (bursts: number): void => {
      for (let n = 0; n < bursts; n++) {
        for (let i = 0; i < 32; i++) {
          const row = bench.burst.list[i]! * Row.WORDS;
          rows[row + Row.FATE] = 0;
          rows[row + Row.STATE] = RowState.RECEIVED;
          rows[row + Row.SA] = -1;
          // None of them is ours: an SPI of the other half.
          view.setUint32(rows[row + Row.START]! + 34, 0x8000_0000 + next(0x7fff_ffff));
        }
        b.inbound(bench.burst);
        if (bench.fates().some((fate) => fate !== DropReason.NO_STATE)) throw new Error('an unknown SPI was found');
      }
    };
    flood(10);
    const bytes = alive();
    flood(Math.floor(MANY / 32));
    expect(alive() - bytes).toBeLessThan(1 << 20);
    expect(audit.drain().length).toBeLessThanOrEqual(50);
    expect(b.stats.every((count) => count === 0)).toBe(true);
    expect(receive(r, frame!)).toEqual([THROUGH]);
  });

  it('of replays costs less than a fifth of as many decrypts', () => {
    const r = rig({ mtu: 1600 });
    const { bench, b } = r;
    const fastest = (prepare: () => Uint8Array[]): number => {
      let least = Number.POSITIVE_INFINITY;
      for (let round = 0; round < 40; round++) {
        const frames = prepare();
        bench.clear();
        for (const frame of frames) bench.put(frame, RowState.RECEIVED);
        const began = process.hrtime.bigint();
        b.inbound(bench.burst);
        least = Math.min(least, Number(process.hrtime.bigint() - began));
      }
      return least;
    };
    const fresh = (): Uint8Array[] => send(r, ...new Array<Uint8Array>(32).fill(ipv4(1400)));
    const last = fresh();
    receive(r, ...last);
    const replays = fastest(() => last);
    expect(bench.fates().every((fate) => fate === DropReason.REPLAYED)).toBe(true);
    const decrypts = fastest(fresh);
    expect(bench.fates().every((fate) => fate === 0)).toBe(true);
    expect(replays * 5).toBeLessThan(decrypts);
  });
});

describe('what lives long', () => {
  it('keeps memory flat while SAs come and go', () => {
    const engine = nodeEngine();
    const path = new EspPath({ slab: createSlab({ frames: 1 }), engine, maxSas: 4, linkType: 'ip', offloads: null });
    const window = { memory: ReplayWindow.create({ size: 64, esn: false }).memory, offset: 0 };
    const key = SaKey.import('chacha20poly1305', new Uint8Array(36)).share();
    const ticket: InboundTicket = {
      slot: 0,
      spi: 0x1001,
      ...V4,
      mode: 'tunnel',
      algorithm: 'chacha20poly1305',
      icvLength: 16,
      esn: false,
      key,
      encap: null,
      window,
    };
    const churn = (count: number): void => {
      for (let i = 0; i < count; i++) {
        path.addInbound({ ...ticket, slot: i % 4, spi: 0x1001 + i });
        path.remove(i % 4);
      }
    };
    churn(2000);
    const before = alive();
    // What the engine keeps of its own comes once; a leak comes with every lap.
    const after = [1, 2, 3].map(() => {
      churn(MANY / 5);
      return alive();
    });
    expect(Math.min(...after)).toBeLessThan(before * 1.05);
  });

  it('has clocks that may step back and forward: no burst of tokens, nothing learned forgotten before its time', () => {
    const limit = new RateLimit(1, 2);
    limit.tick(1_000_000);
    expect([limit.take(), limit.take(), limit.take()]).toEqual([true, true, false]);
    for (const back of [999_000, 0, 500_000, 999_999]) limit.tick(back);
    // The time that it went back over is not lived twice.
    expect(limit.take()).toBe(false);
    limit.tick(1_001_000);
    expect([limit.take(), limit.take()]).toEqual([true, false]);
    limit.tick(Number.MAX_SAFE_INTEGER);
    expect([limit.take(), limit.take(), limit.take()]).toEqual([true, true, false]);
    const mtus = PathMtu.create(1);
    mtus.learn(0, 1300, 10_000_000);
    for (const now of [9_000_000, 0, 10_599_999]) expect(mtus.age(now)).toBe(0);
    expect(mtus.of(0)).toBe(1300);
    expect(mtus.age(10_600_000)).toBe(1);
  });
});

describe('a handle', () => {
  it('that its lower has given to another SA since is none: the generation is another', async () => {
    const offload = new SoftOffload({ device: 'soft0', capacity: 1 });
    const sa: Sa = {
      slot: 0,
      direction: 'out',
      spi: 0x1234,
      ...V4,
      mode: 'tunnel',
      algorithm: 'aes128gcm16',
      icvLength: 16,
      esn: true,
      key: SaKey.import('aes128gcm16', new Uint8Array(20).fill(1)),
      encap: null,
      offload: null,
    };
    const old = await offload.stateAdd(sa);
    const bench = new Bench(1);
    const port = new SoftOffloadPort({
      memory: offload.memory,
      engine: nodeEngine(),
      handles: { resolve: () => old },
      lowerIndex: 0,
      stats: createPortStats(1).port(0),
    });
    const fate = (): number => {
      bench.clear();
      const r = toSeal(bench, 'aes128gcm16', new Uint8Array(64), 0, 0x1234, 1, 0);
      bench.slab.rows[r + Row.SA] = 0;
      port.seal(bench.burst);
      return bench.at(0, Row.FATE);
    };
    expect(fate()).toBe(0);
    offload.stateDelete(old);
    await offload.stateFree(old);
    const again = await offload.stateAdd({ ...sa, key: SaKey.import('aes128gcm16', new Uint8Array(20).fill(2)) });
    // The same entry of the lower's table, and not the same handle.
    expect([again & 0xf_ffff, again === old]).toEqual([old & 0xf_ffff, false]);
    expect(fate()).toBe(DropReason.NO_LOWER_HANDLE);
    expect(() => offload.stateDelete(old)).toThrow(XfrmError);
  });
});

describe('an SPI', () => {
  it('is a whole number from 1 to 2^32 - 1, or there is no SA', () => {
    const r: Rig = rig();
    for (const spi of [0, -1, 2 ** 32, 1.5, Number.NaN, '4097', 4097n, null]) {
      expect(() => rig({ spi: spi as number }), `${spi}`).toThrow(/spi/);
      expect(() => rig({}, { spi: spi as number }), `${spi}`).toThrow(/spi/);
    }
    expect(receive(r, ...send(r, PACKET))).toEqual([THROUGH]);
  });
});
