import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ReplayWindow, SequenceAllocator, Verdict } from '@espalier/replay';
import { ETHERNET_HEADER_LENGTH, Row, RowState } from '@espalier/wire';
import {
  ALGORITHMS,
  type AlgorithmName,
  type CryptoEngine,
  DROP_CODES,
  DropReason,
  dropName,
  SaKey,
} from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { EspPath, type InboundTicket, type OutboundTicket } from '../src/index.ts';
import { Bench, hex, ipv4, random, toHex } from './bench-rows.ts';
import { HERE } from './every-engine.ts';
import { protect } from './rig.ts';

const LONG = process.env.ESPALIER_LONG === '1';
const LINK = hex('02000000000b02000000000a0000');
const V4 = { source: hex('c0000201'), destination: hex('c0000202') };
const V6 = { source: hex('20010db8000000000000000000000001'), destination: hex('20010db8000000000000000000000002') };
const NAT_T = { sport: 4500, dport: 4500 };

interface Base {
  readonly id: string;
  readonly sa: {
    readonly alg: string;
    readonly key: string;
    readonly salt?: string;
    readonly auth_key?: string;
    readonly esn: boolean;
    readonly spi: number;
  };
  readonly seq: string;
  readonly esp: string;
  readonly inner: string;
}

interface Case {
  readonly base: string;
  /** `trunc` to arg bytes, `append` arg zero bytes, `flip` bit arg, `built`: esp as it stands, `seq_hi`: arg is the high half. */
  readonly op: 'trunc' | 'append' | 'flip' | 'built' | 'seq_hi';
  readonly arg?: number;
  readonly esp?: string;
  readonly expect: string;
  readonly note?: string;
}

const corpus = JSON.parse(readFileSync(new URL('vectors/malformed.json', import.meta.url), 'utf8')) as {
  readonly base: readonly Base[];
  readonly cases: readonly Case[];
};

/** The bytes of a case. */
function bytesOf(base: Base, { op, arg = 0, esp }: Case): Uint8Array {
  const bytes = hex(esp ?? base.esp);
  if (op === 'trunc') return bytes.slice(0, arg);
  if (op === 'append') return Uint8Array.from([...bytes, ...new Uint8Array(arg)]);
  if (op === 'flip') bytes[arg >> 3] = bytes[arg >> 3]! ^ (1 << (arg & 7));
  return bytes;
}

/**
 * Where we differ from the corpus, which looks at a packet whose SA and number are known. Everything else must agree.
 * A receiver finds the SA and looks at the window before it spends a decrypt (RFC 4303 3.4.2, 3.4.3).
 */
function expected(base: Base, test: Case, window: ReplayWindow): string {
  const { op, arg = 0 } = test;
  if (test.expect !== 'ICV') return test.expect === 'OK' ? 'NONE' : test.expect;
  const at = arg >> 3;
  // The flipped SPI names no SA.
  if (op === 'flip' && at < 4) return 'NO_STATE';
  if (op !== 'seq_hi' && !(op === 'flip' && at < 8)) return 'ICV';
  // Another number: refused by the window where the window knows better, else its ICV fails.
  const lo = new DataView(bytesOf(base, test).buffer).getUint32(4);
  const number = op === 'seq_hi' ? arg * 2 ** 32 + lo : window.infer(lo);
  const verdict = number > window.limit ? Verdict.EXHAUSTED : number < 0 ? Verdict.INVALID : window.check(number);
  return verdict === Verdict.ACCEPT ? 'ICV' : dropName(verdict);
}

const CIPHERS: Readonly<Record<string, string>> = {
  'AES-GCM-16': 'gcm16',
  'AES-GMAC': 'gmac',
  'AES-CBC': 'cbc-sha256',
};

function algorithmOf({ sa }: Base): AlgorithmName {
  const cipher = CIPHERS[sa.alg];
  return (cipher ? `aes${sa.key.length * 4}${cipher}` : 'chacha20poly1305') as AlgorithmName;
}

/** The whole memory of a window: unchanged means not one word of it has moved. */
const memoryOf = (window: ReplayWindow): string => Buffer.from(new Uint8Array(window.memory)).toString('latin1');

