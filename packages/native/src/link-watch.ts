import type { Binding } from './binding.ts';
import { linkInfo } from './link.ts';

const RUNNING = 0;
const CARRIER = 1;

/** An interface's admin and carrier state in shared words, looked at every few milliseconds. Control thread. */
export class LinkWatch {
  /** Words: running, carrier; for the ports of the lower. */
  readonly words: Int32Array = new Int32Array(new SharedArrayBuffer(8));
  readonly #binding: Binding;
  readonly #name: string;
  readonly #ifindex: number;
  readonly #listeners: Set<() => void> = new Set();
  readonly #timer: NodeJS.Timeout | null;

  /** `everyMs`: 0 = only on `refresh()`. An interface of that name with another index is another one: it counts as down. */
  constructor(binding: Binding, name: string, ifindex: number, everyMs: number) {
    this.#binding = binding;
    this.#name = name;
    this.#ifindex = ifindex;
    this.refresh();
    this.#timer = everyMs > 0 ? setInterval(() => this.refresh(), everyMs).unref() : null;
  }

  get running(): boolean {
    return Atomics.load(this.words, RUNNING) === 1;
  }

  get carrier(): boolean {
    return Atomics.load(this.words, CARRIER) === 1;
  }

  /** Reads the interface's state now. */
  refresh(): void {
    const info = linkInfo(this.#binding, this.#name);
    const same = typeof info !== 'number' && info.index === this.#ifindex;
    const running = same && info.up ? 1 : 0;
    const carrier = running === 1 && same && info.carrier ? 1 : 0;
    if (running === this.words[RUNNING] && carrier === this.words[CARRIER]) return;
    Atomics.store(this.words, RUNNING, running);
    Atomics.store(this.words, CARRIER, carrier);
    for (const listener of this.#listeners) listener();
  }

  /** Called on every change; returns a function that ends it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#listeners.clear();
  }
}
