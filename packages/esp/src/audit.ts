import { type FrameSlab, Ipv4, Ipv6, Row } from '@espalier/wire';
import { DropReason, dropName } from '@espalier/xfrm';
import { RateLimit } from './rate-limit.ts';
import type { InboundTicket, OutboundTicket } from './tickets.ts';

/** Who is told of drops that RFC 4301 and 4303 call auditable. Called on the datapath: copy numbers, allocate nothing. */
export interface AuditSink {
  /** Row `r` of `slab` was dropped; `ticket` is its SA, null when none was found. */
  drop(reason: DropReason, ticket: InboundTicket | OutboundTicket | null, slab: FrameSlab, r: number): void;
}

/** Indexed by DropReason: 1 = auditable. */
export const AUDITABLE: Uint8Array = (() => {
  const table = new Uint8Array(256);
  for (const reason of [
    DropReason.NO_STATE, // RFC 4303 3.4.2
    DropReason.FRAGMENT, // 3.4.1
    DropReason.REPLAYED, // 3.4.3
    DropReason.STALE,
    DropReason.INVALID,
    DropReason.ICV, // 3.4.4.1
    DropReason.EXHAUSTED, // 3.3.3
    DropReason.SELECTOR, // RFC 4301 5.2
    DropReason.BAD_PAD,
    DropReason.BAD_LENGTH,
    DropReason.BAD_NEXT_HEADER,
    DropReason.BAD_INNER,
    DropReason.BAD_ENCAP,
    DropReason.BAD_STATE,
    DropReason.LIFETIME,
    DropReason.ECN, // RFC 6040 4.2
  ])
    table[reason] = 1;
  return table;
})();

/** Words of the ring's header and of an entry. */
const HEAD = 0;
const TAIL = 1;
const SUPPRESSED = 2;
const ENTRIES = 3;
const FIRST = 16;
const Entry = {
  REASON: 0,
  SLOT: 1,
  SPI: 2,
  SEQ_LO: 3,
  SEQ_HI: 4,
  SECONDS: 5,
  MILLIS: 6,
  LABEL: 7,
  FAMILY: 8,
  SOURCE: 9,
  DESTINATION: 13,
  WORDS: 17,
} as const;

/** One auditable drop, as a person reads it. */
export interface AuditEvent {
  readonly reason: string;
  /** Milliseconds on the clock that was told to `tick`. */
  readonly timeMs: number;
  /** SA slot, or -1. */
  readonly slot: number;
  /** 0 when the packet ended before it. */
  readonly spi: number;
  /** Low half as on the wire; high half, or -1 when it was not inferred. */
  readonly seqLo: number;
  readonly seqHi: number;
  /** Outer addresses (inner ones where nothing was encapsulated yet), 4 or 16 bytes; empty when not known. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** IPv6 flow label, 0 with IPv4. */
  readonly flowLabel: number;
}

export interface AuditOptions {
  /** Events that fit the ring; 256 when absent. */
  readonly entries?: number;
  /** Events a second; 10 when absent. What is beyond is counted, not written: a flood of forgeries costs a test each. */
  readonly perSecond?: number;
  /** Events at once; 50 when absent. */
  readonly burst?: number;
}

/**
 * Auditable drops of one worker in a ring of shared memory, rate-limited: the worker writes, one other thread reads.
 * RFC 4303 asks for SPI, date and time, addresses, sequence number and, with IPv6, the flow label.
 */
export class AuditRing implements AuditSink {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #entries: number;
  readonly #limit: RateLimit;
  #now = 0;

  private constructor(memory: SharedArrayBuffer, options: AuditOptions) {
    this.memory = memory;
    this.#words = new Int32Array(memory);
    this.#entries = this.#words[ENTRIES]!;
    this.#limit = new RateLimit(options.perSecond ?? 10, options.burst ?? 50);
  }

  static create(options: AuditOptions = {}): AuditRing {
    const { entries = 256 } = options;
    if (!Number.isInteger(entries) || entries < 1) throw new RangeError(`"entries" must be positive, got ${entries}`);
    const memory = new SharedArrayBuffer((FIRST + entries * Entry.WORDS) * 4);
    new Int32Array(memory)[ENTRIES] = entries;
    return new AuditRing(memory, options);
  }

  /** The same ring on another thread; only a writer's rate matters. */
  static attach(memory: SharedArrayBuffer, options: AuditOptions = {}): AuditRing {
    return new AuditRing(memory, options);
  }