describe.each(HERE)('bad input, engine %s', (name, make) => {
  it('meets the verdict that the corpus of malformed packets expects, case by case', () => {
    expect(corpus.cases).toHaveLength(3118);
    const wrong: string[] = [];
    const bench = new Bench(1);
    const bases = corpus.base.filter((base) => make().algorithms.includes(algorithmOf(base)));
    // The addon has some of the transforms only.
    expect(bases.length).toBeGreaterThanOrEqual(name.startsWith('native') ? 3 : corpus.base.length);
    for (const base of bases) {
      const algorithm = algorithmOf(base);
      const material = hex(base.sa.key + (base.sa.salt ?? '') + (base.sa.auth_key ?? ''));
      const seq = Number(base.seq);
      const engine = make();
      const valid: Case = { base: base.id, op: 'built', esp: base.esp, expect: 'OK' };
      for (const test of [valid, ...corpus.cases.filter((c) => c.base === base.id)]) {
        const window = ReplayWindow.create({ size: 64, esn: base.sa.esn });
        window.acceptUpTo(seq - 1);
        const want = expected(base, test, window);
        const before = memoryOf(window);
        const path = new EspPath({ slab: bench.slab, engine, maxSas: 1, linkType: 'esp-udp', offloads: null });
        path.addInbound({
          slot: 0,
          spi: base.sa.spi,
          ...V4,
          mode: 'tunnel',
          algorithm,
          icvLength: 16,
          esn: base.sa.esn,
          key: SaKey.import(algorithm, material).share(),
          encap: null,
          window: { memory: window.memory, offset: 0 },
        });
        bench.clear();
        const { rows } = bench.slab;
        const r = bench.put(bytesOf(base, test), RowState.RECEIVED);
        if (test.op === 'seq_hi') rows[r + Row.SEQ_HI] = test.arg! | 0;
        // High half 2^32 - 1 in a row is -1, "not inferred yet": such a number is beyond every limit, so the engine alone sees it.
        if (test.op === 'seq_hi' && test.arg === 0xffff_ffff) {
          rows[r + Row.ESP] = rows[r + Row.START]!;
          rows[r + Row.KEY] = engine.install(algorithm, SaKey.import(algorithm, material), { esn: true });
          engine.open(bench.burst);
          expect(rows[r + Row.STATE]).toBe(RowState.ICV_BAD);
          continue;
        }
        path.inbound(bench.burst);
        path.remove(0);
        const got = dropName(rows[r + Row.FATE]!);
        const which = `${base.id} ${test.op} ${test.arg ?? ''} ${test.note ?? ''}`;
        if (got !== want) wrong.push(`${which}: ${got}, want ${want}`);
        if (test === valid && toHex(bench.bytes(0)) !== base.inner) wrong.push(`${which}: other bytes inside`);
        // Only an ICV that holds moves the window: not what is in the packet, not where it is cut.
        const moved = memoryOf(window) !== before;
        if (moved !== (test.op === 'built')) wrong.push(`${which}: the window ${moved ? 'moved' : 'did not move'}`);
      }
    }
    expect(wrong).toEqual([]);
  });
});

describe.each(HERE.filter(([, make]) => make().algorithms.includes('aes128cbc-sha256')))(
  'a ciphertext that is no whole number of blocks, engine %s',
  (_, make) => {
    it('is BAD_LENGTH once its ICV holds, which uses its number up, and ICV before', () => {
      const material = Uint8Array.from({ length: 48 }, (_v, i) => i + 1);
      for (const esn of [false, true])
        for (let extra = 0; extra < 32; extra++) {
          const window = ReplayWindow.create({ size: 64, esn });
          const bench = new Bench(2);
          const path = new EspPath({
            slab: bench.slab,
            engine: make(),
            maxSas: 1,
            linkType: 'esp-udp',
            offloads: null,
          });
          path.addInbound({
            slot: 0,
            spi: 7,
            ...V4,
            mode: 'tunnel',
            algorithm: 'aes128cbc-sha256',
            icvLength: 16,
            esn,
            key: SaKey.import('aes128cbc-sha256', material).share(),
            encap: null,
            window: { memory: window.memory, offset: 0 },
          });
          const text = Buffer.alloc(8 + 16 + 16 + extra, 0x5a);
          text.writeUInt32BE(7, 0);
          text.writeUInt32BE(9, 4);
          const mac = createHmac('sha256', material.subarray(16)).update(text);
          const icv = (esn ? mac.update(Buffer.alloc(4)) : mac).digest().subarray(0, 16);
          const good = Buffer.concat([text, icv]);
          const bad = Buffer.from(good);
          bad[30]! ^= 1;
          bench.put(bad, RowState.RECEIVED);
          bench.put(good, RowState.RECEIVED);
          path.inbound(bench.burst);
          // Whole blocks decrypt to nonsense, which the trailer shows.
          const want = extra % 16 === 0 ? 'BAD_PAD' : 'BAD_LENGTH';
          expect(bench.fates().map(dropName), `${extra} bytes more`).toEqual(['ICV', want]);
          expect(window.top()).toBe(9);
          // Not even the whole blocks in it are decrypted.
          if (want === 'BAD_LENGTH') expect(toHex(bench.bytes(1))).toBe(good.toString('hex'));
        }
    });
  },
);

