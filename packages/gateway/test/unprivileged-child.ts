// As root: opens a TUN queue, AF_PACKET and AF_XDP ports on both ends of a veth pair, gives up root, does traffic, and says
// how it went. node unprivileged-child.mjs A B
import { Worker } from 'node:worker_threads';
import { AfPacketDevice, type AfPacketTicket, openAfPacketPort } from '@espalier/af-packet';
import { createUmem, openXskPort, XskDevice, type XskTicket } from '@espalier/af-xdp';
import { nobleEngine } from '@espalier/esp';
import { openTunPort, TunDevice } from '@espalier/tun';
import { createBurst, createPool, RowState, resetRow } from '@espalier/wire';
import type { Port } from '@espalier/xfrm';
import { dropPrivileges } from 'espalier';

const [a, b] = process.argv.slice(2) as [string, string];
const FRAMES = 512;
const UNPRIVILEGED = { uid: 65_534, gid: 65_534 };
const slab = createUmem({ frames: FRAMES, sockets: 1 });
const pool = createPool(slab, 0, FRAMES, 0);
const context = { slab, pool, engine: nobleEngine(), handles: { resolve: () => 0 } };
const burst = createBurst(slab, 64);

/** An ESP packet over IPv4 from the other end, as the program steers it. */
function send(port: Port): number {
  const row = pool.take();
  const start = row * slab.frameSize + slab.headroom;
  const frame = new Uint8Array(80);
  frame.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 66]);
  frame[22] = 64;
  frame[23] = 50;
  slab.bytes.set(frame, start);
  resetRow(slab.rows, row, start, start + frame.length, RowState.CLEAR);
  burst.length = 0;
  burst.list[burst.length++] = row;
  return port.xmit(burst);
}

function receive(port: Port): number {
  burst.length = 0;
  const got = port.poll(burst);
  for (let i = 0; i < burst.length; i++) pool.give(burst.list[i]!);
  return got;
}

const refusal = (open: () => unknown): string => {
  try {
    open();
    return 'taken';
  } catch (error) {
    return (error as { detail?: { code: string } }).detail?.code ?? `${error}`;
  }
};

const thread = new Worker(
  'setInterval(() => {}, 1000); require("node:worker_threads").parentPort.once("message", () => process.exit())',
  { eval: true },
);
await new Promise((resolve) => thread.once('online', resolve));
const tun = TunDevice.open({ name: 'unpriv%d'.replace('%d', `${process.pid % 1000}`), queues: 1 });
const inside = openTunPort(tun.ticket(0), context);
const xsk = XskDevice.open({ name: a, index: 0, ports: 1 });
const left = openXskPort(xsk.ticket(0) as XskTicket, context);
const packet = AfPacketDevice.open({ name: b, index: 1, ports: 1, receiver: 0 });
const right = openAfPacketPort(packet.ticket(0) as AfPacketTicket, context);

dropPrivileges(UNPRIVILEGED);
const counts = { xdp: 0, packet: 0, sent: 0 };
for (let i = 0; i < 2000 && (counts.xdp < 50 || counts.packet < 50); i++) {
  if (i < 100) counts.sent += send(right) + send(left);
  counts.xdp += receive(left);
  counts.packet += receive(right);
  left.reap();
  if (i >= 100) await new Promise((resolve) => setTimeout(resolve, 1));
}
const refused = [
  () => XskDevice.open({ name: b, index: 2, ports: 1 }),
  () => AfPacketDevice.open({ name: a, index: 2, ports: 1, receiver: 0 }),
  () => TunDevice.open({ name: 'unpriv9', queues: 1 }),
  () => dropPrivileges(UNPRIVILEGED),
  () => process.setuid!(0),
].map(refusal);
const user = process.getuid!();
for (const port of [inside, left, right]) port.close();
tun.close();
await xsk.close();
await packet.close();
thread.postMessage('end');
process.stdout.write(JSON.stringify({ user, ...counts, refused, free: pool.free === FRAMES }));
