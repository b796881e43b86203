/** Thread entry of a datapath worker: the loop, the mailbox, the wait. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { load } from '@espalier/native';
import { Datapath } from './datapath.ts';
import type { Order, WorkerStart } from './messages.ts';

const WAIT_MS = 20;
/** Empty rounds before the worker waits: a packet every few microseconds should not cost a system call each. */
const SPINS = 32;

function run(start: WorkerStart): void {
  const port = parentPort!;
  const mail = new Int32Array(start.mail);
  const datapath = new Datapath(start);
  const { binding } = load();
  const fds = datapath.fds;
  const list = Int32Array.from(start.wake >= 0 ? [start.wake, ...fds] : fds);
  const waits = binding !== null && start.wake >= 0 ? binding.registerList(list) : -1;
  let seen = 0;
  let empty = 0;
  port.postMessage({ id: 0, error: null });
  for (;;) {
    empty = datapath.round() === 0 ? empty + 1 : 0;
    const posted = Atomics.load(mail, 0);
    if (posted !== seen) {
      for (let message = receiveMessageOnPort(port); message; message = receiveMessageOnPort(port)) {
        seen++;
        const { id, order } = message.message as { id: number; order: Order };
        if (order.type === 'stop') {
          datapath.close();
          port.postMessage({ id, error: null });
          return;
        }
        let error: string | null = null;
        try {
          datapath.obey(order);
        } catch (e) {
          error = (e as Error).message;
        }
        port.postMessage({ id, error });
      }
    } else if (empty > SPINS) {
      if (waits >= 0) binding!.wait(waits, list.length, WAIT_MS);
      else Atomics.wait(mail, 0, posted, 1);
    }
  }
}

run(workerData as WorkerStart);
