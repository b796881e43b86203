import { createBurst, createSlab, Row, RowState, resetRow } from '@espalier/wire';
import { describe, expect, it } from 'vitest';
import { DropReason, NextHops, NextHopTable, PortStat } from '../src/index.ts';

const OWN = Uint8Array.of(2, 0, 0, 0, 0, 1);
const V4 = (last: number): Uint8Array => Uint8Array.of(192, 0, 2, last);
const V6 = (last: number): Uint8Array => Uint8Array.from({ length: 16 }, (_, i) => (i === 15 ? last : 0x20));
const MAC = (last: number): Uint8Array => Uint8Array.of(0xfe, 0, 0, 0, 0x80, last);

function rig(places = 64) {
  const slab = createSlab({ frames: 8 });
  const stats = new Float64Array(PortStat.COLUMNS);
  const table = new NextHopTable(places);
  const hops = new NextHops(table.memory, OWN, slab, stats);
  const burst = createBurst(slab, 8);
  /** Sends an IP packet to an address, or a frame of another kind; returns its first 12 bytes, or its fate. */
  const send = (address: Uint8Array | null): Uint8Array | number => {
    const start = slab.headroom;
    const bytes = slab.bytes.subarray(start, start + 80).fill(7);
    bytes.set([1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3, 0x88, 0x09]);
    if (address !== null) {
      bytes.set(address.length === 4 ? [0x08, 0x00] : [0x86, 0xdd], 12);
      bytes.set(address, address.length === 4 ? 30 : 38);
    }
    const before = bytes.slice();
    resetRow(slab.rows, 0, start, start + 80, RowState.CLEAR);
    burst.length = 1;
    burst.list[0] = 0;
    hops.look(burst);
    expect(bytes).toEqual(before);
    const fate = slab.rows[Row.FATE]!;
    if (fate !== 0) return fate;
    hops.address(0, start);
    expect(bytes.subarray(12)).toEqual(before.subarray(12));
    return bytes.slice(0, 12);
  };
  const place = (address: Uint8Array): number =>
    table.entries().find((e) => e.address.join() === address.join())?.place ?? -1;
  return { slab, stats, table, send, place };
}

describe('next hops', () => {
  it('refuses what is not known as it came, notes it once, and sends it when it is known', () => {
    for (const address of [V4(1), V6(1)]) {
      const { table, send, stats, place } = rig();
      expect(table.news()).toBe(false);
      expect([send(address), send(address)]).toEqual([DropReason.NO_NEIGHBOUR, DropReason.NO_NEIGHBOUR]);
      expect(stats[PortStat.REFUSED]).toBe(2);
      expect([table.news(), table.news()]).toEqual([true, false]);
      expect(table.entries().map((e) => e.address)).toEqual([address]);
      expect([table.asked(place(address)), table.asked(place(address))]).toEqual([true, false]);
      table.set(place(address), MAC(9));
      expect(send(address)).toEqual(Uint8Array.of(...MAC(9), ...OWN));
      expect(table.asked(place(address))).toBe(true);
      table.set(place(address), MAC(10));
      expect(send(address)).toEqual(Uint8Array.of(...MAC(10), ...OWN));
      table.set(place(address), null);
      expect(send(address)).toBe(DropReason.NO_NEIGHBOUR);
    }
  });

  it('leaves frames that are no IP as they are', () => {
    const { send, table } = rig();
    expect(send(null)).toEqual(Uint8Array.of(1, 1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3));
    expect(table.news()).toBe(false);
  });

  it('does not take an IPv6 address for the IPv4 one that it begins with', () => {
    const { send, table, place } = rig();
    send(V4(1));
    table.set(place(V4(1)), MAC(1));
    const six = new Uint8Array(16);
    six.set(V4(1));
    expect(send(six)).toBe(DropReason.NO_NEIGHBOUR);
  });

  it('refuses and keeps nothing when its places are taken, and has room again for what was forgotten', () => {
    const { send, table } = rig(16);
    for (let i = 0; i < 40; i++) expect(send(V4(i))).toBe(DropReason.NO_NEIGHBOUR);
    expect(table.entries().length).toBe(16);
    const { place } = table.entries()[3]!;
    table.forget(place);
    expect(table.entries().length).toBe(15);
    send(V4(200));
    expect(table.entries().find((e) => e.place === place)?.address).toEqual(V4(200));
  });

  it('agrees with a Map whatever comes in whatever order', () => {
    let seed = 42;
    const random = (n: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % n;
    };
    const { send, table, place } = rig(256);
    const twin = new Map<string, Uint8Array | null>();
    for (let i = 0; i < (process.env.ESPALIER_LONG ? 200_000 : 3000); i++) {
      const last = random(20);
      const address = random(2) === 0 ? V4(last) : V6(last);
      const key = address.join();
      const at = place(address);
      expect(at >= 0).toBe(twin.has(key));
      switch (at < 0 ? 3 : random(5)) {
        case 0: {
          const mac = MAC(random(256));
          table.set(at, mac);
          twin.set(key, mac);
          break;
        }
        case 1:
          table.set(at, null);
          twin.set(key, null);
          break;
        case 2:
          table.forget(at);
          twin.delete(key);
          break;
        default: {
          const mac = twin.get(key) ?? null;
          const got = send(address);
          expect(got).toEqual(mac === null ? DropReason.NO_NEIGHBOUR : Uint8Array.of(...mac, ...OWN));
          if (!twin.has(key)) twin.set(key, null);
        }
      }
    }
    expect(table.entries().length).toBe(twin.size);
  });
});
