import { type Burst, createBurst, createSlab, type FrameSlab, Row, RowState, resetRow } from '@espalier/wire';
import { DropReason, LowerHandles, NoHandle, OffloadTable, type Port } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { BondPort, ReplicaTable, SnapshotPublisher, XMIT_HASH_POLICIES, xmitHash } from '../src/index.ts';
import { makeFrame, random } from './frames.ts';

/** Takes every row that has a handle or is sealed, as the seam asks, and remembers by which slave it went. */
class NullPort implements Port {
  readonly fd = -1;
  readonly rows: number[] = [];
  readonly states: number[] = [];
  readonly #resolve: (slot: number) => number;
  constructor(resolve: (slot: number) => number) {
    this.#resolve = resolve;
  }
  xmit(burst: Burst): number {
    let sent = 0;
    for (let i = 0; i < burst.length; i++) {
      const r = burst.list[i]! * Row.WORDS;
      if (burst.rows[r + Row.STATE] === RowState.TO_SEAL && this.#resolve(burst.rows[r + Row.SA]!) === 0) {
        burst.rows[r + Row.FATE] = DropReason.NO_LOWER_HANDLE;
        continue;
      }
      this.rows.push(burst.list[i]!);
      this.states.push(burst.rows[r + Row.STATE]!);
      sent++;
    }
    return sent;
  }
  poll(): number {
    return 0;
  }
  reap(): number {
    return 0;
  }
  room(): number {
    return 1;
  }
  close(): void {}
}

const LOWERS = 8;

interface Rig {
  slab: FrameSlab;
  burst: Burst;
  port: BondPort;
  ports: NullPort[];
  replicas: ReplicaTable;
  offloads: OffloadTable;
  sealed: number[];
  noHandle: Uint8Array;
  usable(...lowers: number[]): Promise<void>;
  policy: Int32Array;
}

/** SA slots 0 to 15, all the bond's; handles are put in by hand. */
function rig(options: { resilient?: boolean; linkType?: 'ethernet' | 'ip' | 'esp-udp' } = {}): Rig {
  const slab = createSlab({ frames: 64 });
  const replicas = ReplicaTable.create(16, LOWERS);
  const offloads = OffloadTable.create(16);
  for (let slot = 0; slot < 16; slot++) offloads.setUpper(slot);
  const publisher = new SnapshotPublisher(1, LOWERS, () => Promise.resolve());
  const policy = new Int32Array(new SharedArrayBuffer(4));
  policy[0] = XMIT_HASH_POLICIES.indexOf('layer3+4');
  const handles = new LowerHandles(offloads, replicas);
  const ports = Array.from({ length: LOWERS }, (_, lower) => new NullPort((slot) => handles.resolve(slot, lower)));
  const sealed: number[] = [];
  const noHandle = new Uint8Array(16);
  const ticket = {
    snapshot: publisher.ticket,
    replicas: replicas.ticket,
    policy: policy.buffer as SharedArrayBuffer,
    ...(options.resilient === undefined ? {} : { resilient: options.resilient }),
  };
  const port = BondPort.attach(ticket, {
    worker: 0,
    ports: new Map(ports.map((p, i) => [i, p])),
    slab,
    handles,
    path: {
      noHandle,
      seal: (burst) => {
        for (let i = 0; i < burst.length; i++) {
          burst.rows[burst.list[i]! * Row.WORDS + Row.STATE] = RowState.SEALED;
          sealed.push(burst.list[i]!);
        }
      },
    },
    ...(options.linkType === undefined ? {} : { linkType: options.linkType }),
  });
  return {
    ...{ slab, burst: createBurst(slab, 64), port, ports, replicas, offloads, sealed, noHandle, policy },
    usable: (...lowers) => publisher.publish(lowers),
  };
}

function put(rig: Rig, row: number, frame: Uint8Array, state: RowState = RowState.SEALED, sa = -1): number {
  const { slab, burst } = rig;
  const start = row * slab.frameSize + 64;
  slab.bytes.set(frame, start);
  resetRow(slab.rows, row, start, start + frame.length, state);
  slab.rows[row * Row.WORDS + Row.SA] = sa;
  burst.list[burst.length++] = row;
  return row * Row.WORDS;
}

function xmit(rig: Rig): number {
  rig.port.pin();
  const sent = rig.port.xmit(rig.burst);
  rig.port.unpin();
  rig.burst.length = 0;
  return sent;
}

