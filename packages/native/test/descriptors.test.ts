import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { constants as os, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { load } from '../src/index.ts';

const { binding } = load();
const { WebAssembly: Wasm } = globalThis as unknown as {
  WebAssembly: { Memory: new (shape: object) => { readonly buffer: SharedArrayBuffer } };
};
const { O_RDWR, O_CREAT, O_NONBLOCK } = constants;
const { EBADF, EINVAL, ENOTTY } = os.errno;

describe.skipIf(binding === null)('a descriptor that is not what a call wants', () => {
  const dir = mkdtempSync(join(tmpdir(), 'espalier-fd-'));
  let file = -1;
  let waiting = -1;
  let nothing = -1;
  let socket = -1;
  let event = -1;
  beforeAll(() => {
    file = openSync(join(dir, 'file'), O_RDWR | O_CREAT | O_NONBLOCK);
    waiting = openSync(join(dir, 'file'), O_RDWR);
    nothing = openSync('/dev/null', O_RDWR | O_NONBLOCK);
    socket = binding!.udpOpen(Uint8Array.of(127, 0, 0, 1), 0, Uint8Array.of(127, 0, 0, 1), 9);
    event = binding!.eventOpen();
  });
  afterAll(() => {
    for (const fd of [file, waiting, nothing]) closeSync(fd);
    binding!.udpClose(socket);
    binding!.close(event);
    rmSync(dir, { recursive: true });
  });

  it('is no TUN device', () => {
    for (const fd of [file, nothing, binding!.udpFd(socket), event]) expect(binding!.tunAttach(fd)).toBe(-ENOTTY);
    for (const fd of [-1, 9999]) expect(binding!.tunAttach(fd)).toBe(-EBADF);
  });

  it('is no file in the place of one', () => {
    for (const fd of [nothing, binding!.udpFd(socket), event, waiting]) expect(binding!.tunFile(fd)).toBe(-EINVAL);
    for (const fd of [-1, 9999]) expect(binding!.tunFile(fd)).toBe(-EBADF);
    const queue = binding!.tunFile(file);
    expect(queue).toBeGreaterThanOrEqual(0);
    expect(binding!.tunDetach(queue)).toBe(0);
  });

  it('is neither the socket that owns a UMEM nor a map of sockets, and the memory stays as it is', () => {
    const memory = new Uint8Array(new Wasm.Memory({ initial: 8, maximum: 8, shared: true }).buffer).fill(0x5a);
    const out = new Int32Array(16).fill(-7);
    const open = (owner: number, map: number): number =>
      binding!.xskOpen(memory, out, Int32Array.of(1, 0, 131_072, 2048, 131_072, 36_864, 2048, 8, owner, map));
    for (const fd of [file, nothing, binding!.udpFd(socket), event, 9999, -2, 2 ** 31 - 1, -(2 ** 31)]) {
      expect(open(fd, -1)).toBe(-EBADF);
      expect(open(-1, fd)).toBe(-EBADF);
    }
    expect(memory.every((b) => b === 0x5a)).toBe(true);
    expect(out.every((w) => w === -7)).toBe(true);
  });
});
