/** The datapath workers as the control thread sees them: threads, their mailboxes, their counters. */
import { Worker } from 'node:worker_threads';
import { load } from '@espalier/native';
import { XfrmError } from '@espalier/xfrm';
import { type Answer, errorOf, type Order, STATS_BYTES, type WorkerStart } from './messages.ts';

interface WorkerHandle {
  readonly thread: Worker;
  readonly mail: Int32Array;
  readonly stats: Float64Array;
  readonly wake: number;
  readonly waiting: Map<number, { resolve(): void; reject(error: Error): void }>;
  next: number;
  /** Why nothing is answered any more. */
  gone: Error | null;
}

export class Workers {
  readonly #handles: WorkerHandle[] = [];
  readonly #gone: (worker: number, why: Error) => void;

  /** `gone` is called once for each worker whose thread has ended, asked to or not. */
  constructor(gone: (worker: number, why: Error) => void) {
    this.#gone = gone;
  }

  get count(): number {
    return this.#handles.length;
  }

  /** Resolves when the worker's ports are open; rejects with what it could not open. */
  start(file: URL | string, what: Omit<WorkerStart, 'stats' | 'mail' | 'wake'>): Promise<void> {
    const { worker } = what;
    const { binding } = load();
    const stats = new SharedArrayBuffer(STATS_BYTES);
    const mail = new SharedArrayBuffer(4);
    const wake = binding === null ? -1 : binding.eventOpen();
    let thread: Worker;
    try {
      thread = new Worker(file, { workerData: { ...what, stats, mail, wake } satisfies WorkerStart });
    } catch (error) {
      if (wake >= 0) binding?.close(wake);
      throw error;
    }
    const handle: WorkerHandle = {
      thread,
      mail: new Int32Array(mail),
      stats: new Float64Array(stats),
      wake,
      waiting: new Map(),
      next: 1,
      gone: null,
    };
    this.#handles[worker] = handle;
    return new Promise<void>((resolve, reject) => {
      handle.waiting.set(0, { resolve, reject });
      thread.on('message', ({ id, failure }: Answer) => {
        const waiter = handle.waiting.get(id);
        handle.waiting.delete(id);
        if (failure === null) waiter?.resolve();
        else waiter?.reject(errorOf(failure));
      });
      // An error is told before the thread has ended: until then it may hold what others would take for free.
      let cause: Error | null = null;
      thread.on('error', (error) => {
        cause ??= error;
      });
      thread.on('exit', (code) => {
        const why = cause ?? new XfrmError({ code: 'CLOSED', what: `worker ${worker} ended (${code})` });
        handle.gone = why;
        for (const waiter of handle.waiting.values()) waiter.reject(why);
        handle.waiting.clear();
        this.#gone(worker, why);
      });
    });
  }

  /**
   * Every worker that lives carries the order out between two bursts. Resolves or rejects (with the first failure) once all
   * have answered or ended: one that is gone carries nothing, so nothing is amiss there.
   */
  async tellAll(order: Order): Promise<void> {
    const answers = await Promise.allSettled(this.#handles.map((_, i) => this.tell(i, order)));
    for (const [i, answer] of answers.entries())
      if (answer.status === 'rejected' && this.#handles[i]!.gone === null) throw answer.reason;
  }

  /** One worker carries the order out between two bursts. */
  tell(worker: number, order: Order): Promise<void> {
    const handle = this.#handles[worker]!;
    if (handle.gone !== null) return Promise.reject(handle.gone);
    const id = handle.next++;
    return new Promise((resolve, reject) => {
      handle.waiting.set(id, { resolve, reject });
      handle.thread.postMessage({ id, order });
      Atomics.add(handle.mail, 0, 1);
      Atomics.notify(handle.mail, 0);
      if (handle.wake >= 0) load().binding?.eventSignal(handle.wake);
    });
  }

  /** A counter, all workers together. */
  total(column: number): number {
    return this.#handles.reduce((sum, { stats }) => sum + stats[column]!, 0);
  }

  /** Sets counters to 0 that no worker writes any more. */
  clear(column: number, count: number): void {
    for (const { stats } of this.#handles) stats.fill(0, column, column + count);
  }

  /** Resolves or rejects (with the first failure) once every thread has ended. */
  async stop(): Promise<void> {
    const ends = await Promise.allSettled(
      this.#handles.map(async (handle, i) => {
        await this.tell(i, { type: 'stop' }).catch(() => undefined);
        await handle.thread.terminate();
        if (handle.wake >= 0) load().binding?.close(handle.wake);
      }),
    );
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }
}
