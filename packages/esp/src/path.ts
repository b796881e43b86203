/**
 * The whole way through ESP for a mixed burst, both directions. One per worker; reads no clock.
 *
 *   outbound   inner packets -> check -> policy -> group by SA -> numbers, headers, padding -> (seal here | TO_SEAL)
 *   inbound    frames -> parse -> SAD -> group by SA -> infer, replay look -> open (lower | engine) -> commit -> unwrap
 *
 * A row that is dropped gets its FATE and is skipped by every later step; it stays in the burst's list.
 */
import type { Burst } from '@espalier/wire';
import {
  type CryptoEngine,
  NO_HANDLE_NAMES,
  NoHandle,
  type PolicyTicket,
  type Port,
  SaKey,
  XfrmError,
} from '@espalier/xfrm';
import type { ResyncBounds } from './ahead.ts';
import type { EspInbound } from './inbound.ts';
import type { EspOutbound } from './outbound.ts';
import { InboundPath } from './path-inbound.ts';
import type { EspPathOptions } from './path-options.ts';
import { OutboundPath } from './path-outbound.ts';
import { readOnce } from './read-once.ts';
import { SaCounters, SaStat } from './sa-counters.ts';
import { SaGroups } from './sa-groups.ts';
import type { InboundTicket, OutboundTicket } from './tickets.ts';

export class EspPath {
  /** Per-SA counters of this worker: `stats[slot * SaStat.COLUMNS + SaStat.X]`. */
  readonly stats: Float64Array;
  /** By slot: what an SA's packets meet when their slave has no handle for it (a NoHandle). For the bond's port. */
  readonly noHandle: Uint8Array;
  readonly #engine: CryptoEngine;
  readonly #outbound: (EspOutbound | null)[];
  readonly #inbound: (EspInbound | null)[];
  readonly #counters: SaCounters;
  readonly #groups: SaGroups;
  readonly #out: OutboundPath;
  readonly #in: InboundPath;

  constructor(options: EspPathOptions) {
    const { maxSas, capacity = 256 } = options;
    this.#engine = options.engine;
    this.stats = options.stats ?? new Float64Array(maxSas * SaStat.COLUMNS);
    this.noHandle = new Uint8Array(maxSas);
    this.#outbound = new Array(maxSas).fill(null);
    this.#inbound = new Array(maxSas).fill(null);
    this.#counters = new SaCounters(this.stats, options.audit ?? null);
    const groups = new SaGroups(maxSas, capacity);
    this.#groups = groups;
    this.#out = new OutboundPath(options, this.#counters, groups, this.#outbound, this.#inbound);
    this.#in = new InboundPath(options, this.#counters, groups, this.#inbound, this.#out.bySpi);
  }

  /** Tells the time, milliseconds of a monotone clock: for the ageing of path MTUs. Once a burst or less. */
  tick(nowMs: number): void {
    this.#in.now = nowMs;
  }

  /** Throws XfrmError (EXISTS, UNSUPPORTED) or RangeError, and changes nothing then. */
  addOutbound(given: OutboundTicket): void {
    const ticket = readOnce(given);
    this.#demandFree(ticket.slot);
    const key = this.#install(ticket);
    try {
      this.#out.add(ticket, key);
    } catch (error) {
      this.#engine.remove(key);
      throw error;
    }
    this.noHandle[ticket.slot] = NO_HANDLE_NAMES.indexOf(ticket.noHandle);
  }

  /** Throws XfrmError (EXISTS, UNSUPPORTED) or RangeError, and changes nothing then. */
  addInbound(given: InboundTicket): void {
    const ticket = readOnce(given);
    this.#demandFree(ticket.slot);
    const key = this.#install(ticket);
    try {
      this.#in.add(ticket, key);
    } catch (error) {
      this.#engine.remove(key);
      throw error;
    }
  }

  /** Forgets an SA of either direction. Throws XfrmError NOT_FOUND. */
  remove(slot: number): void {
    const out = this.#outbound[slot];
    const sa = out ?? this.#inbound[slot];
    if (!sa) throw new XfrmError({ code: 'NOT_FOUND', what: `no SA in slot ${slot}` });
    this.#engine.remove(sa.key);
    if (out) this.#out.remove(out);
    else this.#in.remove(slot);
    this.noHandle[slot] = NoHandle.DROP;
  }