const carriedBy = (rig: Rig, row: number): number => rig.ports.findIndex((p) => p.rows.includes(row));
const fate = (rig: Rig, row: number): number => rig.slab.rows[row * Row.WORDS + Row.FATE]!;

describe('the slave of a packet', () => {
  it.each(XMIT_HASH_POLICIES)(
    'is usable[hash modulo count], in the order of the snapshot, policy %s',
    async (policy) => {
      const r = random(1);
      const it = rig();
      it.policy[0] = XMIT_HASH_POLICIES.indexOf(policy);
      const usable = [5, 2, 7];
      await it.usable(...usable);
      const frames = Array.from({ length: 64 }, () => makeFrame(r).subarray(0, 600));
      for (const [row, frame] of frames.entries()) put(it, row, frame);
      expect(xmit(it)).toBe(64);
      frames.forEach((frame, row) => {
        const copy = frame.slice();
        const hash = xmitHash(policy, new DataView(copy.buffer), 0, copy.length);
        expect(carriedBy(it, row)).toBe(usable[hash % 3]);
      });
    },
  );

  it('follows the hash that its SA has for it under layer3+4, and its bytes under every other policy', async () => {
    for (const policy of XMIT_HASH_POLICIES) {
      const it = rig();
      it.policy[0] = XMIT_HASH_POLICIES.indexOf(policy);
      await it.usable(0, 1, 2, 3);
      const frame = makeFrame(random(9));
      const copy = frame.slice();
      const bytes = xmitHash(policy, new DataView(copy.buffer), 0, copy.length) % 4;
      for (let row = 0; row < 4; row++) it.slab.rows[put(it, row, frame) + Row.HASH] = row;
      xmit(it);
      for (let row = 0; row < 4; row++) expect(carriedBy(it, row)).toBe(policy === 'layer3+4' ? row : bytes);
    }
  });

  it('is none when the bond has none: every row ends with NO_USABLE_SLAVE', async () => {
    const it = rig();
    await it.usable();
    put(it, 3, makeFrame(random(2)));
    expect(xmit(it)).toBe(0);
    expect(fate(it, 3)).toBe(DropReason.NO_USABLE_SLAVE);
  });

  it('is chosen by the SPI where rows begin with it, and by the IP packet where there is no link header', async () => {
    const udp = rig({ linkType: 'esp-udp' });
    await udp.usable(0, 1, 2, 3);
    for (let row = 0; row < 32; row++) put(udp, row, Uint8Array.of(0, 0, 0x10, row, 0, 0, 0, 1, ...new Uint8Array(24)));
    xmit(udp);
    expect(udp.ports.filter((p) => p.rows.length > 0).length).toBe(4);
    const ip = rig({ linkType: 'ip' });
    await ip.usable(0, 1, 2, 3);
    const packet = new Uint8Array(60);
    packet.set([0x45, 0, 0, 60, 0, 0, 0, 0, 64, 50]);
    for (let row = 0; row < 32; row++) put(ip, row, packet.fill(row, 23, 24));
    xmit(ip);
    expect(ip.ports.filter((p) => p.rows.length > 0).length).toBe(4);
  });
});

describe('a packet whose slave has no handle for its SA', () => {
  async function without(choice: NoHandle, handlesOn: number[]): Promise<Rig> {
    const it = rig();
    await it.usable(0, 1, 2, 3);
    it.noHandle[7] = choice;
    for (const lower of handlesOn) it.replicas.write(7, lower, 1);
    for (let row = 0; row < 8; row++)
      it.slab.rows[put(it, row, new Uint8Array(80), RowState.TO_SEAL, 7) + Row.HASH] = row;
    xmit(it);
    return it;
  }

  it('is dropped, unless its SA says otherwise', async () => {
    const it = await without(NoHandle.DROP, [0, 2]);
    for (let row = 0; row < 8; row++)
      expect([carriedBy(it, row), fate(it, row)]).toEqual(
        row % 2 === 0 ? [row % 4, 0] : [-1, DropReason.NO_LOWER_HANDLE],
      );
    expect(it.sealed).toEqual([]);
  });

  it('is sealed here before that slave sees it, when its SA says software; others are left to their slaves', async () => {
    const it = await without(NoHandle.SOFTWARE, [0, 2]);
    expect(it.sealed).toEqual([1, 3, 5, 7]);
    for (let row = 0; row < 8; row++) {
      expect(carriedBy(it, row)).toBe(row % 4);
      const { rows, states } = it.ports[row % 4]!;
      expect(states[rows.indexOf(row)]).toBe(row % 2 === 0 ? RowState.TO_SEAL : RowState.SEALED);
    }
  });

  it('takes the next slave that has one, when its SA says steer', async () => {
    const it = await without(NoHandle.STEER, [0, 2]);
    expect([0, 1, 2, 3, 4, 5, 6, 7].map((row) => carriedBy(it, row))).toEqual([0, 2, 2, 0, 0, 2, 2, 0]);
    expect(it.sealed).toEqual([]);
  });

  it('is dropped when its SA says steer and no slave has one', async () => {
    const it = await without(NoHandle.STEER, []);
    for (let row = 0; row < 8; row++) expect(fate(it, row)).toBe(DropReason.NO_LOWER_HANDLE);
  });
});