  /** Auditable drops that were not written, by rate or because nobody read; wraps at 2^32. */
  get suppressed(): number {
    return Atomics.load(this.#words, SUPPRESSED) >>> 0;
  }

  /** Writer: tells the time, milliseconds. */
  tick(nowMs: number): void {
    this.#now = nowMs;
    this.#limit.tick(nowMs);
  }

  drop(reason: DropReason, ticket: InboundTicket | OutboundTicket | null, slab: FrameSlab, r: number): void {
    if (AUDITABLE[reason] === 0) return;
    const words = this.#words;
    const tail = words[TAIL]!;
    if (((tail - Atomics.load(words, HEAD)) | 0) >= this.#entries || !this.#limit.take()) {
      words[SUPPRESSED] = words[SUPPRESSED]! + 1;
      return;
    }
    this.#write(FIRST + ((tail >>> 0) % this.#entries) * Entry.WORDS, reason, ticket, slab, r);
    Atomics.store(words, TAIL, tail + 1);
  }

  /** Reader: takes out everything there is. */
  drain(): AuditEvent[] {
    const words = this.#words;
    const events: AuditEvent[] = [];
    let head = words[HEAD]!;
    while (head !== Atomics.load(words, TAIL)) {
      events.push(this.#read(FIRST + ((head >>> 0) % this.#entries) * Entry.WORDS));
      Atomics.store(words, HEAD, ++head);
    }
    return events;
  }

  #write(
    e: number,
    reason: DropReason,
    ticket: InboundTicket | OutboundTicket | null,
    slab: FrameSlab,
    r: number,
  ): void {
    const words = this.#words;
    const { rows, view } = slab;
    const esp = rows[r + Row.ESP]!;
    const whole = esp >= 0 && rows[r + Row.END]! - esp >= 8;
    words[e + Entry.REASON] = reason;
    words[e + Entry.SLOT] = ticket?.slot ?? -1;
    words[e + Entry.SPI] = ticket?.spi ?? (whole ? view.getInt32(esp) : 0);
    words[e + Entry.SEQ_LO] =
      ticket && !('window' in ticket) ? rows[r + Row.SEQ_LO]! : whole ? view.getInt32(esp + 4) : 0;
    words[e + Entry.SEQ_HI] = rows[r + Row.SEQ_HI]!;
    words[e + Entry.SECONDS] = Math.floor(this.#now / 1000);
    words[e + Entry.MILLIS] = this.#now % 1000;
    const l3 = rows[r + Row.L3]! >= 0 ? rows[r + Row.L3]! : ticket && !('window' in ticket) ? rows[r + Row.START]! : -1;
    const family = l3 < 0 ? 0 : view.getUint8(l3) >> 4 === 6 ? 16 : 4;
    words[e + Entry.FAMILY] = family;
    words[e + Entry.LABEL] = family === 16 ? view.getInt32(l3) & 0xf_ffff : 0;
    for (let i = 0; i < family; i += 4) {
      words[e + Entry.SOURCE + i / 4] = view.getInt32(l3 + (family === 4 ? Ipv4.SOURCE : Ipv6.SOURCE) + i);
      words[e + Entry.DESTINATION + i / 4] = view.getInt32(
        l3 + (family === 4 ? Ipv4.DESTINATION : Ipv6.DESTINATION) + i,
      );
    }
  }

  #read(e: number): AuditEvent {
    const words = this.#words;
    const family = words[e + Entry.FAMILY]!;
    const address = (at: number): Uint8Array => {
      const bytes = new Uint8Array(family);
      const view = new DataView(bytes.buffer);
      for (let i = 0; i < family; i += 4) view.setInt32(i, words[at + i / 4]!);
      return bytes;
    };
    return {
      reason: dropName(words[e + Entry.REASON]!),
      timeMs: words[e + Entry.SECONDS]! * 1000 + words[e + Entry.MILLIS]!,
      slot: words[e + Entry.SLOT]!,
      spi: words[e + Entry.SPI]! >>> 0,
      seqLo: words[e + Entry.SEQ_LO]! >>> 0,
      seqHi: words[e + Entry.SEQ_HI]!,
      source: address(e + Entry.SOURCE),
      destination: address(e + Entry.DESTINATION),
      flowLabel: words[e + Entry.LABEL]!,
    };
  }
}
