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
  IPV4_HEADER_LENGTH,
  IPV6_HEADER_LENGTH,
  IpCheck,
  IpProtocol,
  Ipv6,
  Row,
  RowState,
  readIhl,
} from '@espalier/wire';
import {
  type CryptoEngine,
  DROP_CODES,
  DropReason,
  L3Flag,
  type LinkType,
  NO_HANDLE_NAMES,
  NoHandle,
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
import { Ahead, type ResyncBounds } from './ahead.ts';
import type { AuditSink } from './audit.ts';
import { EspInbound } from './inbound.ts';
import { EspOutbound } from './outbound.ts';
import { judgeOuterError } from './outer-error.ts';
import { IN_UDP, parseOuter } from './parse.ts';
import type { PathMtu } from './path-mtu.ts';
import { SaGroups } from './sa-groups.ts';
import type { FrameHash } from './spread.ts';
import type { InboundTicket, OutboundTicket } from './tickets.ts';
import { finishUdp6 } from './udp-checksum.ts';

/**
 * Columns of the per-SA counters. From DROPS on there is one column per DropReason: what this SA's packets ended of.
 * PACKETS and BYTES (of the inner packets) count what went through.
 */
export const SaStat = { PACKETS: 0, BYTES: 1, DROPPED: 2, SOFTWARE: 3, DROPS: 4, COLUMNS: 4 + DROP_CODES } as const;

/** Indexed by DropReason: 1 = what ports and bonds say and the way in never does. */
const OF_PORTS: Uint8Array = (() => {
  const table = new Uint8Array(256);
  for (const reason of [
    DropReason.NO_ROOM,
    DropReason.LINK_DOWN,
    DropReason.UNSET,
    DropReason.TOO_BIG,
    DropReason.NO_LOWER_HANDLE,
    DropReason.NO_NEIGHBOUR,
    DropReason.NO_USABLE_SLAVE,
  ])
    table[reason] = 1;
  return table;
})();

export interface EspPathOptions {
  readonly slab: FrameSlab;
  readonly engine: CryptoEngine;
  /** This worker's index: windows keep accounts per worker. 0 when absent. */
  readonly worker?: number;
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
  /** Who is told of auditable drops. */
  readonly audit?: AuditSink | null;
  /** The bond's layer3+4 hash, asked once per SA; without it the bond hashes every frame's bytes. */
  readonly frameHash?: FrameHash | null;
  /** Path MTUs of the outbound SAs, shared by the workers; without it none are learned. */
  readonly pathMtu?: PathMtu | null;
}

export class EspPath {
  /** Per-SA counters of this worker: `stats[slot * SaStat.COLUMNS + SaStat.X]`. */
  readonly stats: Float64Array;
  /** By slot: what an SA's packets meet when their slave has no handle for it (a NoHandle). For the bond's port. */
  readonly noHandle: Uint8Array;
  readonly #slab: FrameSlab;
  readonly #engine: CryptoEngine;
  readonly #linkType: LinkType;
  readonly #worker: number;
  readonly #offloads: OffloadTable | null;
  readonly #link: Uint8Array | null;
  readonly #audit: AuditSink | null;
  readonly #pathMtu: PathMtu | null;
  readonly #frameHash: FrameHash | null;
  readonly #outbound: (EspOutbound | null)[];
  readonly #inbound: (EspInbound | null)[];
  readonly #index: SadIndex;
  readonly #groups: SaGroups;
  /** Inbound SAs whose next frames are to be tried in later subspaces; empty but for `resync`. */
  readonly #ahead: Map<number, Ahead> = new Map();
  /** For errors about our packets. */
  readonly #bySpi: Map<number, EspOutbound[]> = new Map();
  #policies: Spd = new Spd([]);
  #now = 0;

  constructor(options: EspPathOptions) {
    const { maxSas, capacity = 256 } = options;
    this.#slab = options.slab;
    this.#engine = options.engine;
    this.#linkType = options.linkType;
    this.#worker = options.worker ?? 0;
    this.#offloads = options.offloads;
    this.#link = options.link ?? null;
    this.#audit = options.audit ?? null;
    this.#pathMtu = options.pathMtu ?? null;
    this.#frameHash = options.frameHash ?? null;
    this.stats = options.stats ?? new Float64Array(maxSas * SaStat.COLUMNS);
    this.noHandle = new Uint8Array(maxSas);
    this.#outbound = new Array(maxSas).fill(null);
    this.#inbound = new Array(maxSas).fill(null);
    this.#index = new SadIndex(maxSas);
    this.#groups = new SaGroups(maxSas, capacity);
  }

  /** Tells the time, milliseconds of a monotone clock: for the ageing of path MTUs. Once a burst or less. */
  tick(nowMs: number): void {
    this.#now = nowMs;
  }

  /** Throws XfrmError (EXISTS, UNSUPPORTED) or RangeError, and changes nothing then. */
  addOutbound(ticket: OutboundTicket): void {
    this.#demandFree(ticket.slot);
    const key = this.#install(ticket);
    let sa: EspOutbound;
    try {
      sa = new EspOutbound(this.#fitted(ticket), key, this.#pathMtu, this.#frameHash);
    } catch (error) {
      this.#engine.remove(key);
      throw error;
    }
    this.#outbound[ticket.slot] = sa;
    this.noHandle[ticket.slot] = NO_HANDLE_NAMES.indexOf(ticket.noHandle);
    this.#bySpi.set(ticket.spi, [...(this.#bySpi.get(ticket.spi) ?? []), sa]);
  }

  /** On an esp-udp lower the MTU is of the ESP packet alone: the outer IP header that is stripped again comes on top. */
  #fitted(ticket: OutboundTicket): OutboundTicket {
    if (this.#linkType !== 'esp-udp') return ticket;
    if (ticket.encap !== null || ticket.mode === 'transport' || ticket.link !== null)
      throw new XfrmError({
        code: 'UNSUPPORTED',
        device: 'an esp-udp lower',
        what: "transport mode, a link header, or UDP encapsulation of the SA: the addresses are the socket's",
      });
    const outer = ticket.source.length === 4 ? IPV4_HEADER_LENGTH : IPV6_HEADER_LENGTH;
    return { ...ticket, mtu: ticket.mtu + outer };
  }

  /** Throws XfrmError (EXISTS, UNSUPPORTED) or RangeError, and changes nothing then. */
  addInbound(ticket: InboundTicket): void {
    this.#demandFree(ticket.slot);
    const { spi, source, destination } = ticket;
    if (ticket.mode === 'transport' && this.#linkType === 'esp-udp')
      throw new XfrmError({
        code: 'UNSUPPORTED',
        device: 'an esp-udp lower',
        what: 'transport mode: it has no IP header',
      });
    const key = this.#install(ticket);
    try {
      const inbound = new EspInbound(ticket, key, this.#worker);
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
    this.#ahead.delete(slot);
    this.#engine.remove(sa.key);
    if (this.#outbound[slot]) {
      const left = this.#bySpi.get(sa.ticket.spi)!.filter((s) => s !== sa);
      if (left.length > 0) this.#bySpi.set(sa.ticket.spi, left);
      else this.#bySpi.delete(sa.ticket.spi);
    }
    this.noHandle[slot] = NoHandle.DROP;
    this.#outbound[slot] = null;
    this.#inbound[slot] = null;
  }

  /** Replaces the outbound policies; the first match wins, no match is dropped. Throws RangeError on nonsense. */
  setPolicies(policies: readonly PolicyTicket[]): void {
    this.#policies = new Spd(policies);
  }

  /**
   * The outbound switch of a rekey (make before break): from the next burst on, policies that protected with SA `from`
   * protect with `to`. Both are there, and so is the peer's new inbound SA; the old ones go once nothing is in flight.
   * Throws XfrmError NOT_FOUND; returns how many policies changed.
   */
  switchOutbound(from: number, to: number): number {
    if (!this.#outbound[to]) throw new XfrmError({ code: 'NOT_FOUND', what: `no outbound SA in slot ${to}` });
    return this.#policies.redirect(from, to);
  }

  /**
   * Resynchronises an inbound SA with a sender that has gone on for more than 2^32 numbers unheard (RFC 4303 A3): its next
   * `frames` received frames on this worker are tried under the high halves that follow, `attempts` each, until one ICV
   * holds and commits. Only ever on this word, so that a forger costs nothing more until it is given, and at most
   * frames * attempts ICVs then; the sign to give it by is a run of ICV drops (`stats`) with nothing accepted. What a
   * lower opens with numbers of its own is not tried. Throws XfrmError NOT_FOUND, UNSUPPORTED without ESN, or RangeError.
   */
  resync(slot: number, bounds: ResyncBounds = {}): void {
    const sa = this.#inbound[slot];
    if (!sa) throw new XfrmError({ code: 'NOT_FOUND', what: `no inbound SA in slot ${slot}` });
    this.#ahead.set(slot, new Ahead(sa, this.#engine, this.#slab, bounds));
  }

  /** Largest inner packet that an outbound SA takes now, bytes. Throws XfrmError NOT_FOUND. */
  innerMtu(slot: number): number {
    return this.#demandOutbound(slot).innerMtu;
  }

  /** Rows `[START, END)` = inner IP packets -> TO_SEAL, SEALED, CLEAR, or a FATE. */
  outbound(burst: Burst): void {
    const { rows, list, slab } = burst;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      rows[r + Row.SA] = -1;
      if (rows[r + Row.FATE] === 0) this.#classify(slab, r);
    }
    const groups = this.#groups;
    groups.fill(burst);
    let software = false;
    for (let g = 0, from = 0; g < groups.count; g++) {
      const to = groups.ends[g]!;
      const slot = groups.slots[g]!;
      const sa = this.#outbound[slot]!;
      sa.encap(burst, groups.order, from, to);
      if (this.#linkType === 'esp-udp') this.#strip(rows, from, from + sa.encapped);
      software = this.#sealHere(sa, rows, from, from + sa.encapped) || software;
      this.#count(slot, sa.encapped, sa.bytes);
      if (sa.encapped < to - from) this.#countDrops(burst, sa.ticket, from, to);
      from = to;
    }
    if (software) this.#seal(burst);
  }

  /** Seals TO_SEAL rows of outbound SAs with this path's engine: for a bond that has no handle where they are to go. */
  seal(burst: Burst): void {
    const { rows, list } = burst;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.STATE] !== RowState.TO_SEAL || rows[r + Row.FATE] !== 0) continue;
      const slot = rows[r + Row.SA]!;
      rows[r + Row.KEY] = this.#outbound[slot]!.key;
      this.#software(slot, 1);
    }
    this.#seal(burst);
  }

  /**
   * Appends a dummy packet of `length` payload bytes (RFC 4303 2.6), made in `frame`, to the burst: TO_SEAL, SEALED, or a
   * FATE. The caller's schedule says when. Throws XfrmError NOT_FOUND.
   */
  dummy(slot: number, burst: Burst, frame: number, length: number): void {
    const sa = this.#demandOutbound(slot);
    const at = burst.length;
    burst.list[burst.length++] = frame;
    sa.dummy(burst, frame, length);
    const fate = burst.rows[frame * Row.WORDS + Row.FATE]!;
    if (fate !== 0) {
      this.#countDrop(slot, fate);
      return;
    }
    this.#groups.order[at] = frame;
    if (this.#linkType === 'esp-udp') this.#strip(burst.rows, at, at + 1);
    if (this.#sealHere(sa, burst.rows, at, at + 1)) this.#seal(burst);
  }

  /** Appends a NAT keepalive (RFC 3948 2.3), made in `frame`, to the burst. Throws XfrmError NOT_FOUND or UNSUPPORTED. */
  keepalive(slot: number, burst: Burst, frame: number): void {
    const sa = this.#demandOutbound(slot);
    if (sa.ticket.encap === null)
      throw new XfrmError({
        code: 'UNSUPPORTED',
        device: 'espalier',
        what: 'a keepalive for an SA without UDP encapsulation',
      });
    burst.list[burst.length++] = frame;
    sa.keepalive(burst, frame);
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
      if (fate !== 0) this.#refuse(r, fate);
    }
    const groups = this.#groups;
    groups.fill(burst);
    for (let g = 0, from = 0; g < groups.count; g++) {
      const to = groups.ends[g]!;
      this.#inbound[groups.slots[g]!]!.window.checkBurst(rows, groups.order, from, to);
      from = to;
    }
    if (this.#ahead.size > 0) this.#tryAhead(rows);
    port?.open?.(burst);
    let software = 0;
    for (let g = 0, from = 0; g < groups.count; g++) {
      const to = groups.ends[g]!;
      software += this.#openHere(rows, groups.slots[g]!, from, to);
      from = to;
    }
    if (software > 0) this.#engine.open(burst);
    for (let g = 0, from = 0; g < groups.count; g++) {
      const to = groups.ends[g]!;
      this.#accept(burst, this.#inbound[groups.slots[g]!]!, from, to);
      from = to;
    }
  }

  /**
   * Once a burst that has left the path is with its port: counts for their SAs the rows that the port, the bond or a full
   * ring did not take. Before `settle`, which empties the burst, and once.
   */
  countUnsent(burst: Burst): void {
    const { rows, list } = burst;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      const fate = rows[r + Row.FATE]!;
      if (fate === 0 || rows[r + Row.SA]! < 0) continue;
      const state = rows[r + Row.STATE]!;
      const left =
        state === RowState.TO_SEAL || state === RowState.SEALED || (state === RowState.OPENED && OF_PORTS[fate]);
      if (left) this.#countDrop(rows[r + Row.SA]!, fate);
    }
  }

  #tryAhead(rows: Int32Array): void {
    const groups = this.#groups;
    for (let g = 0, from = 0; g < groups.count; g++) {
      const to = groups.ends[g]!;
      const slot = groups.slots[g]!;
      const ahead = this.#ahead.get(slot);
      for (let i = from; ahead !== undefined && i < to && !ahead.over; i++) {
        const r = groups.order[i]! * Row.WORDS;
        if (rows[r + Row.STATE] !== RowState.RECEIVED || rows[r + Row.FATE] !== 0) continue;
        ahead.try(groups.order[i]!);
        this.#software(slot, 1);
      }
      if (ahead?.over) this.#ahead.delete(slot);
      from = to;
    }
  }

  /** A socket puts IP and UDP in front by itself: its rows begin at the ESP header. */
  #strip(rows: Int32Array, from: number, to: number): void {
    const { order } = this.#groups;
    for (let i = from; i < to; i++) {
      const r = order[i]! * Row.WORDS;
      rows[r + Row.START] = rows[r + Row.ESP]!;
      rows[r + Row.L3] = -1;
    }
  }

  /** ICV, then window, then everything that looks at plaintext. */
  #accept(burst: Burst, sa: EspInbound, from: number, to: number): void {
    const { rows } = burst;
    const { order } = this.#groups;
    for (let i = from; i < to; i++) {
      const r = order[i]! * Row.WORDS;
      if (rows[r + Row.FATE] === 0 && rows[r + Row.STATE] !== RowState.OPENED) rows[r + Row.FATE] = DropReason.ICV;
    }
    sa.window.commitBurst(rows, order, from, to);
    let last = from;
    for (let i = from; i < to; i++) {
      const row = order[i]!;
      const r = row * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      sa.unwrap(burst, r);
      if (rows[r + Row.FATE] !== 0) continue;
      order[i] = order[last]!;
      order[last++] = row;
    }
    const alive = sa.lifetime === null ? last : from + sa.lifetime.grant(rows, order, from, last);
    let bytes = 0;
    for (let i = from; i < alive; i++) {
      const r = order[i]! * Row.WORDS;
      bytes += rows[r + Row.END]! - rows[r + Row.START]!;
    }
    for (let i = alive; i < last; i++) rows[order[i]! * Row.WORDS + Row.FATE] = DropReason.LIFETIME;
    const packets = alive - from;
    this.#count(sa.ticket.slot, packets, bytes);
    if (packets < to - from) this.#countDrops(burst, sa.ticket, from, to);
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
      else rows[r + Row.FATE] = this.#inbound[verdict] ? DropReason.BAD_STATE : DropReason.NO_STATE;
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
    if (parsed !== 0 && parsed !== IN_UDP) {
      if (parsed !== DropReason.NOT_ESP || this.#pathMtu === null || rows[r + Row.L3]! < 0) return parsed;
      const ours = judgeOuterError(this.#slab, r, this.#bySpi, this.#pathMtu, this.#now);
      return ours ? DropReason.OUTER_ERROR : parsed;
    }
    const esp = rows[r + Row.ESP]!;
    const length = rows[r + Row.END]! - esp;
    if (length < 8) return DropReason.TRUNCATED;
    const slot = this.#lookup(r, view, esp);
    if (slot < 0) return DropReason.NO_STATE;
    const sa = this.#inbound[slot]!;
    rows[r + Row.SA] = slot;
    if (sa.lifetime?.spent()) return DropReason.LIFETIME;
    if (this.#linkType !== 'esp-udp' && (sa.ticket.encap !== null) !== (parsed === IN_UDP)) return DropReason.BAD_ENCAP;
    if (length < sa.leastLength) return DropReason.TRUNCATED;
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

  /** A received row that no group will hold. */
  #refuse(r: number, fate: number): void {
    const { rows } = this.#slab;
    rows[r + Row.FATE] = fate;
    const slot = rows[r + Row.SA]!;
    const ticket = slot < 0 ? null : this.#inbound[slot]!.ticket;
    if (slot >= 0) this.#countDrop(slot, fate);
    this.#audit?.drop(fate as DropReason, ticket, this.#slab, r);
  }

  /**
   * Sets KEY on rows that are sealed here: not offloaded, offloaded to nothing right now and allowed to, kept in software
   * by the upper, or vetoed by a lower (`offloadOk`).
   */
  #sealHere(sa: EspOutbound, rows: Int32Array, from: number, to: number): boolean {
    const { offload, noHandle, slot } = sa.ticket;
    const { order } = this.#groups;
    const offloads = this.#offloads;
    const device = offloads === null ? OffloadDevice.UPPER : offloads.device(slot);
    const all =
      !offload || device === OffloadDevice.SOFTWARE || (device === OffloadDevice.NONE && noHandle === 'software');
    let here = 0;
    for (let i = from; i < to; i++) {
      const r = order[i]! * Row.WORDS;
      if (!all && (offloads === null || this.#fits(offloads, sa, r))) continue;
      rows[r + Row.KEY] = sa.key;
      here++;
    }
    this.#software(slot, here);
    return here > 0;
  }

  /** Whether the lowers take the row as it is; a tunnel's outer header has no options. */
  #fits(offloads: OffloadTable, sa: EspOutbound, r: number): boolean {
    const { rows, view } = this.#slab;
    const flags = sa.ticket.mode === 'tunnel' ? 0 : headerFlags(view, rows[r + Row.L3]!);
    return offloads.fits(sa.ticket.slot, rows[r + Row.END]! - rows[r + Row.L3]!, flags);
  }

  #seal(burst: Burst): void {
    this.#engine.seal(burst);
    const { rows, list } = burst;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      const slot = rows[r + Row.SA]!;
      if (slot >= 0 && rows[r + Row.STATE] === RowState.SEALED && this.#outbound[slot]!.udp6) finishUdp6(this.#slab, r);
    }
  }

  /** Sets KEY on the rows that are still RECEIVED; returns how many. */
  #openHere(rows: Int32Array, slot: number, from: number, to: number): number {
    const { order } = this.#groups;
    const { key } = this.#inbound[slot]!;
    let count = 0;
    for (let i = from; i < to; i++) {
      const r = order[i]! * Row.WORDS;
      if (rows[r + Row.STATE] !== RowState.RECEIVED || rows[r + Row.FATE] !== 0) continue;
      rows[r + Row.KEY] = key;
      count++;
    }
    this.#software(slot, count);
    return count;
  }

  #software(slot: number, count: number): void {
    const s = slot * SaStat.COLUMNS + SaStat.SOFTWARE;
    this.stats[s] = this.stats[s]! + count;
  }

  #count(slot: number, packets: number, bytes: number): void {
    const s = slot * SaStat.COLUMNS;
    this.stats[s + SaStat.PACKETS] = this.stats[s + SaStat.PACKETS]! + packets;
    this.stats[s + SaStat.BYTES] = this.stats[s + SaStat.BYTES]! + bytes;
  }

  /** Counts, and has audited, the rows of a group that ended. */
  #countDrops(burst: Burst, ticket: InboundTicket | OutboundTicket, from: number, to: number): void {
    const { rows, slab } = burst;
    const { order } = this.#groups;
    for (let i = from; i < to; i++) {
      const r = order[i]! * Row.WORDS;
      const fate = rows[r + Row.FATE]!;
      if (fate === 0) continue;
      this.#countDrop(ticket.slot, fate);
      this.#audit?.drop(fate as DropReason, ticket, slab, r);
    }
  }

  #countDrop(slot: number, fate: number): void {
    const s = slot * SaStat.COLUMNS;
    this.stats[s + SaStat.DROPPED] = this.stats[s + SaStat.DROPPED]! + 1;
    this.stats[s + SaStat.DROPS + fate] = this.stats[s + SaStat.DROPS + fate]! + 1;
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

  #demandOutbound(slot: number): EspOutbound {
    const sa = this.#outbound[slot];
    if (!sa) throw new XfrmError({ code: 'NOT_FOUND', what: `no outbound SA in slot ${slot}` });
    return sa;
  }
}

/** L3Flag set of the packet at `l3`, whose upper layer is ESP or UDP. */
function headerFlags(view: DataView, l3: number): number {
  if (view.getUint8(l3) >> 4 === 4) return readIhl(view, l3) > IPV4_HEADER_LENGTH ? L3Flag.IP_OPTIONS : 0;
  const next = view.getUint8(l3 + Ipv6.NEXT_HEADER);
  return next === IpProtocol.ESP || next === IpProtocol.UDP ? 0 : L3Flag.EXTENSION_HEADERS;
}
