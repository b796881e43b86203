import { nobleEngine } from '@espalier/esp';
import { createMockPair, type MockDevice, type MockPair, type MockTap, openMockPort } from '@espalier/mock';
import {
  type Burst,
  createBurst,
  createPool,
  createSlab,
  type FramePool,
  Row,
  RowState,
  resetRow,
} from '@espalier/wire';
import { DropReason, LowerHandles, OffloadTable, type Port, PortStat } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';

/** One worker's belongings around a port. */
interface Desk {
  readonly burst: Burst;
  readonly pool: FramePool;
  readonly port: Port;
  /** Sends frames of these bytes in the clear; returns the fates. */
  send(...frames: Uint8Array[]): number[];
  /** Polls once; the bytes received. */
  poll(): Uint8Array[];
}

function desk(device: MockDevice, tap: MockTap | null = null, frames = 256, port = 0): Desk {
  const slab = createSlab({ frames });
  const pool = createPool(slab);
  const burst = createBurst(slab, frames);
  const handles = new LowerHandles(OffloadTable.create(4), null);
  const opened = openMockPort(device.ticket(port), { slab, pool, engine: nobleEngine(), handles }, tap);
  return {
    burst,
    pool,
    port: opened,
    send: (...packets) => {
      burst.length = 0;
      packets.forEach((packet, i) => {
        const row = pool.take();
        // Odd offsets on purpose: frames are copied by words.
        const start = row * slab.frameSize + slab.headroom - (i % 5);
        slab.bytes.set(packet, start);
        resetRow(slab.rows, row, start, start + packet.length, RowState.CLEAR);
        burst.list[burst.length++] = row;
      });
      opened.xmit(burst);
      const fates = Array.from(burst.list.subarray(0, burst.length), (row) => slab.rows[row * Row.WORDS + Row.FATE]!);
      fates.forEach((fate, i) => {
        if (fate !== 0) pool.give(burst.list[i]!);
      });
      burst.length = 0;
      return fates;
    },
    poll: () => {
      burst.length = 0;
      opened.poll(burst);
      const got = Array.from(burst.list.subarray(0, burst.length), (row) => {
        const r = row * Row.WORDS;
        pool.give(row);
        return slab.bytes.slice(slab.rows[r + Row.START], slab.rows[r + Row.END]);
      });
      burst.length = 0;
      return got;
    },
  };
}

const frame = (n: number, length = 60): Uint8Array => {
  const bytes = Uint8Array.from({ length }, (_, i) => i * 7 + n);
  bytes[0] = n;
  bytes[1] = n >> 8;
  return bytes;
};
const number = (bytes: Uint8Array): number => bytes[0]! | (bytes[1]! << 8);
const some = (count: number, from = 0): Uint8Array[] =>
  Array.from({ length: count }, (_, i) => frame(from + i, 40 + i));

function both(pair: MockPair, tap: MockTap | null = null): [Desk, Desk] {
  return [desk(pair.a[0]!, tap), desk(pair.b[0]!)];
}

