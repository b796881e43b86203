/** A worker 1 that refuses to switch policies; the others do as they are told. */
import { workerData } from 'node:worker_threads';
import { Datapath } from '../src/datapath.ts';
import { runWorker } from '../src/run-worker.ts';

const obey = Datapath.prototype.obey;
Datapath.prototype.obey = function (order) {
  if (order.type === 'switch' && workerData.worker === 1) throw new Error('told to refuse');
  obey.call(this, order);
};
runWorker();
