/**
 * The kernel's own word on interfaces, neighbours and routes: one rtnetlink socket per thread, opened for the first that
 * listens and closed after the last. Messages are read here and nowhere else; lengths are checked before what they span.
 * Host byte order, which is little-endian wherever the addon runs; addresses are in network order.
 */
import { constants } from 'node:os';
import type { Binding } from './binding.ts';

/** rtnetlink(7), linux/rtnetlink.h, linux/neighbour.h. */
const NLMSG_ERROR = 2;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_DUMP = 0x300;
export const Rtm = {
  NEWLINK: 16,
  DELLINK: 17,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
  NEWNEIGH: 28,
  DELNEIGH: 29,
  GETNEIGH: 30,
} as const;
const GROUPS = 0x1 | 0x4 | 0x40 | 0x400; // RTMGRP_LINK, NEIGH, IPV4_ROUTE, IPV6_ROUTE
const HEADER = 16;
const RECEIVE_BYTES = 65_536;
const { ENOBUFS, EMSGSIZE, ENOMEM } = constants.errno;
/** Something was lost, and what comes after it can be had. Any other error would come again at once. */
const PASSING: ReadonlySet<number> = new Set([-ENOBUFS, -EMSGSIZE, -ENOMEM]);

/** Given to listeners instead of a message when some were dropped or make no sense: ask anew. */
export const LOST = null;

/** One message; valid until the listener returns. */
export class Message {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  type = 0;
  /** Of the request that it answers; 0 for what came by itself. */
  sequence = 0;
  /** Of a dump that went on while its table changed: entries may be missing. */
  interrupted = false;
  /** Where the family's own header begins, and where the message ends. */
  body = 0;
  end = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** -errno or 0 of an NLMSG_ERROR, else null. */
  get error(): number | null {
    return this.type === NLMSG_ERROR && this.body + 4 <= this.end ? this.view.getInt32(this.body, true) : null;
  }

  /** The first attribute of a type behind a family header of `fixed` bytes: a copy of its value, or null. */
  attribute(fixed: number, wanted: number): Uint8Array | null {
    for (let at = this.body + fixed; at + 4 <= this.end; ) {
      const length = this.view.getUint16(at, true);
      if (length < 4 || at + length > this.end) return null;
      if ((this.view.getUint16(at + 2, true) & 0x3fff) === wanted) return this.bytes.slice(at + 4, at + length);
      at += (length + 3) & ~3;
    }
    return null;
  }
}

export type Listener = (message: Message | typeof LOST) => void;

export class Rtnetlink {
  static #shared: Rtnetlink | null = null;
  readonly #binding: Binding;
  readonly #id: number;
  readonly #port: number;
  readonly #listeners: Set<Listener> = new Set();
  readonly #message: Message = new Message(new Uint8Array(RECEIVE_BYTES));
  #sequence = 0;

  private constructor(binding: Binding) {
    this.#binding = binding;
    this.#id = binding.netlinkOpen(GROUPS, () => this.#receive());
    this.#port = this.#id < 0 ? 0 : binding.netlinkPort(this.#id);
  }

  /** Listens until `unlisten`; -errno when there can be no socket. */
  static listen(binding: Binding, listener: Listener): Rtnetlink | number {
    const one = Rtnetlink.#shared ?? new Rtnetlink(binding);
    if (one.#id < 0) return one.#id;
    Rtnetlink.#shared = one;
    one.#listeners.add(listener);
    return one;
  }

  unlisten(listener: Listener): void {
    if (!this.#listeners.delete(listener) || this.#listeners.size > 0) return;
    Rtnetlink.#shared = null;
    this.#binding.netlinkClose(this.#id);
  }

  /** Sends a request; its answers carry the number returned. `-errno` when the kernel has no room for it. */
  request(
    type: number,
    fixed: Uint8Array,
    attributes: readonly (readonly [number, Uint8Array])[],
    flags: 'dump' | number = 0,
  ): number {
    const size = attributes.reduce((sum, [, value]) => sum + 4 + ((value.length + 3) & ~3), HEADER + fixed.length);
    const bytes = new Uint8Array(size);
    const view = new DataView(bytes.buffer);
    this.#sequence = (this.#sequence % 0x7fff_ffff) + 1;
    view.setUint32(0, size, true);
    view.setUint16(4, type, true);
    view.setUint16(6, NLM_F_REQUEST | (flags === 'dump' ? NLM_F_DUMP : NLM_F_ACK | flags), true);
    view.setUint32(8, this.#sequence, true);
    bytes.set(fixed, HEADER);
    let at = HEADER + fixed.length;
    for (const [attribute, value] of attributes) {
      view.setUint16(at, 4 + value.length, true);
      view.setUint16(at + 2, attribute, true);
      bytes.set(value, at + 4);
      at += 4 + ((value.length + 3) & ~3);
    }
    const result = this.#binding.netlinkSend(this.#id, bytes);
    return result < 0 ? result : this.#sequence;
  }

  #receive(): void {
    const message = this.#message;
    while (Rtnetlink.#shared === this) {
      const got = this.#binding.netlinkReceive(this.#id, message.bytes);
      if (got === 0) return;
      if (got < 0) {
        this.#tell(LOST);
        if (!PASSING.has(got)) return;
      }
      for (let at = 0; at + HEADER <= got; ) {
        const length = message.view.getUint32(at, true);
        if (length < HEADER || at + length > got) {
          this.#tell(LOST);
          break;
        }
        message.type = message.view.getUint16(at + 4, true);
        // What somebody else's request has changed is told under their number.
        message.sequence =
          message.view.getInt32(at + 12, true) === this.#port ? message.view.getUint32(at + 8, true) : 0;
        message.interrupted = (message.view.getUint16(at + 6, true) & NLM_F_DUMP_INTR) !== 0;
        message.body = at + HEADER;
        message.end = at + length;
        this.#tell(message);
        at += (length + 3) & ~3;
      }
    }
  }

  #tell(message: Message | typeof LOST): void {
    for (const listener of [...this.#listeners]) listener(message);
  }
}
