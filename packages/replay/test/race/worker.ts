// A worker of a race: begins with the others, then does its job until it ends or is killed.
import { parentPort, workerData } from 'node:worker_threads';
import { reserve } from './allocator-worker.ts';
import type { Job } from './job.ts';
import { use } from './lifetime-worker.ts';
import { offer } from './window-worker.ts';

const job = workerData as Job;
const come = new Int32Array(job.gate.come);
Atomics.add(come, 0, 1);
Atomics.notify(come, 0);
for (let n = Atomics.load(come, 0); n < job.gate.all; n = Atomics.load(come, 0)) Atomics.wait(come, 0, n);
parentPort?.postMessage('ready');
if (job.kind === 'window') offer(job);
else if (job.kind === 'allocator') reserve(job);
else use(job);
