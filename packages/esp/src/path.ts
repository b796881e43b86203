/**
 * The whole way through ESP for a mixed burst, both directions. One per worker; reads no clock.
 *
 *   outbound   inner packets -> check -> policy -> group by SA -> numbers, headers, padding -> (seal here | TO_SEAL)
 *   inbound    frames -> parse -> SAD -> group by SA -> infer, replay look -> open (lower | engine) -> commit -> unwrap
 *
 * A row that is dropped gets its FATE and is skipped by every later step; it stays in the burst's list.
 */
import {
  type Burst,
  checkIpv4,
  checkIpv6,
  ETHERNET_HEADER_LENGTH,
  EtherType,
  type FrameSlab,
  IpCheck,
  Row,
  RowState,
} from '@espalier/wire';
import {
  type CryptoEngine,
  DropReason,
  type LinkType,
  OffloadDevice,
  type OffloadTable,
  PolicyAction,
  type PolicyTicket,
  type Port,
  SadIndex,
  SaKey,
  Spd,
  XfrmError,
} from '@espalier/xfrm';
import { EspInbound } from './inbound.ts';
import { EspOutbound } from './outbound.ts';
import { IN_UDP, parseOuter } from './parse.ts';
import type { InboundTicket, OutboundTicket } from './tickets.ts';

/** Columns of the per-SA counters. */
export const SaStat = { PACKETS: 0, BYTES: 1, DROPPED: 2, SOFTWARE: 3, COLUMNS: 4 } as const;

export interface EspPathOptions {
  readonly slab: FrameSlab;
  readonly engine: CryptoEngine;
  /** SA slots are below this. */
  readonly maxSas: number;
  readonly linkType: LinkType;
  /** Which device holds an SA's offload state; null where nothing is offloaded. */
  readonly offloads: OffloadTable | null;
  /** Ethernet header for packets that a BYPASS policy lets out in the clear. */
  readonly link?: Uint8Array | null;
  /** Longest burst; 256 when absent. */
  readonly capacity?: number;
  /** `maxSas * SaStat.COLUMNS` counters, written by this worker alone. */
  readonly stats?: Float64Array;
}

export class EspPath {
  /** Per-SA counters of this worker: `stats[slot * SaStat.COLUMNS + SaStat.X]`. */
  readonly stats: Float64Array;
  readonly #slab: FrameSlab;
  readonly #engine: CryptoEngine;
  readonly #linkType: LinkType;
  readonly #offloads: OffloadTable | null;
  readonly #link: Uint8Array | null;
  readonly #outbound: (EspOutbound | null)[];
  readonly #inbound: (EspInbound | null)[];
  readonly #index: SadIndex;
  #policies: Spd = new Spd([]);

  // Scratch for grouping a burst by SA.
  readonly #order: Int32Array;
  readonly #groupOf: Int32Array;
  readonly #slots: Int32Array;
  readonly #ends: Int32Array;
  #groups = 0;

  constructor(options: EspPathOptions) {
    const { maxSas, capacity = 256 } = options;
    this.#slab = options.slab;
    this.#engine = options.engine;
    this.#linkType = options.linkType;
    this.#offloads = options.offloads;
    this.#link = options.link ?? null;
    this.stats = options.stats ?? new Float64Array(maxSas * SaStat.COLUMNS);
    this.#outbound = new Array(maxSas).fill(null);
    this.#inbound = new Array(maxSas).fill(null);
    this.#index = new SadIndex(maxSas);
    this.#order = new Int32Array(capacity);
    this.#groupOf = new Int32Array(maxSas).fill(-1);
    this.#slots = new Int32Array(capacity);
    this.#ends = new Int32Array(capacity);
  }

  /** Throws XfrmError (EXISTS, UNSUPPORTED) and changes nothing then. */
  addOutbound(ticket: OutboundTicket): void {
    this.#demandFree(ticket.slot);
    const key = this.#install(ticket);
    try {
      this.#outbound[ticket.slot] = new EspOutbound(ticket, key);
    } catch (error) {
      this.#engine.remove(key);
      throw error;
    }
  }

