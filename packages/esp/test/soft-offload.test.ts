import { SoftOffload, SoftOffloadPort } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { createBurst, createSlab, Row, RowState, resetRow } from '@espalier/wire';
import { createPortStats, DropReason, PortStat, type Sa, SaKey, type SaStats, XfrmError } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';

const SA: Sa = {
  slot: 0,
  direction: 'out',
  spi: 0x1234,
  source: Uint8Array.of(192, 0, 2, 1),
  destination: Uint8Array.of(192, 0, 2, 2),
  mode: 'tunnel',
  algorithm: 'aes128gcm16',
  icvLength: 16,
  esn: true,
  key: SaKey.import(
    'aes128gcm16',
    Uint8Array.from({ length: 20 }, (_, i) => i),
  ),
  encap: null,
  offload: null,
};
const LENGTH = 8 + 8 + 64 + 16;

const none = (): SaStats => ({ packets: 0, bytes: 0, icvFailures: 0 });

describe('the counters of HW_ESP in software', () => {
  it('are kept per handle and port, read until the handle is freed, and begin anew with the next handle', async () => {
    const offload = new SoftOffload({ device: 'soft0', capacity: 8, ports: 2 });
    const handle = await offload.stateAdd(SA);
    const other = await offload.stateAdd({ ...SA, slot: 1 });
    const slab = createSlab({ frames: 8 });
    const burst = createBurst(slab, 8);
    const stats = createPortStats(2);
    const ports = [0, 1].map(
      (port) =>
        new SoftOffloadPort({
          memory: offload.memory,
          engine: nodeEngine(),
          handles: { resolve: () => handle },
          lowerIndex: 0,
          port,
          stats: stats.port(port),
        }),
    );
    const fill = (rows: number): void => {
      burst.length = 0;
      for (let row = 0; row < rows; row++) {
        const start = row * slab.frameSize + slab.headroom;
        resetRow(slab.rows, row, start, start + LENGTH, RowState.TO_SEAL);
        slab.rows[row * Row.WORDS + Row.ESP] = start;
        slab.rows[row * Row.WORDS + Row.SA] = 0;
        slab.rows[row * Row.WORDS + Row.SEQ_LO] = row + 1;
        slab.rows[row * Row.WORDS + Row.SEQ_HI] = 0;
        slab.view.setUint32(start + 4, row + 1);
        burst.list[burst.length++] = row;
      }
    };
    fill(3);
    ports[0]!.seal(burst);
    for (let row = 0; row < 3; row++) slab.rows[row * Row.WORDS + Row.STATE] = RowState.RECEIVED;
    // The last one is broken on the way.
    slab.bytes[slab.rows[2 * Row.WORDS + Row.END]! - 1]! ^= 1;
    expect(ports[1]!.open(burst)).toBe(2);
    const read = (port: number): SaStats => {
      const into = none();
      offload.updatePortStats(handle, port, into);
      return into;
    };
    expect(read(0)).toEqual({ packets: 3, bytes: 3 * LENGTH, icvFailures: 0 });
    expect(read(1)).toEqual({ packets: 2, bytes: 2 * LENGTH, icvFailures: 1 });
    const sum = none();
    offload.updateStats(other, sum);
    expect(sum).toEqual(none());
    offload.stateDelete(handle);
    offload.updateStats(handle, sum);
    expect(sum).toEqual({ packets: 5, bytes: 5 * LENGTH, icvFailures: 1 });
    await offload.stateFree(handle);
    expect(() => offload.updateStats(handle, sum)).toThrow(XfrmError);
    // The same entry comes back once the others have been used.
    let again = 0;
    for (let i = 0; i < 8 && (again & 0xfffff) !== (handle & 0xfffff); i++) again = await offload.stateAdd(SA);
    expect(again & 0xfffff).toBe(handle & 0xfffff);
    offload.updateStats(again, sum);
    expect(sum).toEqual(none());
  });
});

