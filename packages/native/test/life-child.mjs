// A process that has everything of the addon open, and ends in some way: node life-child.mjs ADDON WAY [COUNT|INTERFACE].
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isMainThread, Worker, workerData } from 'node:worker_threads';

const [file, way, more] = isMainThread ? process.argv.slice(2) : workerData;
const shared = (Type, length) => new Type(new SharedArrayBuffer(length * Type.BYTES_PER_ELEMENT));
const descriptors = () => readdirSync('/proc/self/fd').length;
const need = (result, what) => {
  if (result < 0) throw new Error(`${what}: ${result}`);
  return result;
};

/** One of each, and a burst of 32 rows that can be sealed. */
function openAll(addon) {
  addon.linkSet('lo', 0, 1, 0);
  const slab = need(addon.registerSlab(shared(Uint8Array, 65_536), shared(Int32Array, 512), 32, 2048, 256, 64), 'slab');
  const list = shared(Int32Array, 32);
  const id = need(addon.registerList(list), 'list');
  need(addon.aeadInstall(new Uint8Array(20), 2, 1, 1, 8, 16, 4, 0), 'key');
  const event = need(addon.eventOpen(), 'event');
  const tun = need(addon.tunOpen('life%d', 0, 1), 'tun');
  const queue = need(addon.tunAttach(tun), 'queue');
  const packet = need(addon.packetOpen(1, 64), 'packet');
  const udp = need(addon.udpOpen(new Uint8Array(4), 0, Uint8Array.of(127, 0, 0, 1), 4500), 'udp');
  const netlink = need(
    addon.netlinkOpen(1, () => undefined),
    'netlink',
  );
  return { slab, list, id, event, tun, queue, packet, udp, netlink };
}

/** Bursts and polls without end. */
function work(addon) {
  const { slab, list, id, event, packet, udp, queue, tun } = openAll(addon);
  for (let i = 0; i < 32; i++) list[i] = i;
  const fds = shared(Int32Array, 2);
  fds.set([event, tun]);
  const waits = need(addon.registerList(fds), 'list');
  for (;;) {
    addon.aeadSeal(slab, list, 32);
    addon.packetReceive(packet, slab, id, 0, 32);
    addon.udpReceive(udp, slab, id, 0, 32);
    addon.tunRead(queue, slab, id, 0, 32);
    addon.wait(waits, 2, 20);
  }
}

/** Everything that can be opened and closed, once. */
function openAndClose(addon, memory) {
  const slab = need(addon.registerSlab(memory.bytes, memory.rows, 32, 2048, 256, 64), 'slab');
  const list = need(addon.registerList(memory.rows), 'list');
  const keys = [1, 2, 3].map((kind) =>
    need(
      kind === 3
        ? addon.aeadInstall(memory.key.subarray(0, 48), 2, 3, 0, 16, 16, 0, 32)
        : addon.aeadInstall(memory.key.subarray(0, 36), 2, kind, 1, 8, 16, 4, 0),
      'key',
    ),
  );
  for (const key of keys) addon.aeadRemove(key);
  const event = need(addon.eventOpen(), 'event');
  const udp = need(addon.udpOpen(memory.any, 0, memory.peer, 4500), 'udp');
  addon.udpClose(udp);
  need(addon.close(event), 'close');
  if (addon.close(event) !== -9) throw new Error('a second close was taken');
  addon.unregisterList(list);
  addon.unregisterSlab(slab);
}

async function main() {
  if (way === 'terminate') {
    // The main thread has not loaded the addon: it comes and goes with the workers.
    for (let i = 0; i < Number(more); i++) {
      const workers = [0, 1].map(() => new Worker(process.argv[1], { workerData: [file, 'work'] }));
      const failed = new Promise((_, reject) => {
        for (const worker of workers) worker.on('error', reject);
      });
      await Promise.race([new Promise((done) => setTimeout(done, 20 + 13 * (i % 8))), failed]);
      await Promise.all(workers.map((worker) => worker.terminate()));
    }
    process.exit(7);
  }
  const addon = createRequire(import.meta.url)(file);
  if (way === 'flat') {
    const memory = {
      bytes: shared(Uint8Array, 65_536),
      rows: shared(Int32Array, 512),
      key: new Uint8Array(64).fill(3),
      any: new Uint8Array(4),
      peer: Uint8Array.of(127, 0, 0, 1),
    };
    const settle = () => {
      globalThis.gc();
      return { rss: process.memoryUsage.rss(), fds: descriptors() };
    };
    for (let i = 0; i < 2000; i++) openAndClose(addon, memory);
    const before = settle();
    for (let i = 0; i < Number(more); i++) openAndClose(addon, memory);
    const after = settle();
    process.stdout.write(JSON.stringify({ rss: after.rss - before.rss, fds: after.fds - before.fds }));
    return;
  }
  if (way === 'devices') {
    // Devices and sockets of the kernel's, which take their time.
    const cycle = () => {
      const tun = need(addon.tunOpen('life%d', 0, 1), 'tun');
      addon.tunDetach(need(addon.tunAttach(tun), 'queue'));
      need(addon.close(tun), 'close');
      addon.packetClose(need(addon.packetOpen(1, 0), 'packet'));
      addon.netlinkClose(
        need(
          addon.netlinkOpen(1, () => undefined),
          'netlink',
        ),
      );
    };
    for (let i = 0; i < 20; i++) cycle();
    await new Promise((done) => setTimeout(done, 50));
    globalThis.gc();
    const before = { rss: process.memoryUsage.rss(), fds: descriptors() };
    for (let i = 0; i < Number(more); i++) {
      cycle();
      // A netlink socket's memory goes on the loop.
      if (i % 64 === 0) await new Promise((done) => setImmediate(done));
    }
    await new Promise((done) => setTimeout(done, 50));
    globalThis.gc();
    process.stdout.write(
      JSON.stringify({ rss: process.memoryUsage.rss() - before.rss, fds: descriptors() - before.fds }),
    );
    return;
  }
  if (way === 'attach') {
    const fds = new Int32Array(3);
    need(addon.xskAttach(Number(more), 2, fds), 'attach');
    process.stdout.write('attached\n');
    setInterval(() => undefined, 1000);
    return;
  }
  openAll(addon);
  if (way === 'exit') process.exit(7);
  if (way === 'throw') throw new Error('on purpose');
  if (way === 'exit in poll') {
    new Worker(process.argv[1], { workerData: [file, 'work'] });
    setTimeout(() => process.exit(7), 150);
  }
  if (way === 'abort') process.abort();
  // 'end': nothing keeps the loop alive.
}

if (isMainThread) await main();
else work(createRequire(import.meta.url)(file));