  /** Replaces the outbound policies; the first match wins, no match is dropped. Throws RangeError on nonsense. */
  setPolicies(policies: readonly PolicyTicket[]): void {
    this.#out.setPolicies(readOnce(policies));
  }

  /**
   * The outbound switch of a rekey (make before break): from the next burst on, policies that protected with SA `from`
   * protect with `to`. Both are there, and so is the peer's new inbound SA; the old ones go once nothing is in flight.
   * Throws XfrmError NOT_FOUND; returns how many policies changed.
   */
  switchOutbound(from: number, to: number): number {
    return this.#out.switchOutbound(from, to);
  }

  /**
   * Resynchronises an inbound SA with a sender that has gone on for more than 2^32 numbers unheard (RFC 4303 A3): its next
   * `frames` received frames on this worker are tried under the high halves that follow, `attempts` each, until one ICV
   * holds and commits. Only ever on this word, so that a forger costs nothing more until it is given, and at most
   * frames * attempts ICVs then; the sign to give it by is a run of ICV drops (`stats`) with nothing accepted. What a
   * lower opens with numbers of its own is not tried. Throws XfrmError NOT_FOUND, UNSUPPORTED without ESN, or RangeError.
   */
  resync(slot: number, bounds: ResyncBounds = {}): void {
    this.#in.resync(slot, bounds);
  }

  /** Largest inner packet that an outbound SA takes now, bytes. Throws XfrmError NOT_FOUND. */
  innerMtu(slot: number): number {
    return this.#out.demand(slot).innerMtu;
  }

  /** Rows `[START, END)` = inner IP packets -> TO_SEAL, SEALED, CLEAR, or a FATE: NO_ROOM beyond the capacity. */
  outbound(burst: Burst): void {
    this.#groups.bound(burst);
    this.#out.outbound(burst);
  }

  /** Seals TO_SEAL rows of outbound SAs with this path's engine: for a bond that has no handle where they are to go. */
  seal(burst: Burst): void {
    this.#out.seal(burst);
  }

  /**
   * Appends a dummy packet of `length` payload bytes (RFC 4303 2.6), made in `frame`, to the burst: TO_SEAL, SEALED, or a
   * FATE. The caller's schedule says when. Throws XfrmError NOT_FOUND.
   */
  dummy(slot: number, burst: Burst, frame: number, length: number): void {
    this.#out.dummy(slot, burst, frame, length);
  }

  /** Appends a NAT keepalive (RFC 3948 2.3), made in `frame`, to the burst. Throws XfrmError NOT_FOUND or UNSUPPORTED. */
  keepalive(slot: number, burst: Burst, frame: number): void {
    this.#out.keepalive(slot, burst, frame);
  }

  /**
   * Rows as polled from `port` -> inner packets in `[START, END)`, or a FATE. RECEIVED rows are opened by the port where it
   * can, by this path's engine otherwise; OPENED and ICV_BAD rows keep the number their lower verified with. Rows beyond
   * the capacity get NO_ROOM.
   */
  inbound(burst: Burst, port: Port | null = null): void {
    this.#groups.bound(burst);
    this.#in.inbound(burst, port);
  }

  /**
   * Once a burst that has left the path is with its port: counts for their SAs the rows that the port, the bond or a full
   * ring did not take. Before `settle`, which empties the burst, and once.
   */
  countUnsent(burst: Burst): void {
    this.#counters.countUnsent(burst);
  }

  #install(ticket: InboundTicket | OutboundTicket): number {
    return this.#engine.install(ticket.algorithm, SaKey.attach(ticket.key), {
      esn: ticket.esn,
      icvLength: ticket.icvLength,
    });
  }

  #demandFree(slot: number): void {
    if (!Number.isInteger(slot) || slot < 0 || slot >= this.#outbound.length)
      throw new RangeError(`slot ${slot} is not below ${this.#outbound.length}`);
    if (this.#outbound[slot] || this.#inbound[slot])
      throw new XfrmError({ code: 'EXISTS', what: `slot ${slot} has an SA` });
  }
}