describe('a port of HW_ESP in software', () => {
  it('opens each row with the handle of its SA, where two come in turns and one more has none', async () => {
    const offload = new SoftOffload({ device: 'soft0', capacity: 8 });
    const key = SaKey.import('aes128gcm16', new Uint8Array(20).fill(9));
    const handles = [await offload.stateAdd(SA), await offload.stateAdd({ ...SA, slot: 1, key }), 0];
    const slab = createSlab({ frames: 6 });
    const burst = createBurst(slab, 6);
    const stats = createPortStats(1).port(0);
    const port = new SoftOffloadPort({
      memory: offload.memory,
      engine: nodeEngine(),
      handles: { resolve: (slot) => handles[slot]! },
      lowerIndex: 0,
      stats,
    });
    const fill = (state: RowState, sas: number[]): void => {
      burst.length = 0;
      sas.forEach((sa, row) => {
        const start = row * slab.frameSize + slab.headroom;
        resetRow(slab.rows, row, start, start + LENGTH, state);
        slab.rows.set([start, sa], row * Row.WORDS + Row.ESP);
        slab.rows.set([row + 1, 0], row * Row.WORDS + Row.SEQ_LO);
        slab.view.setUint32(start + 4, row + 1);
        burst.list[burst.length++] = row;
      });
    };
    fill(RowState.TO_SEAL, [0, 0, 1, 0, 1, 1]);
    port.seal(burst);
    fill(RowState.RECEIVED, [0, 0, 1, 2, 1, 1]);
    expect(port.open(burst)).toBe(5);
    expect(Array.from(burst.list, (row) => slab.rows[row * Row.WORDS + Row.STATE])).toEqual(
      [0, 0, 1, 2, 1, 1].map((sa) => (sa === 2 ? RowState.RECEIVED : RowState.OPENED)),
    );
    const counts = handles.slice(0, 2).map((handle) => {
      const into = none();
      offload.updatePortStats(handle, 0, into);
      return into.packets;
    });
    // Three sealed under either, two and three opened.
    expect(counts).toEqual([3 + 2, 3 + 3]);
    expect([stats[PortStat.OPENED], stats[PortStat.ICV_BAD]]).toEqual([5, 0]);
  });

  it('seals with the handle of the very SA or not at all: without one the row is refused and left bit-identical', async () => {
    const offload = new SoftOffload({ device: 'soft0', capacity: 8 });
    const handle = await offload.stateAdd(SA);
    const slab = createSlab({ frames: 2 });
    const burst = createBurst(slab, 2);
    const port = new SoftOffloadPort({
      memory: offload.memory,
      engine: nodeEngine(),
      handles: { resolve: (slot) => (slot === 0 ? handle : 0) },
      lowerIndex: 0,
      stats: createPortStats(1).port(0),
    });
    const fates = (): number[] => {
      burst.length = 0;
      slab.bytes.fill(0x5a);
      for (let row = 0; row < 2; row++) {
        const start = row * slab.frameSize + slab.headroom;
        resetRow(slab.rows, row, start, start + LENGTH, RowState.TO_SEAL);
        slab.rows[row * Row.WORDS + Row.ESP] = start;
        slab.rows[row * Row.WORDS + Row.SA] = row;
        slab.rows[row * Row.WORDS + Row.SEQ_LO] = 1;
        slab.rows[row * Row.WORDS + Row.SEQ_HI] = 0;
        burst.list[burst.length++] = row;
      }
      port.seal(burst);
      return [0, 1].map((row) => slab.rows[row * Row.WORDS + Row.FATE]!);
    };
    const untouched = (row: number): boolean =>
      slab.bytes.subarray(row * slab.frameSize, (row + 1) * slab.frameSize).every((b) => b === 0x5a);
    expect(fates()).toEqual([0, DropReason.NO_LOWER_HANDLE]);
    expect([untouched(0), untouched(1)]).toEqual([false, true]);
    // At once, though the port has the key in its engine still.
    offload.stateDelete(handle);
    expect(fates()).toEqual([DropReason.NO_LOWER_HANDLE, DropReason.NO_LOWER_HANDLE]);
    expect([untouched(0), untouched(1)]).toEqual([true, true]);
  });
});
