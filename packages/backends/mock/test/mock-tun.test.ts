import { MockTun, MockTunQueue, openMockTunPort } from '@espalier/mock';
import { createBurst, createPool, createSlab, Row, RowState, resetRow } from '@espalier/wire';
import { DropReason, type PortContext } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';

describe('a mock TUN', () => {
  it('hands out rows that an ICV has held for, and no others', () => {
    const slab = createSlab({ frames: 16 });
    const pool = createPool(slab);
    const tun = new MockTun({ name: 'tun0', queues: 1 });
    const port = openMockTunPort(tun.ticket(0), { slab, pool } as unknown as PortContext);
    const host = MockTunQueue.attach(tun.ticket(0));
    const states = Object.values(RowState);
    const burst = createBurst(slab, states.length);
    for (const state of states) {
      const row = pool.take();
      const at = row * slab.frameSize + slab.headroom;
      slab.bytes.fill(state + 1, at, at + 40);
      resetRow(slab.rows, row, at, at + 40, state);
      burst.list[burst.length++] = row;
    }
    expect(port.xmit(burst)).toBe(1);
    const fates = [...burst.list].map((row) => slab.rows[row * Row.WORDS + Row.FATE]);
    expect(fates).toEqual(states.map((state) => (state === RowState.OPENED ? 0 : DropReason.UNSET)));
    const buffer = new Uint8Array(2048);
    expect([host.read(buffer), buffer[0], host.read(buffer)]).toEqual([40, RowState.OPENED + 1, 0]);
  });
});
