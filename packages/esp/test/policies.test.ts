/** What becomes of outbound packets by policy, in bursts, against policies that are asked one packet after another. */
import { ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { checkIpv4, checkIpv6, Row, RowState } from '@espalier/wire';
import { ALGORITHM_NAMES, ALGORITHMS, DropReason, PolicyAction, type PolicyTicket, SaKey, Spd } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { EspPath } from '../src/index.ts';
import { Bench, ipv4, ipv6, random } from './bench-rows.ts';
import { LINK, protect, V4 } from './rig.ts';

const ROUNDS = process.env.ESPALIER_LONG ? 20_000 : 600;
const SLOTS = 4;
/** An SA of the way in, which a policy should not name. */
const INBOUND = 3;
const GCM = 'aes128gcm16';

function pathOf(bench: Bench): EspPath {
  const engine = {
    name: 'nothing',
    algorithms: ALGORITHM_NAMES,
    install: () => 1,
    remove: () => undefined,
    seal: () => undefined,
    open: () => 0,
  };
  return new EspPath({ slab: bench.slab, engine, maxSas: SLOTS, linkType: 'ethernet', offloads: null, link: LINK });
}

function common(slot: number) {
  const key = SaKey.import(GCM, new Uint8Array(ALGORITHMS[GCM].keyLength).fill(7)).share();
  const { icvLength } = ALGORITHMS[GCM];
  return {
    slot,
    spi: 0x1000 + slot,
    ...V4,
    mode: 'tunnel',
    algorithm: GCM,
    icvLength,
    esn: true,
    key,
    encap: null,
  } as const;
}

function add(path: EspPath, slot: number): void {
  const { memory, offset } = SequenceAllocator.create({ esn: true });
  const allocator = { memory, offset };
  path.addOutbound({ ...common(slot), allocator, offload: false, noHandle: 'drop', link: LINK, mtu: 1500 });
}

describe('the packets of a burst', () => {
  it('go on by the old policies when new ones make no sense', () => {
    const bench = new Bench(4);
    const path = pathOf(bench);
    add(path, 1);
    const [old] = protect(1);
    path.setPolicies([old!]);
    const slots = (): number[] => {
      bench.clear();
      bench.put(ipv4(60));
      path.outbound(bench.burst);
      return [bench.at(0, Row.FATE), bench.at(0, Row.SA)];
    };
    expect(slots()).toEqual([0, 1]);
    // The first of the new ones is good: it must not come alone.
    const discard: PolicyTicket = { ...old!, action: 'discard', slot: -1 };
    expect(() => path.setPolicies([discard, { ...old!, sourceBits: 33 }])).toThrow(RangeError);
    expect(slots()).toEqual([0, 1]);
    path.setPolicies([discard]);
    expect(slots()).toEqual([DropReason.POLICY, -1]);
  });

  it('are answered as policies answer them one after another, whatever has changed since the burst before', () => {
    const draw = random(5);
    const pick = <T>(...of: T[]): T => of[draw(of.length)]!;
    const bench = new Bench(32);
    const path = pathOf(bench);
    for (let slot = 0; slot < INBOUND; slot++) add(path, slot);
    const { memory, offset } = ReplayWindow.create({ size: 64, esn: true });
    path.addInbound({ ...common(INBOUND), window: { memory, offset } });
    const there = new Set([0, 1, 2]);
    let policies: PolicyTicket[] = [];
    const fates = new Map<number, number>();
    const slots = new Map<number, number>();

    const prefix = (six: boolean, house: number) =>
      six ? Uint8Array.of(0xfd, house, ...new Uint8Array(14)) : Uint8Array.of(10, house, 0, draw(3));
    const policy = (): PolicyTicket => {
      const six = draw(6) === 0;
      const action = pick('protect', 'protect', 'protect', 'bypass', 'discard');
      return {
        source: prefix(six, 1),
        sourceBits: pick(0, 16, six ? 128 : 32, six ? 64 : 30),
        destination: prefix(six, pick(2, 2, 9)),
        destinationBits: pick(0, 0, 16, six ? 128 : 32),
        protocol: pick(null, null, null, 17, 6),
        action,
        slot: action === 'protect' ? draw(SLOTS) : -1,
      };
    };
    const packet = (): Uint8Array => {
      const bytes = draw(8) === 0 ? ipv6(48 + draw(100)) : ipv4(28 + draw(100), draw(4));
      if (draw(10) === 0) bytes[0] = draw(256);
      if (draw(10) === 0) bytes[2 + draw(2)] = draw(256);
      return bytes;
    };

    for (let round = 0; round < ROUNDS; round++) {
      const change = draw(6);
      if (change === 0 || round === 0) {
        policies = Array.from({ length: 1 + draw(12) }, policy);
        path.setPolicies(policies);
      } else if (change === 1) {
        const [from, to] = [draw(SLOTS), pick(...there, 0)];
        if (there.has(to)) {
          path.switchOutbound(from, to);
          policies = policies.map((p) => (p.slot === from ? { ...p, slot: to } : p));
        }
      } else if (change === 2) {
        const slot = draw(INBOUND);
        if (there.delete(slot)) path.remove(slot);
        else {
          add(path, slot);
          there.add(slot);
        }
      }
      bench.clear();
      // Runs of one kind, as traffic has them, and all sorts.
      const kinds = Array.from({ length: pick(1, 2, 32) }, packet);
      for (let i = 0; i < 32; i++) {
        const r = bench.put(kinds[draw(kinds.length)]!);
        if (draw(20) === 0) bench.slab.rows[r + Row.FATE] = DropReason.TRUNCATED;
      }
      const { rows, view } = bench.slab;
      const spd = new Spd(policies);
      const expected = Array.from({ length: 32 }, (_, i) => {
        const [start, end, fate] = [bench.at(i, Row.START), bench.at(i, Row.END), bench.at(i, Row.FATE)];
        if (fate !== 0) return { fate, slot: -1 };
        const six = view.getUint8(start) >> 4 === 6;
        if ((six ? checkIpv6(view, start, end) : checkIpv4(view, start, end, false)) !== 0)
          return { fate: DropReason.BAD_INNER, slot: -1 };
        const says = spd.lookup(view, start);
        if (says === PolicyAction.BYPASS) return { fate: 0, slot: -1 };
        if (says < 0) return { fate: DropReason.POLICY, slot: -1 };
        if (there.has(says)) return { fate: 0, slot: says };
        return { fate: says === INBOUND ? DropReason.BAD_STATE : DropReason.NO_STATE, slot: -1 };
      });
      path.outbound(bench.burst);
      const found = Array.from({ length: 32 }, (_, i) => ({ fate: bench.at(i, Row.FATE), slot: bench.at(i, Row.SA) }));
      expect(found).toEqual(expected);
      for (const [i, { fate, slot }] of found.entries()) {
        if (fate === 0)
          expect(rows[bench.burst.list[i]! * Row.WORDS + Row.STATE]).toBe(slot < 0 ? RowState.CLEAR : RowState.TO_SEAL);
        fates.set(fate, (fates.get(fate) ?? 0) + 1);
        slots.set(slot, (slots.get(slot) ?? 0) + 1);
      }
    }
    // Enough of all sorts for this to say something.
    expect([...fates.keys()].sort((a, b) => a - b)).toEqual(
      [
        0,
        DropReason.TRUNCATED,
        DropReason.BAD_INNER,
        DropReason.POLICY,
        DropReason.NO_STATE,
        DropReason.BAD_STATE,
      ].sort((a, b) => a - b),
    );
    for (const count of fates.values()) expect(count).toBeGreaterThan(ROUNDS / 10);
    for (const slot of [-1, 0, 1, 2]) expect(slots.get(slot)).toBeGreaterThan(ROUNDS / 2);
  });
});