describe('a mock wire', () => {
  it('carries frames of any length and alignment unchanged and in order', () => {
    const [a, b] = both(createMockPair());
    const sent = [...some(90), frame(1, 1514), frame(2, 1)];
    expect(a.send(...sent)).toEqual(sent.map(() => 0));
    expect(b.poll()).toEqual(sent);
    expect(b.poll()).toEqual([]);
    expect(a.pool.free).toBe(256);
    b.send(frame(9));
    expect(a.poll()).toEqual([frame(9)]);
  });

  it('refuses what has no slot or is too long, and takes as many rows as it has room', () => {
    const [a, b] = both(createMockPair({ ringSlots: 8 }));
    expect(a.port.room()).toBe(8);
    const fates = a.send(...some(12));
    expect(fates).toEqual([...Array(8).fill(0), ...Array(4).fill(DropReason.NO_ROOM)]);
    expect(a.port.room()).toBe(0);
    expect(b.poll()).toHaveLength(8);
    expect(a.port.room()).toBe(8);
    expect(a.send(frame(0, 1600))).toEqual([DropReason.TOO_BIG]);
  });

  it('leaves on the wire what the receiver has no frame for', () => {
    const pair = createMockPair();
    const a = desk(pair.a[0]!);
    const b = desk(pair.b[0]!, null, 4);
    a.send(...some(10));
    expect(pair.wire.waiting(0, 0)).toBe(10);
    expect([...b.poll(), ...b.poll(), ...b.poll()].map(number)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('shows the tap every frame that was put on it, before any fault', () => {
    const seen: [number, number, number][] = [];
    const tap: MockTap = (bytes, start, end, link, direction) => {
      seen.push([number(bytes.slice(start, end)), link, direction]);
    };
    const [a, b] = both(createMockPair({ faults: { loss: 1 } }), tap);
    a.send(...some(3));
    expect(seen).toEqual([
      [0, 0, 0],
      [1, 0, 0],
      [2, 0, 0],
    ]);
    expect(b.poll()).toEqual([]);
  });

  it('loses, duplicates and corrupts at the rate asked for, the same way for the same seed', () => {
    const run = (seed: number): [number[], object] => {
      const pair = createMockPair({ seed, faults: { loss: 0.1, duplicate: 0.1, corrupt: 0.1 } });
      const [a, b] = both(pair);
      const got: number[] = [];
      for (let i = 0; i < 50; i++) {
        a.send(...some(40, i * 40));
        got.push(...b.poll().map((bytes) => bytes.reduce((sum, byte) => (sum * 31 + byte) | 0, 0)));
      }
      return [got, pair.wire.counts(0, 0)];
    };
    const [got, counts] = run(7);
    expect(run(7)).toEqual([got, counts]);
    expect(run(8)[0]).not.toEqual(got);
    const { lost, duplicated, corrupted } = counts as Record<string, number>;
    expect(got).toHaveLength(2000 - lost! + duplicated!);
    for (const count of [lost!, duplicated!, corrupted!]) expect(count).toBeGreaterThan(120);
    for (const count of [lost!, duplicated!, corrupted!]) expect(count).toBeLessThan(290);
  });

  it('flips exactly one bit of a corrupted frame', () => {
    const [a, b] = both(createMockPair({ faults: { corrupt: 1 } }));
    a.send(frame(5));
    const [got] = b.poll();
    let bits = 0;
    got!.forEach((byte, i) => {
      for (let x = byte ^ frame(5)[i]!; x !== 0; x &= x - 1) bits++;
    });
    expect(bits).toBe(1);
  });

  it('lets later frames overtake reordered ones and loses none', () => {
    const pair = createMockPair({ faults: { reorder: 0.3, reorderBy: 3 }, ringSlots: 64 });
    const [a, b] = both(pair);
    const got: number[] = [];
    for (let i = 0; i < 40; i++) {
      a.send(...some(8, i * 8));
      got.push(...b.poll().map(number));
    }
    for (let i = 0; i < 8; i++) got.push(...b.poll().map(number));
    expect([...got].sort((x, y) => x - y)).toEqual(Array.from({ length: 320 }, (_, i) => i));
    expect(got).not.toEqual([...got].sort((x, y) => x - y));
    expect(pair.wire.counts(0, 0).reordered).toBeGreaterThan(50);
  });

  it('delays by polls of the receiver, with no clock', () => {
    const [a, b] = both(createMockPair({ faults: { delay: 3 } }));
    a.send(frame(1));
    expect([b.poll(), b.poll()].flat()).toEqual([]);
    expect(b.poll()).toEqual([frame(1)]);
  });

  it('puts every n-th frame on another link once more', () => {
    const pair = createMockPair({ links: 2 });
    pair.wire.setFaults(0, 0, { replayEvery: 4, replayOn: 1 });
    const a = desk(pair.a[0]!);
    const b = [desk(pair.b[0]!), desk(pair.b[1]!)];
    a.send(...some(12));
    expect(b[0]!.poll().map(number)).toHaveLength(12);
    expect(b[1]!.poll().map(number)).toEqual([3, 7, 11]);
    expect(pair.wire.counts(0, 0).replayed).toBe(3);
    pair.a[0]!.setFaults({});
    a.send(...some(12));
    expect(b[1]!.poll()).toEqual([]);
  });

  it('takes frames injected from outside', () => {
    const pair = createMockPair();
    const b = desk(pair.b[0]!);
    expect(pair.wire.inject(0, 0, frame(3))).toBe(true);
    expect(pair.wire.inject(0, 0, new Uint8Array(4000))).toBe(false);
    expect(b.poll()).toEqual([frame(3)]);
  });

  it('refuses sizes and faults that make no sense', () => {
    expect(() => createMockPair({ ringSlots: 3 })).toThrow(RangeError);
    expect(() => createMockPair({ links: 0 })).toThrow(RangeError);
    expect(() => createMockPair({ slotBytes: 100 })).toThrow(RangeError);
    expect(() => createMockPair({ faults: { loss: 2 } })).toThrow(RangeError);
    expect(() => createMockPair({ faults: { delay: -1 } })).toThrow(RangeError);
    expect(() => createMockPair({ faults: { replayEvery: 1, replayOn: 1 } })).toThrow(RangeError);
  });
});

describe('a mock device', () => {
  it('tells listeners and ports when its link goes down and comes back', () => {
    const pair = createMockPair();
    const [a, b] = both(pair);
    const device = pair.a[0]!;
    let changes = 0;
    const end = device.onChange(() => changes++);
    device.setCarrier(false);
    device.setCarrier(false);
    expect([changes, device.carrier, device.running]).toEqual([1, false, true]);
    expect(a.send(frame(1))).toEqual([DropReason.LINK_DOWN]);
    expect(a.port.room()).toBe(0);
    device.setCarrier(true);
    device.setRunning(false);
    expect([changes, device.running]).toEqual([3, false]);
    expect(a.send(frame(1))).toEqual([DropReason.LINK_DOWN]);
    device.setRunning(true);
    expect(a.send(frame(2))).toEqual([0]);
    expect(b.poll()).toEqual([frame(2)]);
    end();
    pair.setCarrier(0, false);
    expect([changes, pair.b[0]!.carrier]).toEqual([4, false]);
  });

  it('loses what is on a link that goes down', () => {
    const pair = createMockPair();
    const [a, b] = both(pair);
    a.send(...some(3));
    pair.setCarrier(0, false);
    expect(b.poll()).toEqual([]);
    pair.setCarrier(0, true);
    expect(b.poll()).toEqual([]);
    expect(pair.b[0]!.stats.port(0)[PortStat.OVERRUN]).toBe(3);
  });

  it('counts frames in flight when it completes late, and gives them back when reaped or closed', () => {
    const pair = createMockPair({ lateCompletion: true });
    const [a, b] = both(pair);
    a.send(...some(5));
    expect([pair.a[0]!.inFlight(), a.pool.free]).toEqual([5, 251]);
    expect(b.poll()).toHaveLength(5);
    expect(a.port.reap()).toBe(5);
    expect([pair.a[0]!.inFlight(), a.pool.free]).toEqual([0, 256]);
    a.send(...some(2));
    a.port.close();
    a.port.close();
    expect([pair.a[0]!.inFlight(), a.pool.free]).toEqual([0, 256]);
    expect(() => a.port.xmit(a.burst)).toThrow(TypeError);
  });

  it('deals its receiving port by link, or as the house says', () => {
    const pair = createMockPair({ links: 3, workers: 2 });
    expect(pair.b.map((device) => [0, 1].map((port) => device.ticket(port).receive))).toEqual([
      [true, false],
      [false, true],
      [true, false],
    ]);
    const senders = [desk(pair.a[1]!, null, 16, 0), desk(pair.a[1]!, null, 16, 1)];
    senders[0]!.send(frame(1));
    senders[1]!.send(frame(2));
    expect(desk(pair.b[1]!, null, 16, 0).poll()).toEqual([]);
    expect(desk(pair.b[1]!, null, 16, 1).poll().map(number)).toEqual([1, 2]);
    expect(() => pair.a[0]!.ticket(2)).toThrow(RangeError);
  });

  it('counts what it sends, receives and refuses', () => {
    const pair = createMockPair({ ringSlots: 4 });
    const [a, b] = both(pair);
    a.send(...some(6));
    b.poll();
    const out = pair.a[0]!.stats.port(0);
    const into = pair.b[0]!.stats.port(0);
    expect([out[PortStat.SENT], out[PortStat.SENT_BYTES], out[PortStat.CLEAR], out[PortStat.REFUSED]]).toEqual([
      4, 166, 4, 2,
    ]);
    expect([into[PortStat.RECEIVED], into[PortStat.RECEIVED_BYTES]]).toEqual([4, 166]);
  });

  it('refuses a ticket of another kind and a second life', async () => {
    const pair = createMockPair();
    const ticket = { ...pair.a[0]!.ticket(0), kind: 'tun' } as never;
    expect(() => openMockPort(ticket, {} as never)).toThrow(TypeError);
    await pair.close();
    await pair.close();
    expect(pair.a[0]!.running).toBe(false);
    expect(() => pair.a[0]!.ticket(0)).toThrow(/closed/);
    await expect(pair.a[0]!.setFeatures(1)).rejects.toThrow(/closed/);
  });
});
