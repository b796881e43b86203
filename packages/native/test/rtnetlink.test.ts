import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LinkWatch, linkInfo, load } from '../src/index.ts';
import { LOST, Message, Rtm, Rtnetlink } from '../src/rtnetlink.ts';
import { ip, type VethPair, vethPair } from './veth.ts';

const pair = vethPair('espn');
const reason = typeof pair === 'string' ? pair : null;
afterAll(() => typeof pair !== 'string' && pair.close());

async function until(holds: () => boolean, ms = 2000): Promise<void> {
  const end = performance.now() + ms;
  while (!holds()) {
    if (performance.now() > end) throw new Error('it did not come');
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

describe.skipIf(reason !== null)(`rtnetlink${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  const { binding } = load() as { binding: NonNullable<ReturnType<typeof load>['binding']> };
  const { a, b } = pair as VethPair;
  const info = (): { readonly index: number } => linkInfo(binding, a) as { readonly index: number };
  let watch: LinkWatch;
  beforeAll(() => {
    watch = LinkWatch.open(binding, a, info().index) as LinkWatch;
  });
  afterAll(() => watch.close());

  it('tells of carrier that goes and comes with the other end, without a timer', async () => {
    // The kernel's word of a new link may come a second later, when there is news of many others.
    await until(() => watch.carrier);
    let heard = 0;
    const end = watch.onChange(() => heard++);
    expect([watch.running, watch.carrier]).toEqual([true, true]);
    ip('link', 'set', b, 'down');
    await until(() => !watch.carrier);
    expect([watch.running, heard]).toEqual([true, 1]);
    ip('link', 'set', b, 'up');
    await until(() => watch.carrier);
    ip('link', 'set', a, 'down');
    await until(() => !watch.running);
    ip('link', 'set', a, 'up');
    await until(() => watch.carrier);
    end();
    const before = heard;
    ip('link', 'set', b, 'down');
    await until(() => !watch.carrier);
    expect(heard).toBe(before);
    ip('link', 'set', b, 'up');
    await until(() => watch.carrier);
  });

  it('follows an interface under its new name, and does not take another of the old name for it', async () => {
    const other = `${a}x`;
    ip('link', 'set', a, 'down');
    ip('link', 'set', a, 'name', other);
    ip('link', 'set', other, 'up');
    await until(() => watch.carrier);
    ip('link', 'add', a, 'type', 'dummy');
    ip('link', 'set', other, 'down');
    ip('link', 'set', a, 'up');
    await until(() => !watch.running);
    ip('link', 'del', a);
    ip('link', 'set', other, 'name', a);
    ip('link', 'set', a, 'up');
    await until(() => watch.carrier);
  });

  it('answers a request under its number, and hears nothing more when nobody listens', async () => {
    const seen: number[] = [];
    const listener = (message: Message | typeof LOST): void => {
      if (message !== LOST && message.sequence > 0) seen.push(message.sequence, message.error ?? 1);
    };
    const socket = Rtnetlink.listen(binding, listener) as Rtnetlink;
    // A neighbour table that does not exist: the kernel says no.
    const sequence = socket.request(Rtm.GETNEIGH, new Uint8Array(12), []);
    await until(() => seen.length > 0);
    expect(seen[0]).toBe(sequence);
    expect(seen[1]).toBeLessThan(0);
    socket.unlisten(listener);
    socket.unlisten(listener);
  });

  it('reads no attribute that lies beyond its message', () => {
    const bytes = new Uint8Array(64);
    const message = new Message(bytes);
    message.body = 16;
    message.end = 40;
    // One attribute of 8 bytes, then one that claims more than is left.
    bytes.set([8, 0, 3, 0, 1, 2, 3, 4], 20);
    bytes.set([13, 0, 4, 0], 28);
    expect(message.attribute(4, 3)).toEqual(Uint8Array.of(1, 2, 3, 4));
    expect(message.attribute(4, 4)).toBe(null);
    bytes[28] = 12;
    expect(message.attribute(4, 4)?.length).toBe(8);
    // One that would stand still.
    bytes[20] = 0;
    expect(message.attribute(4, 4)).toBe(null);
  });

  it('throws at wrong arguments and refuses sockets that are not there', () => {
    const wrong = binding as unknown as Record<string, (...args: unknown[]) => unknown>;
    for (const args of [[], [1], ['x', () => {}], [0, 1]]) expect(() => wrong.netlinkOpen!(...args)).toThrow(TypeError);
    for (const args of [[], [99, new Uint8Array(4)], [-1, new Uint8Array(4)], [0, 'x'], [0, new Int32Array(4)]]) {
      expect(() => wrong.netlinkSend!(...args)).toThrow(TypeError);
      expect(() => wrong.netlinkReceive!(...args)).toThrow(TypeError);
    }
    expect(() => wrong.netlinkClose!(99)).toThrow(TypeError);
  });

  it('survives a thread that is ended, or a process that exits, while it listens', async () => {
    const addon = join(import.meta.dirname, '..', 'build', 'espalier.node');
    const code = `const b = require(${JSON.stringify(addon)}); for (let i = 0; i < 4; i++) b.netlinkOpen(1, () => {});`;
    for (let i = 0; i < 20; i++) {
      const worker = new Worker(`${code} setInterval(() => {}, 1000);`, { eval: true });
      await new Promise((resolve) => worker.once('online', resolve));
      if (i % 2 === 0) ip('link', 'set', b, i % 4 === 0 ? 'down' : 'up');
      expect(await worker.terminate()).toBe(1);
    }
    (pair as VethPair).up();
    // It keeps no loop alive; exit at once and by itself.
    for (const last of ['', 'process.exit(0)', 'b.netlinkClose(2)'])
      expect(spawnSync(process.execPath, ['-e', `${code} ${last}`], { timeout: 10_000 }).status).toBe(0);
  });

  it('keeps no descriptor and no thread of sockets that were closed', async () => {
    const held = (): number => readdirSync('/proc/self/fd').length + readdirSync('/proc/self/task').length;
    const before = held();
    for (let i = 0; i < (process.env.ESPALIER_LONG ? 100_000 : 500); i++) {
      const id = binding.netlinkOpen(1, () => {});
      expect(id).toBeGreaterThanOrEqual(0);
      binding.netlinkClose(id);
      if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(held()).toBe(before);
  });
});
