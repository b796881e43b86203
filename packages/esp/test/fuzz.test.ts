import { ReplayWindow } from '@espalier/replay';
import { checksum, Row, RowState } from '@espalier/wire';
import { ALGORITHMS, type AlgorithmName, dropName, SaKey } from '@espalier/xfrm';
import { expect, it } from 'vitest';
import { nodeEngine } from '../src/engines/node.ts';
import { EspPath } from '../src/index.ts';
import { Bench, hex, ipv4, ipv6, random } from './bench-rows.ts';
import { FUZZED, whole } from './every-engine.ts';
import { INBOUND } from './fuzz-reasons.ts';

/** Inputs; ESPALIER_FUZZ says another number, and ESPALIER_LONG asks for 5 million. 100,000 take about 4 s. */
const INPUTS = Number(process.env.ESPALIER_FUZZ ?? (process.env.ESPALIER_LONG === '1' ? 5_000_000 : 100_000));
const SEED = Number(process.env.ESPALIER_SEED ?? 0xe5b);
const BURST = 32;
/** Every eighth burst is offered to the other worker too. */
const again = (done: number): boolean => (done / BURST) % 8 === 0;

const V4 = { source: hex('c0000201'), destination: hex('c0000202') };
const V6 = { source: hex('20010db8000000000000000000000001'), destination: hex('20010db8000000000000000000000002') };
const NAT_T = { sport: 4500, dport: 4500 };
const SAS: [AlgorithmName, 'tunnel' | 'transport', typeof V4, typeof NAT_T | null, boolean][] = [
  ['aes128gcm16', 'tunnel', V4, null, true],
  ['aes128gcm16', 'tunnel', V6, NAT_T, false],
  ['aes128gcm16', 'transport', V4, null, false],
  ['aes128gcm16', 'transport', V4, NAT_T, true],
  ['aes128gcm16', 'transport', V6, null, true],
  ['aes128cbc-sha256', 'tunnel', V4, null, false],
];

const tables = new Set<string>();
const title = `ends every one of ${INPUTS} hostile frames by a verdict: no throw, no byte out of bounds, no window moved by what failed, nothing taken by both of two workers, engine %s`;