/** A valid frame and the SA that opens it. */
interface Sealed {
  readonly name: string;
  readonly frame: Uint8Array;
  readonly ticket: InboundTicket;
  readonly window: ReplayWindow;
  readonly v6: boolean;
  readonly udp: boolean;
}

function seal(make: () => CryptoEngine, algorithm: AlgorithmName, esn: boolean, v6: boolean, udp: boolean): Sealed {
  const window = ReplayWindow.create({ size: 64, esn });
  const allocator = SequenceAllocator.create({ esn });
  // With ESN the window lies across 2^32, where a wrong guess of the high half would show.
  const first = esn ? 2 ** 32 + 5 : 100;
  allocator.advanceTo(first);
  window.acceptUpTo(first - 1);
  const { keyLength, icvLength } = ALGORITHMS[algorithm];
  const common = {
    slot: 0,
    spi: 0x1001,
    ...(v6 ? V6 : V4),
    mode: 'tunnel' as const,
    algorithm,
    icvLength,
    esn,
    key: SaKey.import(
      algorithm,
      Uint8Array.from({ length: keyLength }, (_, i) => i * 5 + 1),
    ).share(),
    encap: udp ? NAT_T : null,
  };
  const out: OutboundTicket = {
    ...common,
    allocator: { memory: allocator.memory, offset: 0 },
    offload: false,
    noHandle: 'drop',
    link: LINK,
    mtu: 1500,
  };
  const bench = new Bench(1);
  const path = pathOf(bench, make());
  path.addOutbound(out);
  path.setPolicies(protect(0));
  bench.put(INNER);
  path.outbound(bench.burst);
  const name = `${algorithm}${esn ? ' esn' : ''} ${v6 ? 'ipv6' : 'ipv4'}${udp ? ' udp' : ''}`;
  const ticket = { ...common, window: { memory: window.memory, offset: 0 } };
  return { name, frame: bench.bytes(0), ticket, window, v6, udp };
}

/** ECN-capable inside, so that a congestion mark outside is carried over and not a reason to drop. */
const INNER = ipv4(44, 1, 2);

function pathOf(bench: Bench, engine: CryptoEngine): EspPath {
  return new EspPath({ slab: bench.slab, engine, maxSas: 1, linkType: 'ethernet', offloads: null, link: LINK });
}

/** Bits outside that nothing protects and nothing may hang on: such a packet is as good as before. */
function harmless({ v6, udp, frame }: Sealed, bit: number): boolean {
  const byte = bit >> 3;
  if (byte < 12) return true; // link addresses: the device has filtered them
  const at = byte - ETHERNET_HEADER_LENGTH;
  const l4 = v6 ? 40 : 20;
  if (v6 && at === 0) return (bit & 7) < 4; // traffic class beside the version
  if (v6 && (at === 1 || at === 2 || at === 3 || at === 7)) return true; // traffic class, flow label, hop limit
  // Over IPv6 a flip may leave a checksum of zero, which is none.
  const checksum = ((frame[60]! << 8) | frame[61]!) ^ (1 << ((bit & 7) + (byte === 60 ? 8 : 0)));
  if (v6 && udp && (byte === 60 || byte === 61) && checksum === 0) return false;
  // The source port moves with a NAT; the checksum may be zero or not, and is not looked at (RFC 3948 2.1).
  return udp && ((at >= l4 && at < l4 + 2) || (at >= l4 + 6 && at < l4 + 8));
}

function combinations(algorithms: readonly AlgorithmName[]): [AlgorithmName, boolean, boolean, boolean][] {
  const [first] = algorithms;
  const sides = [false, true];
  return algorithms.flatMap((algorithm) =>
    // Headers have nothing to do with the algorithm: every shape of them with the first one, and always in a long run.
    sides.flatMap((esn) =>
      sides.flatMap((v6) =>
        sides
          .filter((udp) => LONG || algorithm === first || (v6 === esn && udp === esn))
          .map((udp): [AlgorithmName, boolean, boolean, boolean] => [algorithm, esn, v6, udp]),
      ),
    ),
  );
}

