import type { ChildProcess } from 'node:child_process';
import type { Command } from './gateway.ts';

/** A gateway process and what it is asked. */
export class Remote {
  readonly #child: ChildProcess;
  readonly #waiting: Map<number, { resolve(value: unknown): void; reject(error: Error): void }> = new Map();
  #next = 1;
  #ended: Error | null = null;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (m: { id: number; result?: unknown; error?: string }) => {
      const waiter = this.#waiting.get(m.id);
      this.#waiting.delete(m.id);
      if (m.error === undefined) waiter?.resolve(m.result);
      else waiter?.reject(new Error(m.error));
    });
    child.on('exit', (code, signal) => {
      this.#ended = new Error(`a gateway ended (${code ?? signal})`);
      for (const waiter of this.#waiting.values()) waiter.reject(this.#ended);
      this.#waiting.clear();
    });
  }

  ask<T = void>(command: Command): Promise<T> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.#child.send({ id, command }, (error) => {
        if (error !== null) reject(error);
      });
    });
  }
}
