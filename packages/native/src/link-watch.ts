import { constants } from 'node:os';
import type { Binding } from './binding.ts';
import { linkInfo } from './link.ts';
import { type Listener, Rtm, Rtnetlink } from './rtnetlink.ts';

const RUNNING = 0;
const CARRIER = 1;
const DOUBT = 2;

/** struct ifinfomsg: 16 bytes, the index at 4. IFLA_IFNAME. */
const IFINFO_BYTES = 16;
const IFLA_IFNAME = 3;

/** An interface's admin and carrier state in shared words, as the kernel tells of it (RTMGRP_LINK). Control thread. */
export class LinkWatch {
  /** Words: running, carrier, both written here; doubt, set to 1 by a port of the lower whose device refused a frame. */
  readonly words: Int32Array = new Int32Array(new SharedArrayBuffer(12));
  readonly #binding: Binding;
  #name: string;
  readonly #ifindex: number;
  readonly #listeners: Set<() => void> = new Set();
  readonly #hear: Listener = (message) => {
    if (message === null) {
      this.refresh();
      return;
    }
    if (message.type !== Rtm.NEWLINK && message.type !== Rtm.DELLINK) return;
    if (message.end - message.body < IFINFO_BYTES) return;
    if (message.view.getInt32(message.body + 4, true) !== this.#ifindex) return;
    const name = message.attribute(IFINFO_BYTES, IFLA_IFNAME);
    if (name !== null) this.#name = String.fromCharCode(...name).replace(/\0.*$/s, '');
    // What it says may be over by now, and told of before: it is the occasion to look, not the answer.
    this.refresh();
  };
  #socket: Rtnetlink | null = null;

  private constructor(binding: Binding, name: string, ifindex: number) {
    this.#binding = binding;
    this.#name = name;
    this.#ifindex = ifindex;
  }

  /** Watches from now on; -errno when rtnetlink cannot be listened to. */
  static open(binding: Binding, name: string, ifindex: number): LinkWatch | number {
    const watch = new LinkWatch(binding, name, ifindex);
    const socket = Rtnetlink.listen(binding, watch.#hear);
    if (typeof socket === 'number') return socket;
    watch.#socket = socket;
    // After the first ear: nothing falls in between.
    watch.refresh();
    return watch;
  }

  get running(): boolean {
    return Atomics.load(this.words, RUNNING) === 1;
  }

  get carrier(): boolean {
    return Atomics.load(this.words, CARRIER) === 1;
  }

  /**
   * Reads the interface's state now. An interface of that name with another index is another one: it counts as down. A look
   * that failed (no descriptor was free) says nothing of the interface: `recheck` looks again.
   */
  refresh(): void {
    const info = linkInfo(this.#binding, this.#name);
    if (typeof info === 'number' && info !== -constants.errno.ENODEV) {
      Atomics.store(this.words, DOUBT, 1);
      return;
    }
    const same = typeof info !== 'number' && info.index === this.#ifindex;
    const running = same && info.up ? 1 : 0;
    const carrier = running === 1 && same && info.carrier ? 1 : 0;
    if (running === this.words[RUNNING] && carrier === this.words[CARRIER]) return;
    Atomics.store(this.words, RUNNING, running);
    Atomics.store(this.words, CARRIER, carrier);
    for (const listener of this.#listeners) listener();
  }

  /**
   * Refreshes where a port is in doubt: a failed send is news even when the kernel's word of it is late or lost. And while the
   * link is down: nobody sends there, so nobody would doubt it.
   */
  recheck(): void {
    // Taken back before the look: a doubt that comes in between is for the next time.
    if (Atomics.exchange(this.words, DOUBT, 0) !== 0 || !this.carrier) this.refresh();
  }

  /** Called on every change; returns a function that ends it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#socket?.unlisten(this.#hear);
    this.#socket = null;
    this.#listeners.clear();
  }
}