describe('a change of members', () => {
  const FLOWS = 100_000;

  /** Flows that change slave between two sets. */
  async function moved(resilient: boolean, before: number[], after: number[]): Promise<{ all: number; own: number }> {
    const r = random(4);
    const hashes = Int32Array.from({ length: FLOWS }, () => r(2 ** 31));
    const it = rig({ resilient });
    const choose = async (usable: number[]): Promise<Int8Array> => {
      await it.usable(...usable);
      const chosen = new Int8Array(FLOWS);
      for (let row = 0; row < 64; row++) put(it, row, new Uint8Array(60));
      for (let f = 0; f < FLOWS; f += 64) {
        it.burst.length = Math.min(64, FLOWS - f);
        for (let row = 0; row < it.burst.length; row++) it.slab.rows[row * Row.WORDS + Row.HASH] = hashes[f + row]!;
        const { length } = it.burst;
        xmit(it);
        for (let row = 0; row < length; row++) chosen[f + row] = it.slab.rows[row * Row.WORDS + Row.LOWER]!;
      }
      return chosen;
    };
    const a = await choose(before);
    const b = await choose(after);
    let all = 0;
    let own = 0;
    for (let f = 0; f < FLOWS; f++) {
      if (a[f] === b[f]) continue;
      all++;
      if (!after.includes(a[f]!) || !before.includes(b[f]!)) own++;
    }
    return { all, own };
  }

  it.each([
    [
      [0, 1, 2, 3],
      [0, 1, 3],
    ],
    [
      [0, 1, 3],
      [0, 1, 3, 2],
    ],
    [[4, 1], [1]],
    [
      [0, 1, 2, 3, 4, 5, 6, 7],
      [0, 1, 2, 3, 4, 6, 7],
    ],
  ])("moves that member's flows alone when the bond is resilient: %j to %j", async (before, after) => {
    const { all, own } = await moved(true, before, after);
    console.log(`${before} to ${after}, resilient: ${((100 * all) / FLOWS).toFixed(2)} % of ${FLOWS} flows move`);
    expect(all).toBe(own);
    expect(all / FLOWS).toBeLessThan(1 / Math.max(before.length, after.length) + 0.02);
  });

  it('moves most flows otherwise, as on Linux', async () => {
    const { all } = await moved(false, [0, 1, 2, 3], [0, 1, 3]);
    console.log(`0,1,2,3 to 0,1,3, as on Linux: ${((100 * all) / FLOWS).toFixed(2)} % move`);
    expect(all / FLOWS).toBeGreaterThan(0.7);
  });

  it('leaves the shares even', async () => {
    for (let n = 2; n <= 8; n++) {
      const r = random(n);
      const it = rig({ resilient: true });
      await it.usable(...Array.from({ length: n }, (_, i) => i));
      const shares = new Float64Array(n);
      for (let i = 0; i < 200; i++) {
        for (let row = 0; row < 64; row++) it.slab.rows[put(it, row, new Uint8Array(60)) + Row.HASH] = r(2 ** 31);
        xmit(it);
        for (const [lower, port] of it.ports.slice(0, n).entries()) shares[lower]! += port.rows.splice(0).length;
      }
      for (const share of shares) expect(Math.abs(share / 12_800 - 1 / n)).toBeLessThan(0.02);
    }
  });
});