describe.each(HERE)('a valid frame, engine %s', (_, make) => {
  const rig = (sealed: Sealed): { open: (frame: Uint8Array) => number; bytes: () => string; renew: () => void } => {
    const bench = new Bench(1);
    const engine = make();
    let path = pathOf(bench, engine);
    path.addInbound(sealed.ticket);
    return {
      open: (frame) => {
        bench.clear();
        bench.put(frame, RowState.RECEIVED);
        path.inbound(bench.burst);
        return bench.at(0, Row.FATE);
      },
      bytes: () => toHex(bench.bytes(0)),
      renew: () => {
        path.remove(0);
        const window = ReplayWindow.create({ size: 64, esn: sealed.ticket.esn });
        window.acceptUpTo(sealed.ticket.esn ? 2 ** 32 + 4 : 99);
        path = pathOf(bench, engine);
        path.addInbound({ ...sealed.ticket, window: { memory: window.memory, offset: 0 } });
      },
    };
  };

  it('is refused at every truncation, by number, and leaves the window as it was', () => {
    for (const combination of combinations(make().algorithms)) {
      const sealed = seal(make, ...combination);
      const before = memoryOf(sealed.window);
      const { open, bytes } = rig(sealed);
      for (let length = 0; length < sealed.frame.length; length++) {
        const fate = open(sealed.frame.slice(0, length));
        if (fate !== DropReason.TRUNCATED)
          throw new Error(`${sealed.name}: ${length} bytes of ${sealed.frame.length}: ${dropName(fate)}`);
      }
      expect(memoryOf(sealed.window), sealed.name).toBe(before);
      // The rig can accept: the whole frame goes through.
      expect(dropName(open(sealed.frame)), sealed.name).toBe('NONE');
      expect(bytes()).toBe(toHex(INNER));
      expect(memoryOf(sealed.window)).not.toBe(before);
    }
  });

  it('is refused with any bit flipped that means something, and leaves the window as it was', () => {
    for (const combination of combinations(make().algorithms)) {
      const sealed = seal(make, ...combination);
      const before = memoryOf(sealed.window);
      const { open, bytes, renew } = rig(sealed);
      for (let bit = 0; bit < sealed.frame.length * 8; bit++) {
        const frame = sealed.frame.slice();
        frame[bit >> 3] = frame[bit >> 3]! ^ (1 << (bit & 7));
        if (harmless(sealed, bit)) renew();
        const fate = open(frame);
        if ((fate === 0) !== harmless(sealed, bit))
          throw new Error(`${sealed.name}: bit ${bit & 7} of byte ${bit >> 3}: ${dropName(fate)}`);
        if (fate < 0 || fate >= DROP_CODES) throw new Error(`${sealed.name}: bit ${bit}: fate ${fate}`);
        // ECN and its checksum may have been carried in; everything behind them is as it was.
        if (fate === 0 && bytes().slice(24) !== toHex(INNER).slice(24))
          throw new Error(`${sealed.name}: bit ${bit}: other bytes`);
      }
      expect(memoryOf(sealed.window), sealed.name).toBe(before);
    }
  });

  it('never throws and never passes with many bytes spoilt at once', () => {
    const next = random(0x5eed);
    const rounds = LONG ? 100_000 : 1500;
    for (const combination of combinations(make().algorithms.slice(0, 1))) {
      const sealed = seal(make, ...combination);
      const before = memoryOf(sealed.window);
      const { open } = rig(sealed);
      const esp = sealed.frame.length - 60;
      for (let round = 0; round < rounds; round++) {
        const frame = sealed.frame.slice(0, next(8) === 0 ? next(sealed.frame.length + 1) : sealed.frame.length);
        for (let n = 1 + next(12); n > 0 && frame.length > 0; n--) frame[next(frame.length)] = next(256);
        // At least one byte that the ICV covers is another one.
        if (frame.length > esp) frame[esp] = sealed.frame[esp]! ^ (1 + next(255));
        if (open(frame) === DropReason.NONE) throw new Error(`${sealed.name}: accepted ${toHex(frame)}`);
      }
      expect(memoryOf(sealed.window), sealed.name).toBe(before);
    }
  });
});
