/**
 * The host behind a gateway on the mock wire: a thread at the far end of its TUN. In place of a kernel's TCP, eight streams of
 * UDP datagrams that are acknowledged cumulatively and sent again from the first missing one (go-back-N), and echo requests.
 * House A sends, house B hashes and answers with the SHA-256.
 */
import { createHash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { MockTunQueue, type MockTunTicket } from '@espalier/mock';
import { INNER_MTU, innerBytes, PAIRS, WORKERS } from '../plans.ts';
import type { Side } from '../stage.ts';
import { Control } from './controls.ts';
import { datagram, echo, HEADER, Kind, readDatagram, readEcho } from './frames.ts';

export interface HostStart {
  readonly side: Side;
  readonly queues: readonly MockTunTicket[];
  readonly control: SharedArrayBuffer;
  /** Bytes of a stream at least. */
  readonly bytes: number;
  readonly marker: Uint8Array;
}

/** What A says at the end. */
export interface HostEnd {
  readonly same: number;
  readonly bytes: number;
  readonly answered: number;
  readonly asked: number;
}

const PAYLOAD = INNER_MTU - HEADER;
/** Datagrams of a stream under way at most. */
const WINDOW = 96;
/**
 * Milliseconds without progress until a stream is sent again from its first missing datagram: three round trips as measured
 * (RFC 6298 in small: a datagram sent twice is no measure, each resend doubles), within these limits.
 */
const AGAIN_LEAST_MS = 30;
const AGAIN_MOST_MS = 400;
/** Datagrams by which a stream may lead another until they are released. */
const LEAD = 600;
const ECHOES = 10;
const ECHO_EVERY_MS = 150;
/** Milliseconds that replies are waited for when the streams are through. */
const LINGER_MS = 1500;
const NOTHING = new Uint8Array();

const start = workerData as HostStart;
const { side } = start;
const control = new Int32Array(start.control);
const queues = start.queues.map((ticket) => MockTunQueue.attach(ticket));
const here = Array.from({ length: PAIRS }, (_, pair) => innerBytes(side, pair));
const there = Array.from({ length: PAIRS }, (_, pair) => innerBytes((1 - side) as Side, pair));
const buffer = new Uint8Array(2048);
/** A flow stays on one queue, as a kernel's flow hash has it. */
const queueOf = (pair: number): MockTunQueue => queues[pair % WORKERS]!;
const idle = (): void => {
  Atomics.wait(control, Control.STOP, 0, 1);
};

/** House A: one stream. */
class Sender {
  readonly #pair: number;
  readonly #hash = createHash('sha256');
  readonly #content: Uint8Array = new Uint8Array(PAYLOAD);
  readonly #window: (Uint8Array | null)[] = new Array<Uint8Array | null>(WINDOW).fill(null);
  #first = 0;
  #next = 0;
  #made = 0;
  #since = 0;
  #last = -1;
  #again = AGAIN_LEAST_MS;
  #roundTrip = 0;
  /** The datagram being timed, and since when; -1 = none. */
  #timed = -1;
  #timedAt = 0;
  /** Set when B has answered. */
  same: boolean | null = null;

  constructor(pair: number) {
    this.#pair = pair;
    this.#content.fill(0x30 + pair);
    // In every datagram.
    this.#content.set(start.marker, 100);
  }

  get made(): number {
    return this.#made;
  }

  get bytes(): number {
    return (this.#last < 0 ? this.#made : this.#last) * PAYLOAD;
  }

  /** Sends what the window, the queue and the others allow; returns how many. */
  pump(now: number, limit: number): number {
    if (this.same !== null) return 0;
    if (this.#next > this.#first && now - this.#since > this.#again) {
      this.#next = this.#first;
      this.#since = now;
      this.#timed = -1;
      this.#again = Math.min(this.#again * 2, AGAIN_MOST_MS);
    }
    const queue = queueOf(this.#pair);
    let sent = 0;
    while (this.#next < this.#first + WINDOW && queue.room() > 0) {
      if (this.#next === this.#made) {
        if (this.#last >= 0 || this.#made >= limit) break;
        this.#make();
        if (this.#timed < 0) {
          this.#timed = this.#next;
          this.#timedAt = now;
        }
      }
      if (this.#next === this.#first) this.#since = now;
      queue.write(this.#window[this.#next % WINDOW]!);
      this.#next++;
      sent++;
    }
    return sent;
  }

  #make(): void {
    const seq = this.#made++;
    const end = seq * PAYLOAD >= start.bytes && Atomics.load(control, Control.FINISH) === 1;
    if (end) this.#last = seq;
    else {
      new DataView(this.#content.buffer).setUint32(0, seq);
      this.#hash.update(this.#content);
    }
    const kind = end ? Kind.END : Kind.DATA;
    this.#window[seq % WINDOW] = datagram(
      here[this.#pair]!,
      there[this.#pair]!,
      kind,
      seq,
      0,
      end ? NOTHING : this.#content,
    );
  }

  acknowledged(ack: number, payload: Uint8Array, now: number): void {
    if (ack > this.#first && ack <= this.#made) {
      this.#first = ack;
      this.#next = Math.max(this.#next, ack);
      this.#since = now;
      if (this.#timed >= 0 && ack > this.#timed) {
        const took = now - this.#timedAt;
        this.#roundTrip = this.#roundTrip === 0 ? took : 0.8 * this.#roundTrip + 0.2 * took;
        this.#again = Math.min(Math.max(3 * this.#roundTrip, AGAIN_LEAST_MS), AGAIN_MOST_MS);
        this.#timed = -1;
      }
    }
    if (this.#last >= 0 && ack > this.#last && this.same === null)
      this.same = Buffer.from(payload).toString('hex') === this.#hash.digest('hex');
  }
}

function runSenders(): void {
  const senders = here.map((_, pair) => new Sender(pair));
  const answered = new Set<number>();
  let asked = 0;
  let askedAt = 0;
  while (Atomics.load(control, Control.STOP) === 0) {
    const now = performance.now();
    let moved = 0;
    for (const queue of queues)
      for (let length = queue.read(buffer); length > 0; length = queue.read(buffer)) {
        moved++;
        const arrived = readDatagram(buffer, length);
        if (arrived?.kind === Kind.ACK)
          senders[arrived.pair]?.acknowledged(arrived.ack, buffer.subarray(HEADER, length), now);
        else if (readEcho(buffer, length, true) >= 0) answered.add(readEcho(buffer, length, true));
      }
    const lead =
      Atomics.load(control, Control.RELEASED) === 1 ? Infinity : Math.min(...senders.map((s) => s.made)) + LEAD;
    for (const sender of senders) moved += sender.pump(now, lead);
    if (asked < ECHOES && now - askedAt > ECHO_EVERY_MS) {
      // A full queue takes it a little later.
      if (queueOf(1).write(echo(here[1]!, there[1]!, false, asked))) {
        askedAt = now;
        asked++;
      }
    }
    const bytes = senders.reduce((sum, s) => sum + s.bytes, 0);
    Atomics.store(control, Control.SENT, Math.floor(bytes / 1024));
    if (senders.every((s) => s.same !== null)) {
      // Echoes that are under way still count, and all of them are asked.
      if (asked < ECHOES || (answered.size < asked && now - askedAt < LINGER_MS)) {
        if (moved === 0) idle();
        continue;
      }
      const same = senders.filter((s) => s.same).length;
      parentPort!.postMessage({ same, bytes, answered: answered.size, asked } satisfies HostEnd);
      return;
    }
    if (moved === 0) idle();
  }
}

/** House B: one stream. */
class Receiver {
  readonly #pair: number;
  readonly #hash = createHash('sha256');
  readonly #early: Map<number, Uint8Array> = new Map();
  #next = 0;
  #digest: Uint8Array | null = null;
  #owed = 0;

  constructor(pair: number) {
    this.#pair = pair;
  }

  take(kind: number, seq: number, payload: Uint8Array): void {
    this.#owed++;
    if (this.#digest !== null || seq < this.#next || seq >= this.#next + WINDOW) return;
    if (seq !== this.#next) {
      // The end is sent again like the rest.
      if (kind === Kind.DATA) this.#early.set(seq, payload.slice());
      return;
    }
    this.#accept(kind, payload);
    for (let one = this.#early.get(this.#next); one !== undefined; one = this.#early.get(this.#next)) {
      this.#early.delete(this.#next);
      this.#accept(Kind.DATA, one);
    }
  }

  #accept(kind: number, payload: Uint8Array): void {
    this.#next++;
    if (kind === Kind.DATA) this.#hash.update(payload);
    else this.#digest = this.#hash.digest();
  }

  acknowledge(): void {
    if (this.#owed === 0) return;
    const ack = datagram(here[this.#pair]!, there[this.#pair]!, Kind.ACK, 0, this.#next, this.#digest ?? NOTHING);
    if (queueOf(this.#pair).write(ack)) this.#owed = 0;
  }
}

function runReceivers(): void {
  const receivers = here.map((_, pair) => new Receiver(pair));
  while (Atomics.load(control, Control.STOP) === 0) {
    let moved = 0;
    for (const queue of queues)
      for (let n = 0, length = queue.read(buffer); length > 0; length = ++n < 64 ? queue.read(buffer) : 0) {
        moved++;
        const arrived = readDatagram(buffer, length);
        if (arrived !== null) receivers[arrived.pair]?.take(arrived.kind, arrived.seq, buffer.subarray(HEADER, length));
        else {
          const seq = readEcho(buffer, length, false);
          if (seq >= 0) queueOf(1).write(echo(here[1]!, there[1]!, true, seq));
        }
      }
    // One acknowledgement for all that came together.
    for (const receiver of receivers) receiver.acknowledge();
    if (moved === 0) idle();
  }
}

if (side === 0) runSenders();
else runReceivers();