  /** Throws XfrmError (EXISTS, UNSUPPORTED) and changes nothing then. */
  addInbound(ticket: InboundTicket): void {
    this.#demandFree(ticket.slot);
    const { spi, source, destination } = ticket;
    const key = this.#install(ticket);
    try {
      const inbound = new EspInbound(ticket, key);
      this.#index.add(
        ticket.slot,
        this.#linkType === 'esp-udp' ? { spi, source: null, destination: null } : { spi, source, destination },
      );
      this.#inbound[ticket.slot] = inbound;
    } catch (error) {
      this.#engine.remove(key);
      throw error;
    }
  }

  /** Forgets an SA of either direction. Throws XfrmError NOT_FOUND. */
  remove(slot: number): void {
    const sa = this.#outbound[slot] ?? this.#inbound[slot];
    if (!sa) throw new XfrmError({ code: 'NOT_FOUND', what: `no SA in slot ${slot}` });
    this.#index.remove(slot);
    this.#engine.remove(sa.key);
    this.#outbound[slot] = null;
    this.#inbound[slot] = null;
  }

  /** Replaces the outbound policies; the first match wins, no match is dropped. Throws RangeError on nonsense. */
  setPolicies(policies: readonly PolicyTicket[]): void {
    this.#policies = new Spd(policies);
  }

  /** Rows `[START, END)` = inner IP packets -> TO_SEAL, SEALED, CLEAR, or a FATE. */
  outbound(burst: Burst): void {
    const { rows, list, slab } = burst;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      rows[r + Row.SA] = -1;
      if (rows[r + Row.FATE] === 0) this.#classify(slab, r);
    }
    this.#group(burst);
    let software = false;
    for (let g = 0, from = 0; g < this.#groups; g++) {
      const to = this.#ends[g]!;
      const sa = this.#outbound[this.#slots[g]!]!;
      sa.encap(burst, this.#order, from, to);
      software = this.#sealHere(sa, rows, from, to) || software;
      this.#count(rows, this.#slots[g]!, from, to);
      from = to;
    }
    if (software) this.#engine.seal(burst);
  }

  /**
   * Rows as polled from `port` -> inner packets in `[START, END)`, or a FATE. RECEIVED rows are opened by the port where it
   * can, by this path's engine otherwise; OPENED and ICV_BAD rows keep the number their lower verified with.
   */
  inbound(burst: Burst, port: Port | null = null): void {
    const { rows, list } = burst;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      const fate = this.#find(r);
      if (fate !== 0) rows[r + Row.FATE] = fate;
    }
    this.#group(burst);
    const order = this.#order;
    for (let g = 0, from = 0; g < this.#groups; g++) {
      const to = this.#ends[g]!;
      this.#inbound[this.#slots[g]!]!.window.checkBurst(rows, order, from, to);
      from = to;
    }
    port?.open?.(burst);
    let software = false;
    for (let g = 0, from = 0; g < this.#groups; g++) {
      const sa = this.#inbound[this.#slots[g]!]!;
      const to = this.#ends[g]!;
      for (let i = from; i < to; i++) {
        const r = order[i]! * Row.WORDS;
        if (rows[r + Row.STATE] !== RowState.RECEIVED || rows[r + Row.FATE] !== 0) continue;
        rows[r + Row.KEY] = sa.key;
        software = true;
        const s = this.#slots[g]! * SaStat.COLUMNS + SaStat.SOFTWARE;
        this.stats[s] = this.stats[s]! + 1;
      }
      from = to;
    }
    if (software) this.#engine.open(burst);
    for (let g = 0, from = 0; g < this.#groups; g++) {
      const to = this.#ends[g]!;
      this.#accept(burst, this.#inbound[this.#slots[g]!]!, from, to);
      this.#count(rows, this.#slots[g]!, from, to);
      from = to;
    }
  }

  /** ICV, then window, then everything that looks at plaintext. */
  #accept(burst: Burst, sa: EspInbound, from: number, to: number): void {
    const { rows } = burst;
    const order = this.#order;
    for (let i = from; i < to; i++) {
      const r = order[i]! * Row.WORDS;
      if (rows[r + Row.FATE] === 0 && rows[r + Row.STATE] !== RowState.OPENED) rows[r + Row.FATE] = DropReason.ICV;
    }
    sa.window.commitBurst(rows, order, from, to);
    for (let i = from; i < to; i++) {
      const r = order[i]! * Row.WORDS;
      if (rows[r + Row.FATE] === 0) sa.unwrap(burst, r);
    }
  }

  /** Inner checks and policy for one outbound row; a protected one gets its SA. */
  #classify(slab: FrameSlab, r: number): void {
    const { rows, view } = slab;
    const start = rows[r + Row.START]!;
    const end = rows[r + Row.END]!;
    const version = end > start ? view.getUint8(start) >> 4 : 0;
    const check = version === 6 ? checkIpv6(view, start, end) : checkIpv4(view, start, end, false);
    if (check !== IpCheck.OK) {
      rows[r + Row.FATE] = DropReason.BAD_INNER;
      return;
    }
    const verdict = this.#policies.lookup(view, start);
    if (verdict >= 0) {
      if (this.#outbound[verdict]) rows[r + Row.SA] = verdict;
      else rows[r + Row.FATE] = DropReason.NO_STATE;
    } else if (verdict === PolicyAction.BYPASS) this.#bypass(slab, r, version);
    else rows[r + Row.FATE] = DropReason.POLICY;
  }

  #bypass(slab: FrameSlab, r: number, version: number): void {
    const { rows, bytes, view } = slab;
    const l3 = rows[r + Row.START]!;
    rows[r + Row.L3] = l3;
    rows[r + Row.STATE] = RowState.CLEAR;
    if (this.#link === null) return;
    const start = l3 - ETHERNET_HEADER_LENGTH;
    bytes.set(this.#link, start);
    view.setUint16(start + 12, version === 6 ? EtherType.IPV6 : EtherType.IPV4);
    rows[r + Row.START] = start;
  }

  /** Parse and SAD lookup for one received row. */
  #find(r: number): number {
    const { rows, view } = this.#slab;
    const parsed = parseOuter(this.#slab, r, this.#linkType);
    if (parsed !== 0 && parsed !== IN_UDP) return parsed;
    const esp = rows[r + Row.ESP]!;
    const length = rows[r + Row.END]! - esp;
    if (length < 8) return DropReason.TRUNCATED;
    const slot = this.#lookup(r, view, esp);
    if (slot < 0) return DropReason.NO_STATE;
    const sa = this.#inbound[slot];
    if (!sa) return DropReason.BAD_STATE;
    if (this.#linkType !== 'esp-udp' && (sa.ticket.encap !== null) !== (parsed === IN_UDP)) return DropReason.BAD_ENCAP;
    if (length < sa.leastLength) return DropReason.TRUNCATED;
    rows[r + Row.SA] = slot;
    rows[r + Row.SEQ_LO] = view.getInt32(esp + 4);
    return 0;
  }

  #lookup(r: number, view: DataView, esp: number): number {
    const spi = view.getInt32(esp);
    if (this.#linkType === 'esp-udp') return this.#index.findSpi(spi);
    const l3 = this.#slab.rows[r + Row.L3]!;
    if (view.getUint8(l3) >> 4 === 6) return this.#index.find(spi, view, l3 + 24, l3 + 8, true);
    return this.#index.find(spi, view, l3 + 16, l3 + 12, false);
  }

  /**
   * Sets KEY on rows that are sealed here: not offloaded, offloaded to nothing right now and allowed to, kept in software
   * by the upper, or vetoed by a lower (`offloadOk`; the outer header that we write has no options).
   */
  #sealHere(sa: EspOutbound, rows: Int32Array, from: number, to: number): boolean {
    const { offload, noHandle, slot } = sa.ticket;
    const offloads = this.#offloads;
    const device = offloads === null ? OffloadDevice.UPPER : offloads.device(slot);
    const all =
      !offload || device === OffloadDevice.SOFTWARE || (device === OffloadDevice.NONE && noHandle === 'software');
    let here = 0;
    for (let i = from; i < to; i++) {
      const r = this.#order[i]! * Row.WORDS;
      const length = rows[r + Row.END]! - rows[r + Row.L3]!;
      if (!all && (offloads === null || offloads.fits(slot, length, 0))) continue;
      rows[r + Row.KEY] = sa.key;
      here++;
    }
    const s = slot * SaStat.COLUMNS + SaStat.SOFTWARE;
    this.stats[s] = this.stats[s]! + here;
    return here > 0;
  }

  #count(rows: Int32Array, slot: number, from: number, to: number): void {
    let packets = 0;
    let bytes = 0;
    for (let i = from; i < to; i++) {
      const r = this.#order[i]! * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      packets++;
      bytes += rows[r + Row.END]! - rows[r + Row.START]!;
    }
    const s = slot * SaStat.COLUMNS;
    this.stats[s + SaStat.PACKETS] = this.stats[s + SaStat.PACKETS]! + packets;
    this.stats[s + SaStat.BYTES] = this.stats[s + SaStat.BYTES]! + bytes;
    this.stats[s + SaStat.DROPPED] = this.stats[s + SaStat.DROPPED]! + (to - from - packets);
  }

  /** Orders the rows that have an SA and no FATE by SA, each group in burst order: `order[ends[g-1] .. ends[g])`. */
  #group(burst: Burst): void {
    const { rows, list } = burst;
    const ends = this.#ends;
    let groups = 0;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] !== 0 || rows[r + Row.SA]! < 0) continue;
      const slot = rows[r + Row.SA]!;
      let g = this.#groupOf[slot]!;
      if (g < 0) {
        g = groups++;
        this.#groupOf[slot] = g;
        this.#slots[g] = slot;
        ends[g] = 0;
      }
      ends[g] = ends[g]! + 1;
    }
    // Counts become starts; filling moves each start to its end.
    for (let g = 0, at = 0; g < groups; g++) {
      const count = ends[g]!;
      ends[g] = at;
      at += count;
    }
    for (let i = 0; i < burst.length; i++) {
      const row = list[i]!;
      const r = row * Row.WORDS;
      if (rows[r + Row.FATE] !== 0 || rows[r + Row.SA]! < 0) continue;
      const g = this.#groupOf[rows[r + Row.SA]!]!;
      this.#order[ends[g]!] = row;
      ends[g] = ends[g]! + 1;
    }
    for (let g = 0; g < groups; g++) this.#groupOf[this.#slots[g]!] = -1;
    this.#groups = groups;
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