it.each(FUZZED)(
  title,
  (name) => {
    const next = random(SEED);
    // A hostile peer seals what an engine of ours may refuse to: part of a block, for one.
    const peer = nodeEngine();
    const bench = new Bench(BURST);
    const { rows, bytes, view } = bench.slab;
    // Two workers share every SA.
    const paths = [whole(name), whole(name)].map(
      (own, worker) =>
        new EspPath({ slab: bench.slab, engine: own, worker, maxSas: 8, linkType: 'ethernet', offloads: null }),
    );
    const sas = SAS.map(([algorithm, mode, outer, encap, esn], slot) => {
      const window = ReplayWindow.create({ size: 64, esn, workers: 2 });
      const { keyLength, icvLength, ivLength } = ALGORITHMS[algorithm];
      const key = SaKey.import(
        algorithm,
        Uint8Array.from({ length: keyLength }, (_, i) => i * 7 + slot),
      );
      const ticket = {
        slot,
        spi: 0x1000 + slot,
        ...outer,
        mode,
        algorithm,
        icvLength,
        esn,
        key: key.share(),
        encap,
        window: { memory: window.memory, offset: 0 },
        ...(slot === 0
          ? {
              selectors: [
                { source: hex('0a010000'), sourceBits: 23, destination: hex('0a020000'), destinationBits: 16 },
              ],
            }
          : {}),
      };
      for (const path of paths) path.addInbound(ticket);
      const sealer = peer.install(algorithm, key, { esn, icvLength });
      return {
        slot,
        mode,
        outer,
        encap,
        window,
        sealer,
        icvLength,
        ivLength,
        seq: 1000,
        memory: new Uint8Array(window.memory),
      };
    });

    /** What lies in the ciphertext: an inner packet with something wrong, or nonsense, and a trailer that may lie. */
    const interior = (transport: boolean): Uint8Array => {
      const six = next(3) === 0;
      const inner = transport
        ? new Uint8Array(next(80))
        : six
          ? ipv6(40 + next(60))
          : ipv4(20 + next(60), 1 + next(4), next(256));
      for (let k = next(3); k > 0 && inner.length > 0; k--) inner[next(Math.min(inner.length, 44))] = next(256);
      const cut = next(6) === 0 ? inner.slice(0, next(inner.length + 1)) : inner;
      const pad = next(4) === 0 ? next(256) : (16 - ((cut.length + 2) % 16)) % 16;
      const text = new Uint8Array(cut.length + Math.min(pad, 64) + 2);
      text.set(cut);
      for (let i = 0; i < Math.min(pad, 64); i++) text[cut.length + i] = next(40) === 0 ? next(256) : i + 1;
      text[text.length - 2] = pad;
      const nexts = [4, 41, 59, 17, 6, next(256)];
      text[text.length - 1] = next(3) === 0 ? nexts[next(nexts.length)]! : transport ? 17 : six ? 41 : 4;
      return text;
    };

    /** A sealed frame of an SA over `text`. */
    const scratch = new Bench(1);
    const seal = (sa: (typeof sas)[number], text: Uint8Array, seq: number): Uint8Array => {
      const six = sa.outer.source.length === 16;
      const l4 = 14 + (six ? 40 : 20);
      const esp = l4 + (sa.encap ? 8 : 0);
      const frame = new Uint8Array(esp + 8 + sa.ivLength + text.length + sa.icvLength);
      const v = new DataView(frame.buffer);
      v.setUint16(12, six ? 0x86dd : 0x0800);
      const length = frame.length - 14;
      if (six) {
        v.setUint32(14, 0x6000_0000 | ((next(4) === 0 ? 3 : 0) << 20));
        v.setUint16(18, length - 40);
        v.setUint8(20, sa.encap ? 17 : 50);
      } else {
        v.setUint16(14, 0x4500 | (next(4) === 0 ? 3 : 0));
        v.setUint16(16, length);
        v.setUint16(22, 0x4000 | (sa.encap ? 17 : 50));
      }
      frame.set(sa.outer.source, 14 + (six ? 8 : 12));
      frame.set(sa.outer.destination, 14 + (six ? 24 : 16));
      if (!six) v.setUint16(24, checksum(v, 14, 34));
      if (sa.encap) {
        v.setUint32(l4, (4500 << 16) | 4500);
        v.setUint16(l4 + 4, frame.length - l4);
        v.setUint16(l4 + 6, six ? 1 : 0);
      }
      v.setUint32(esp, 0x1000 + sa.slot);
      v.setUint32(esp + 4, seq);
      frame.set(text, esp + 8 + sa.ivLength);
      scratch.clear();
      const r = scratch.put(frame, RowState.TO_SEAL);
      scratch.slab.rows[r + Row.ESP] = scratch.slab.rows[r + Row.START]! + esp;
      scratch.slab.rows[r + Row.KEY] = sa.sealer;
      scratch.slab.rows[r + Row.SEQ_LO] = seq | 0;
      scratch.slab.rows[r + Row.SEQ_HI] = 0;
      peer.seal(scratch.burst);
      return scratch.bytes(0);
    };

    /** Breaks a frame: bytes, length, headers with their checksum mended so that what is behind them is reached. */
    const spoil = (whole: Uint8Array): Uint8Array => {
      const how = next(8);
      if (how === 0) return whole.slice(0, next(whole.length + 1));
      if (how === 1) return Uint8Array.from({ length: next(120) }, () => next(256));
      const frame = whole.slice();
      if (how === 6 && frame.length > 40) {
        // The SPI of another SA, in UDP where that has none or the reverse.
        frame[37] = next(SAS.length);
        return frame;
      }
      for (let k = 1 + next(3); k > 0; k--) frame[12 + next(how < 5 ? 50 : frame.length - 12)] = next(256);
      if (how < 4 && frame[12] === 8 && (frame[14]! & 15) * 4 + 14 <= frame.length) {
        const v = new DataView(frame.buffer);
        v.setUint16(24, 0);
        v.setUint16(24, checksum(v, 14, 14 + (frame[14]! & 15) * 4));
      }
      if (how === 7) {
        // A datagram on port 4500 that is not ESP: a keepalive, a non-ESP marker, or nearly.
        const small = Uint8Array.from([...whole.slice(0, 14), ...ipv4(20 + 8 + next(9))]);
        const v = new DataView(small.buffer);
        v.setUint32(34, (4500 << 16) | 4500);
        v.setUint16(38, small.length - 34);
        v.setUint16(12, 0x0800);
        if (next(2) === 0) small.fill(small.length === 43 ? 0xff : 0, 42);
        return small;
      }
      return frame;
    };

    const verdicts = new Float64Array(256);
    let sealed = 0;
    let done = 0;
    const template = sas.map((sa) => seal(sa, interior(sa.mode === 'transport'), 1));
    while (done < INPUTS) {
      bench.clear();
      const hostile = next(5) < 2;
      const sa = sas[next(sas.length)]!;
      for (let i = 0; i < BURST; i++) {
        if (!hostile) {
          bench.put(spoil(template[next(template.length)]!), RowState.RECEIVED);
          continue;
        }
        const age = next(12);
        const seq = age === 0 ? 0 : age === 1 ? Math.max(1, sa.seq - next(200)) : ++sa.seq;
        const text = interior(sa.mode === 'transport');
        const frame = seal(sa, next(10) === 0 ? text.slice(0, next(text.length + 1)) : text, seq);
        bench.put(frame, RowState.RECEIVED);
        sealed++;
      }
      const before = sas.map((s) => s.memory.slice());
      const fences = Array.from({ length: BURST }, (_, i) => bench.burst.list[i]! * bench.slab.frameSize);
      for (const f of fences) view.setUint32(f + bench.slab.frameSize - 4, 0xfeed_face);
      const copies = again(done) ? Array.from({ length: BURST }, (_, i) => bench.bytes(i)) : [];
      const turn = next(2);
      paths[turn]!.inbound(bench.burst);
      let opened = 0;
      for (let i = 0; i < BURST; i++) {
        const r = bench.burst.list[i]! * Row.WORDS;
        const fate = rows[r + Row.FATE]!;
        verdicts[fate] = verdicts[fate]! + 1;
        if (rows[r + Row.STATE] === RowState.OPENED) opened++;
        const first = fences[i]!;
        const start = rows[r + Row.START]!;
        const end = rows[r + Row.END]!;
        if (fate === 0 && !(start >= first && start < end && end <= first + bench.slab.frameSize))
          throw new Error(`[${start}, ${end}) is outside its frame`);
        if (view.getUint32(first + bench.slab.frameSize - 4) !== 0xfeed_face)
          throw new Error('a byte behind the frame was written');
        if (fate === 0 && bytes[start]! >> 4 !== 4 && bytes[start]! >> 4 !== 6)
          throw new Error('what came out is no IP packet');
      }
      if (opened === 0)
        for (const [i, s] of sas.entries())
          if (Buffer.compare(s.memory, before[i]!) !== 0) throw new Error(`a window moved without an ICV, SA ${i}`);
      done += BURST;
      if (copies.length === 0) continue;
      const taken = bench.fates().map((fate) => fate === 0);
      bench.clear();
      for (const copy of copies) bench.put(copy, RowState.RECEIVED);
      paths[1 - turn]!.inbound(bench.burst);
      if (bench.fates().some((fate, i) => fate === 0 && taken[i])) throw new Error('both workers took one packet');
    }
    const table = [...verdicts.entries()].filter(([, n]) => n > 0).map(([code, n]) => `${dropName(code)} ${n}`);
    console.log(`${name}, seed ${SEED}: ${done} inputs, ${sealed} with a valid ICV: ${table.join(', ')}`);
    expect(sealed).toBeGreaterThan(done / 5);
    // The same inputs, the same verdicts, whatever the engine.
    tables.add(table.join());
    expect(tables.size).toBe(1);
    expect(INBOUND.filter((code) => verdicts[code] === 0).map(dropName)).toEqual([]);
  },
  3_600_000,
);
