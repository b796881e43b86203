import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { load } from '@espalier/native';
import { openTunPort, type TunTicket } from '@espalier/tun';
import { createPool, createSlab } from '@espalier/wire';
import { type PortContext, XfrmError } from '@espalier/xfrm';
import { afterAll, describe, expect, it } from 'vitest';

const { binding } = load();
const dir = mkdtempSync(join(tmpdir(), 'espalier-tun-'));
afterAll(() => rmSync(dir, { recursive: true }));

describe.skipIf(binding === null)('a TUN port', () => {
  it('is refused on a descriptor that is no TUN device, with a typed error, and leaves no trace', () => {
    const slab = createSlab({ frames: 8 });
    const context = { slab, pool: createPool(slab) } as unknown as PortContext;
    const { O_RDWR, O_CREAT, O_NONBLOCK } = constants;
    const file = openSync(join(dir, 'file'), O_RDWR | O_CREAT | O_NONBLOCK);
    const nothing = openSync('/dev/null', O_RDWR | O_NONBLOCK);
    const list = new Int32Array(new SharedArrayBuffer(4));
    const free = binding!.registerList(list);
    binding!.unregisterList(free);
    for (const [fd, errno] of [
      [file, 'ENOTTY'],
      [nothing, 'ENOTTY'],
      [9999, 'EBADF'],
      [-1, 'EBADF'],
    ] as const) {
      const ticket: TunTicket = { kind: 'tun', index: -1, port: 0, fd };
      const refused = expect.objectContaining({ code: 'SYSTEM', detail: expect.objectContaining({ errno }) });
      expect(() => openTunPort(ticket, context)).toThrow(refused);
      expect(() => openTunPort(ticket, context)).toThrow(XfrmError);
    }
    expect(binding!.registerList(list)).toBe(free);
    binding!.unregisterList(free);
    closeSync(file);
    closeSync(nothing);
  });
});
