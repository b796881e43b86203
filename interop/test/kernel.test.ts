import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Kernel, kernelMissing, startKernel } from '../src/kernel.ts';

const missing = kernelMissing();

describe.skipIf(missing !== null)(`a kernel of its own${missing === null ? '' : ` (${missing})`}`, () => {
  let kernel: Kernel;
  beforeAll(async () => {
    kernel = await startKernel({ nets: ['left', 'right'], script: 'ip link set left up; ip link set right up' });
  });
  afterAll(() => kernel?.stop());

  it('runs commands with their output and exit code apart', async () => {
    expect(await kernel.exec('echo out; echo err >&2; exit 3')).toEqual({ code: 3, stdout: 'out\n', stderr: 'err\n' });
  });

  it('runs several commands at once', async () => {
    const began = performance.now();
    await Promise.all([1, 2, 3].map(() => kernel.run('sleep 1')));
    expect(performance.now() - began).toBeLessThan(2500);
  });

  it('ends a command that takes too long', async () => {
    expect((await kernel.exec('sleep 30', 1)).code).toBe(124);
  });

  it('is another kernel than the host, with ESP and bonding', async () => {
    expect(await kernel.run('uname -a')).toMatch(/^Linux/);
    await kernel.run('ip link add b0 type bond mode 802.3ad; ip link del b0');
    await kernel.run(
      'ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 1 reqid 1 mode tunnel ' +
        "aead 'rfc4106(gcm(aes))' 0x0011223344556677889900112233445566778899 128; ip xfrm state deleteall",
    );
  });

  it('bridges a frame from one cable to the other, bit for bit', async () => {
    await kernel.run(
      'ip link add r0 type bridge; for d in left right; do ip link set $d master r0; done; ip link set r0 up',
    );
    const frame = Buffer.from('ffffffffffff020000000001a0a0'.padEnd(120, '5a'), 'hex');
    const arrived = new Promise<Buffer>((resolve) => {
      kernel.cable('right').onFrame((f) => {
        if (f.readUInt16BE(12) === 0xa0a0) resolve(Buffer.from(f));
      });
    });
    kernel.cable('left').send(frame);
    expect((await arrived).toString('hex')).toBe(frame.toString('hex'));
  });
});

describe('where no kernel can be started', () => {
  it('the reason names what to install', () => {
    expect(kernelMissing('/nonexistent')).toMatch(/apt-get install user-mode-linux kmod iproute2|only/);
  });
});
