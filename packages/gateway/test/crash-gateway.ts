/**
 * A gateway process to be killed: its config is the argument, its inside is in memory. Sends numbered packets as fast as it
 * may and writes the number of each packet that comes out of the tunnel, a line each.
 */
import { writeSync } from 'node:fs';
import { type MockTun, MockTunQueue } from '@espalier/mock';
import { Gateway, loadConfig, openDevices } from 'espalier';

const plan = loadConfig(process.argv[2]!);
const devices = await openDevices(plan);
const inside = devices.inside as MockTun;
const queues = Array.from({ length: plan.workers }, (_, i) => MockTunQueue.attach(inside.ticket(i)));
const gateway = await Gateway.start({ plan, ...devices, workerFile: process.argv[3]! });
process.on('SIGTERM', () => {
  gateway.stop().then(() => process.exit(0));
});
writeSync(1, 'running\n');

const packet = new Uint8Array(60);
packet.set([0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1]);
const buffer = new Uint8Array(2048);
setInterval(() => {
  for (let i = 0; i < 8; i++) queues[i % queues.length]!.write(packet);
  let lines = '';
  for (const queue of queues)
    for (let n = queue.read(buffer); n > 0; n = queue.read(buffer))
      lines += `${new DataView(buffer.buffer).getUint32(28)}\n`;
  if (lines !== '') writeSync(1, lines);
}, 1);
