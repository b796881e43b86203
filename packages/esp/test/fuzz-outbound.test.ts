import { Lifetime, ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { checksum, createBurst, createSlab, Row, RowState, resetRow } from '@espalier/wire';
import {
  ALGORITHMS,
  type AlgorithmName,
  DROP_CODES,
  DropReason,
  dropName,
  type PolicyTicket,
  SaKey,
} from '@espalier/xfrm';
import { expect, it } from 'vitest';
import { EspPath, PathMtu } from '../src/index.ts';
import { hex, ipv4, ipv6, random } from './bench-rows.ts';
import { FUZZED, whole } from './every-engine.ts';
import { ELSEWHERE, INBOUND, OUTBOUND, RETURN } from './fuzz-reasons.ts';

/** Inputs, a quarter of what the way in gets: ESPALIER_FUZZ and ESPALIER_LONG as there. 25,000 take about 1 s. */
const INPUTS = Number(process.env.ESPALIER_FUZZ ?? (process.env.ESPALIER_LONG === '1' ? 5_000_000 : 100_000)) / 4;
const SEED = Number(process.env.ESPALIER_SEED ?? 0xe5b);
const BURST = 32;
const FRAME = 2048;
const CANARY = 0xa5;
/** Inbound SAs have the slots from here on. */
const BACK = 8;
/** Destinations whose policy is another than to protect with the SA of that slot. */
const ABSENT = 7;
const BYPASS = 16;
const DISCARD = 17;
const UNMATCHED = 18;
const FEW = 200;

const V4 = { source: hex('c0000201'), destination: hex('c0000202') };
const V6 = { source: hex('20010db8000000000000000000000001'), destination: hex('20010db8000000000000000000000002') };
const NAT_T = { sport: 4500, dport: 4500 };
const SAS: [AlgorithmName, 'tunnel' | 'transport', typeof V4, typeof NAT_T | null, object][] = [
  ['aes128gcm16', 'tunnel', V4, null, {}],
  ['chacha20poly1305', 'tunnel', V6, NAT_T, { tfc: 200 }],
  ['aes128gcm16', 'transport', V4, null, {}],
  ['aes128cbc-sha256', 'transport', V6, null, {}],
  ['aes256gcm16', 'tunnel', V4, null, { decrementTtl: true, mss: 'mtu', mtu: 300 }],
  // Near the end of their lifetime and of their numbers.
  ['aes128gcm16', 'tunnel', V4, null, {}],
  ['aes128gcm16', 'tunnel', V4, null, {}],
];

const title = `ends every one of ${INPUTS} hostile inner packets by a verdict: no throw, no byte out of bounds, no number for what failed, engine %s`;

it.each(FUZZED)(
  title,
  (name) => {
    const next = random(SEED);
    // Every second frame stands between two of the burst and must stay as it is.
    const slab = createSlab({ frames: 2 * BURST, frameSize: FRAME });
    const { rows, bytes, view } = slab;
    const burst = createBurst(slab, BURST);
    const canaries = Array.from({ length: BURST }, (_, i) => bytes.subarray((2 * i + 1) * FRAME, (2 * i + 2) * FRAME));
    const untouched = new Uint8Array(FRAME).fill(CANARY);
    for (const c of canaries) c.fill(CANARY);

    const pathMtu = PathMtu.create(32);
    // Two workers share every SA.
    const paths = [0, 1].map(
      (worker) =>
        new EspPath({ slab, engine: whole(name), worker, maxSas: 32, linkType: 'ip', offloads: null, pathMtu }),
    );
    const sas = SAS.map(([algorithm, mode, outer, encap, options], slot) => {
      const { keyLength, icvLength } = ALGORITHMS[algorithm];
      const key = SaKey.import(
        algorithm,
        Uint8Array.from({ length: keyLength }, (_, i) => i * 7 + slot),
      ).share();
      const allocator = SequenceAllocator.create({ esn: true });
      const window = ReplayWindow.create({ size: 1024, esn: true, workers: 2 });
      if (slot === 6) {
        allocator.advanceTo(allocator.limit - FEW);
        window.acceptUpTo(allocator.limit - FEW - 1);
      }
      const common = { spi: 0x2000 + slot, ...outer, mode, algorithm, icvLength, esn: true, key, encap };
      const sent = slot === 5 ? { lifetime: { memory: Lifetime.create({ hardPackets: FEW }).memory, offset: 0 } } : {};
      const taken =
        slot === 5 ? { lifetime: { memory: Lifetime.create({ hardPackets: FEW / 2 }).memory, offset: 0 } } : {};
      const outbound = {
        ...common,
        slot,
        allocator: { memory: allocator.memory, offset: 0 },
        offload: false,
        noHandle: 'drop',
        link: null,
        mtu: 1500,
        ...options,
        ...sent,
      } as const;
      const inbound = { ...common, slot: BACK + slot, window: { memory: window.memory, offset: 0 }, ...taken };
      for (const path of paths) {
        path.addOutbound(outbound);
        path.addInbound(inbound);
      }
      return { slot, allocator, mode, outer, six: outer === V6, mtu: 'mtu' in options ? 300 : 1500 };
    });
    const policy = (at: number, six: boolean): PolicyTicket => {
      const destination = six ? hex('fd020000000000000000000000000001') : hex('0a020001');
      destination[destination.length - 2] = at;
      const action = at === BYPASS ? 'bypass' : at === DISCARD ? 'discard' : 'protect';
      const source = new Uint8Array(destination.length);
      const prefix = { source, sourceBits: 0, destination, destinationBits: destination.length * 8 - 8 };
      return { ...prefix, protocol: null, action, slot: action === 'protect' ? at : -1 };
    };
    // Transport mode is between the ends themselves.
    const between = sas
      .filter((sa) => sa.mode === 'transport')
      .map(({ slot, six, outer }) => ({ ...policy(slot, six), ...outer, destinationBits: six ? 128 : 32 }));
    const policies = [
      ...between,
      ...Array.from({ length: DISCARD + 1 }, (_, at) => [policy(at, false), policy(at, true)]).flat(),
    ];
    for (const path of paths) path.setPolicies(policies);

    /** An inner packet for one of the policies, mostly with something wrong. */
    const inner = (): Uint8Array => {
      const where = next(3) === 0 ? ABSENT + next(UNMATCHED + 1 - ABSENT) : next(SAS.length);
      const six = where < SAS.length && sas[where]!.mode === 'transport' ? sas[where]!.six : next(3) === 0;
      const size = next(12) === 0 ? next(1700) : next(160);
      const packet = six ? ipv6(40 + size) : ipv4(20 + size);
      const transport = sas[where]?.mode === 'transport' ? sas[where]!.outer : null;
      if (transport) packet.set([...transport.source, ...transport.destination], six ? 8 : 12);
      else packet[six ? 38 : 18] = where;
      packet[six ? 7 : 8] = next(8) === 0 ? next(2) : 64;
      const how = next(10);
      if (how === 0) return Uint8Array.from({ length: next(120) }, () => next(256));
      if (how === 1) return packet.slice(0, next(packet.length + 1));
      if (how === 2) packet[next(Math.min(packet.length, 44))] = next(256);
      if (how === 3) packet[six ? 6 : next(2) === 0 ? 6 : 9] = [0, 6, 43, 44, 59, 60, 4, 0x20][next(8)]!;
      return packet;
    };

    const check = (verdicts: Float64Array): void => {
      for (let i = 0; i < burst.length; i++) {
        const frame = burst.list[i]!;
        const r = frame * Row.WORDS;
        const fate = rows[r + Row.FATE]!;
        if (fate < 0 || fate >= DROP_CODES) throw new Error(`fate ${fate}`);
        verdicts[fate] = verdicts[fate]! + 1;
        const start = rows[r + Row.START]!;
        const end = rows[r + Row.END]!;
        if (fate === 0 && !(start >= frame * FRAME && start < end && end <= (frame + 1) * FRAME))
          throw new Error(`[${start}, ${end}) is outside its frame`);
      }
      if (canaries.some((c) => Buffer.compare(c, untouched) !== 0)) throw new Error('a frame of nobody was written');
    };
    /** An ICMP error "too big" about the packet in frame `f`, in its place; true to form or not. */
    const tooBig = (f: number): void => {
      const r = f * Row.WORDS;
      const quote = bytes.slice(rows[r + Row.START]!, rows[r + Row.START]! + 28);
      const at = f * FRAME + slab.headroom;
      bytes.set(ipv4(56), at);
      bytes[at + 9] = 1;
      view.setUint16(at + 10, 0);
      view.setUint16(at + 10, checksum(view, at, at + 20));
      view.setUint32(at + 20, 0x0304_0000);
      view.setUint32(at + 24, next(4) === 0 ? next(2000) : 1280 + next(200));
      bytes.set(quote, at + 28);
      if (next(3) === 0) bytes[at + 28 + next(28)] = next(256);
      view.setUint16(at + 22, checksum(view, at + 20, at + 56));
      resetRow(rows, f, at, at + 56, RowState.RECEIVED);
    };

    const out = new Float64Array(DROP_CODES);
    const back = new Float64Array(DROP_CODES);
    for (let done = 0; done < INPUTS; done += BURST) {
      const packets = Array.from({ length: BURST }, inner);
      burst.length = 0;
      for (const [i, packet] of packets.entries()) {
        const start = 2 * i * FRAME + (next(16) === 0 ? next(slab.headroom) : slab.headroom);
        bytes.set(packet, start);
        resetRow(rows, 2 * i, start, start + packet.length, RowState.UNSET);
        burst.list[burst.length++] = 2 * i;
      }
      const before = sas.map((sa) => sa.allocator.next());
      paths[next(2)]!.outbound(burst);
      check(out);
      const given = sas.map(() => 0);
      const sealed: number[] = [];
      for (let i = 0; i < BURST; i++) {
        const r = 2 * i * Row.WORDS;
        if (rows[r + Row.FATE] !== 0 || rows[r + Row.STATE] === RowState.CLEAR) continue;
        if (rows[r + Row.STATE] !== RowState.SEALED) throw new Error('neither sealed, clear nor dropped');
        const sa = sas[rows[r + Row.SA]!]!;
        given[sa.slot]!++;
        sealed.push(2 * i);
        if (rows[r + Row.END]! - rows[r + Row.L3]! > sa.mtu) throw new Error('longer than the MTU');
      }
      // A number for every packet that was sealed, none for any other.
      for (const sa of sas)
        if (sa.allocator.next() - before[sa.slot]! !== given[sa.slot]) throw new Error(`numbers of SA ${sa.slot}`);

      burst.length = 0;
      const whole: number[] = [];
      for (const f of sealed) {
        const r = f * Row.WORDS;
        const sa = sas[rows[r + Row.SA]!]!;
        const { [Row.START]: start, [Row.END]: end, [Row.ESP]: esp } = rows.subarray(r, r + Row.WORDS);
        burst.list[burst.length++] = f;
        if (sa.slot === 0 && next(8) === 0) tooBig(f);
        else if (sa.slot === 6 && next(2) === 0) {
          // Numbers beyond the limit.
          view.setUint32(esp! + 4, next(FEW));
          resetRow(rows, f, start!, end!, RowState.RECEIVED);
        } else if (sa.slot === 3 && next(8) === 0) {
          // A lower says that it has opened half a block.
          const number = [rows[r + Row.SEQ_LO]!, rows[r + Row.SEQ_HI]!];
          view.setUint16(start! + 4, view.getUint16(start! + 4) - 4);
          resetRow(rows, f, start!, end! - 4, RowState.OPENED);
          rows[r + Row.SEQ_LO] = number[0]!;
          rows[r + Row.SEQ_HI] = number[1]!;
        } else {
          resetRow(rows, f, start!, end!, RowState.RECEIVED);
          if (sa.slot < 2) whole.push(f);
        }
      }
      paths[next(2)]!.inbound(burst);
      check(back);
      // What went out through a tunnel untouched comes back as it went in.
      for (const f of whole) {
        const r = f * Row.WORDS;
        const start = rows[r + Row.START]!;
        if (rows[r + Row.FATE] !== 0) throw new Error(`our own packet came back as ${dropName(rows[r + Row.FATE]!)}`);
        const length = rows[r + Row.END]! - start;
        if (Buffer.compare(bytes.subarray(start, start + length), packets[f / 2]!.subarray(0, length)) !== 0)
          throw new Error('other bytes came back');
      }
    }
    const print = (way: string, verdicts: Float64Array): void =>
      console.log(
        `${name}, ${way}, seed ${SEED}: ${[...verdicts.entries()]
          .filter(([, n]) => n > 0)
          .map(([code, n]) => `${dropName(code)} ${n}`)
          .join(', ')}`,
      );
    print('out', out);
    print('back in', back);
    expect(OUTBOUND.filter((code) => out[code] === 0).map(dropName)).toEqual([]);
    expect(RETURN.filter((code) => back[code] === 0).map(dropName)).toEqual([]);
  },
  3_600_000,
);

it('leaves no reason out: each is met on the way in or out, or said elsewhere', () => {
  for (const [code, who] of ELSEWHERE) console.log(`${dropName(code)}: said by ${who}`);
  const said = new Set<number>([...INBOUND, ...OUTBOUND, ...RETURN, ...ELSEWHERE.keys()]);
  expect(
    Object.values(DropReason)
      .filter((code) => !said.has(code))
      .map(dropName),
  ).toEqual([]);
});
