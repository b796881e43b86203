/** A datapath worker's thread: the loop, the mailbox, the wait. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { load } from '@espalier/native';
import { Datapath } from './datapath.ts';
import { type Answer, failureOf, type Order, type WorkerStart } from './messages.ts';
import { type OpenPort, openPort } from './open-port.ts';

const WAIT_MS = 20;
/** Empty rounds before the worker waits: a packet every few microseconds should not cost a system call each. */
const SPINS = 32;

/**
 * Runs a worker of a Gateway on this thread until it is told to stop. A house with lowers of its own bundles a worker
 * entry that calls this with an `open` which knows them, and hands that file to `Gateway.start` as `workerFile`.
 */
export function runWorker(open: OpenPort = openPort): void {
  const port = parentPort;
  if (port === null) throw new TypeError('runWorker is for worker threads that a Gateway has started');
  const start = workerData as WorkerStart;
  const answer = (id: number, error: unknown = null): void => {
    port.postMessage({ id, failure: error === null ? null : failureOf(error) } satisfies Answer);
  };
  let datapath: Datapath;
  try {
    datapath = new Datapath(start, open);
  } catch (error) {
    answer(0, error);
    return;
  }
  const mail = new Int32Array(start.mail);
  const { binding } = load();
  const fds = datapath.fds;
  const waited = start.wake >= 0 ? [start.wake, ...fds] : fds;
  const list = new Int32Array(new SharedArrayBuffer(4 * waited.length));
  list.set(waited);
  // A port without a descriptor can only be looked at.
  const waits = binding !== null && start.wake >= 0 && fds.length > 0 ? binding.registerList(list) : -1;
  let seen = 0;
  let empty = 0;
  answer(0);
  for (;;) {
    empty = datapath.round() === 0 ? empty + 1 : 0;
    const posted = Atomics.load(mail, 0);
    if (posted !== seen) {
      for (let message = receiveMessageOnPort(port); message; message = receiveMessageOnPort(port)) {
        seen++;
        const { id, order } = message.message as { id: number; order: Order };
        if (order.type === 'stop') {
          datapath.close();
          answer(id);
          return;
        }
        try {
          datapath.obey(order);
          if (order.type === 'close-lower') forget(list, fds, datapath.fds);
          answer(id);
        } catch (error) {
          answer(id, error);
        }
      }
    } else if (empty > SPINS) {
      if (waits >= 0) binding!.wait(waits, list.length, WAIT_MS);
      else Atomics.wait(mail, 0, posted, 1);
    }
  }
}

/** poll(2) passes over what is negative: descriptors that are closed must not be waited for. */
function forget(list: Int32Array, before: readonly number[], now: readonly number[]): void {
  for (const fd of before) if (!now.includes(fd)) list[list.lastIndexOf(fd)] = -1;
}
