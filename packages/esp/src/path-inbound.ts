import {
  type Burst,
  ETHERNET_HEADER_LENGTH,
  type FrameSlab,
  IPV4_HEADER_LENGTH,
  type IpProtocol,
  Row,
  RowState,
} from '@espalier/wire';
import { type CryptoEngine, DropReason, type LinkType, type Port, SadIndex, XfrmError } from '@espalier/xfrm';
import { Ahead, type ResyncBounds } from './ahead.ts';
import { EspInbound } from './inbound.ts';
import type { EspOutbound } from './outbound.ts';
import { judgeOuterError } from './outer-error.ts';
import { IN_UDP, parseOuter } from './parse.ts';
import type { PathMtu } from './path-mtu.ts';
import type { EspPathOptions } from './path-options.ts';
import type { SaCounters } from './sa-counters.ts';
import type { SaGroups } from './sa-groups.ts';
import type { InboundTicket } from './tickets.ts';

/** The way in of an EspPath, whose methods these are: the SAD, the inbound SAs, and what opens their packets. */
export class InboundPath {
  /** Milliseconds of a monotone clock. */
  now = 0;
  readonly #slab: FrameSlab;
  readonly #engine: CryptoEngine;
  readonly #linkType: LinkType;
  /** Bytes in front of the IP header; -1 where there is none of either. */
  readonly #linkLength: number;
  readonly #worker: number;
  readonly #pathMtu: PathMtu | null;
  readonly #counters: SaCounters;
  readonly #groups: SaGroups;
  readonly #sas: (EspInbound | null)[];
  readonly #index: SadIndex;
  /** Of each group the rows that are to be opened. */
  readonly #waiting: Int32Array;
  /** All rows of the burst that have an SA came RECEIVED. */
  #received = true;
  /** SAs whose next frames are to be tried in later subspaces; empty but for `resync`. */
  readonly #ahead: Map<number, Ahead> = new Map();
  /** Our own packets, for errors about them. */
  readonly #bySpi: ReadonlyMap<number, readonly EspOutbound[]>;

  constructor(
    options: EspPathOptions,
    counters: SaCounters,
    groups: SaGroups,
    sas: (EspInbound | null)[],
    bySpi: ReadonlyMap<number, readonly EspOutbound[]>,
  ) {
    this.#slab = options.slab;
    this.#engine = options.engine;
    this.#linkType = options.linkType;
    this.#linkLength = { ethernet: ETHERNET_HEADER_LENGTH, ip: 0, 'esp-udp': -1 }[options.linkType];
    this.#worker = options.worker ?? 0;
    this.#pathMtu = options.pathMtu ?? null;
    this.#counters = counters;
    this.#groups = groups;
    this.#sas = sas;
    this.#bySpi = bySpi;
    this.#index = new SadIndex(options.maxSas);
    this.#waiting = new Int32Array(groups.ends.length);
  }

  /** Adds the SA in a free slot. Throws XfrmError (EXISTS, UNSUPPORTED) or RangeError, and changes nothing then. */
  add(ticket: InboundTicket, key: number): void {
    const { spi, source, destination, slot } = ticket;
    const bare = this.#linkType === 'esp-udp';
    if (ticket.mode === 'transport' && bare)
      throw new XfrmError({
        code: 'UNSUPPORTED',
        device: 'an esp-udp lower',
        what: 'transport mode: it has no IP header',
      });
    const sa = new EspInbound(ticket, key, this.#worker);
    this.#index.add(slot, bare ? { spi, source: null, destination: null } : { spi, source, destination });
    this.#sas[slot] = sa;
  }

  remove(slot: number): void {
    this.#index.remove(slot);
    this.#ahead.delete(slot);
    this.#sas[slot] = null;
  }

  resync(slot: number, bounds: ResyncBounds = {}): void {
    const sa = this.#sas[slot];
    if (!sa) throw new XfrmError({ code: 'NOT_FOUND', what: `no inbound SA in slot ${slot}` });
    this.#ahead.set(slot, new Ahead(sa, this.#engine, this.#slab, bounds));
  }

  inbound(burst: Burst, port: Port | null = null): void {
    const { rows } = burst;
    const groups = this.#groups;
    const { order, ends, slots } = groups;
    const waiting = this.#waiting;
    const opener = port?.open !== undefined;
    this.#findAll(burst, !opener);
    // Nobody has opened a row yet: what there is to open follows from what is refused.
    const all = this.#received && this.#ahead.size === 0;
    let left = 0;
    for (let g = 0, from = 0; g < groups.count; g++) {
      const to = ends[g]!;
      waiting[g] = to - from - this.#sas[slots[g]!]!.window.checkBurst(rows, order, from, to);
      left += waiting[g]!;
      from = to;
    }
    if (this.#ahead.size > 0) this.#tryAhead(rows);
    let opened = opener ? port.open!(burst) : 0;
    if (!all || opened !== left) {
      let software = 0;
      for (let g = 0, from = 0; g < groups.count; g++) {
        const to = ends[g]!;
        const count = all && !opener ? waiting[g]! : this.#openHere(rows, this.#sas[slots[g]!]!.key, from, to);
        this.#counters.software(slots[g]!, count);
        software += count;
        from = to;
      }
      if (software > 0) opened += this.#engine.open(burst);
    }
    const whole = all && opened === left;
    for (let g = 0, from = 0; g < groups.count; g++) {
      const to = ends[g]!;
      const sa = this.#sas[slots[g]!]!;
      if (all && waiting[g] === 0) this.#counters.drops(sa.ticket, burst.slab, order, from, to);
      else {
        if (!whole) this.#refuseUnopened(rows, from, to);
        this.#accept(burst, sa, from, to);
      }
      from = to;
    }
  }

  /** Finds the SAs of a burst and groups it by them; with `keys` its rows get those of this path's engine. */
  #findAll(burst: Burst, keys: boolean): void {
    const { rows, list, length, slab } = burst;
    const groups = this.#groups;
    groups.begin();
    this.#received = true;
    for (let i = this.#findPlain(burst, 0, keys); i < length; i = this.#findPlain(burst, i + 1, keys)) {
      const row = list[i]!;
      const r = row * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      const fate = this.#find(slab, r);
      if (fate !== 0) {
        this.#refuse(r, fate);
        continue;
      }
      const slot = rows[r + Row.SA]!;
      if (keys) rows[r + Row.KEY] = this.#sas[slot]!.key;
      if (rows[r + Row.STATE] !== RowState.RECEIVED) this.#received = false;
      groups.add(row, slot);
    }
    groups.end(burst);
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
        this.#counters.software(slot, 1);
      }
      if (ahead?.over) this.#ahead.delete(slot);
      from = to;
    }
  }

  /** What is not opened by now has no ICV that holds. */
  #refuseUnopened(rows: Int32Array, from: number, to: number): void {
    const STATE: typeof Row.STATE = 8;
    const FATE: typeof Row.FATE = 9;
    const OPENED: typeof RowState.OPENED = 5;
    const { order } = this.#groups;
    for (let i = from; i < to; i++) {
      const r = order[i]! << 4;
      if (rows[r | FATE] === 0 && rows[r | STATE] !== OPENED) rows[r | FATE] = DropReason.ICV;
    }
  }

  /** After the ICV the window, then everything that looks at plaintext. */
  #accept(burst: Burst, sa: EspInbound, from: number, to: number): void {
    const { rows } = burst;
    const { order } = this.#groups;
    sa.window.commitBurst(rows, order, from, to);
    const left = sa.unwrap(burst, order, from, to);
    let { bytes } = sa;
    let alive = left;
    if (sa.lifetime !== null) {
      alive = from + sa.lifetime.grant(rows, order, from, left);
      for (let i = alive; i < left; i++) {
        const r = order[i]! * Row.WORDS;
        bytes -= rows[r + Row.END]! - rows[r + Row.START]!;
        rows[r + Row.FATE] = DropReason.LIFETIME;
      }
    }
    const packets = alive - from;
    this.#counters.count(sa.ticket.slot, packets, bytes);
    if (packets < to - from) this.#counters.drops(sa.ticket, burst.slab, order, from, to);
  }

  /** Parse and SAD lookup for one received row. */
  #find(slab: FrameSlab, r: number): number {
    const { rows, view } = slab;
    const parsed = parseOuter(slab, r, this.#linkType);
    if (parsed !== 0 && parsed !== IN_UDP) {
      if (parsed !== DropReason.NOT_ESP || this.#pathMtu === null || rows[r + Row.L3]! < 0) return parsed;
      const ours = judgeOuterError(slab, r, this.#bySpi, this.#pathMtu, this.now);
      return ours ? DropReason.OUTER_ERROR : parsed;
    }
    const esp = rows[r + Row.ESP]!;
    const length = rows[r + Row.END]! - esp;
    if (length < 8) return DropReason.TRUNCATED;
    const bare = this.#linkType === 'esp-udp';
    const slot = bare ? this.#index.findSpi(view.getInt32(esp)) : this.#lookup(view, rows[r + Row.L3]!, esp);
    if (slot < 0) return DropReason.NO_STATE;
    const sa = this.#sas[slot]!;
    rows[r + Row.SA] = slot;
    if (sa.lifetime?.spent()) return DropReason.LIFETIME;
    if (!bare && sa.inUdp !== (parsed === IN_UDP)) return DropReason.BAD_ENCAP;
    if (length < sa.leastLength) return DropReason.TRUNCATED;
    rows[r + Row.SEQ_LO] = view.getInt32(esp + 4);
    return 0;
  }

  /**
   * `#find` for ordinary frames from `list[from]` on, IPv4 without options or padding behind it and ESP in it, looked at once
   * and in one loop: a quarter of the time. Stops at a row with a FATE or with anything out of the ordinary, which it has not
   * touched; returns where.
   */
  #findPlain(burst: Burst, from: number, keys: boolean): number {
    // Literals where V8 sees them, each held to the table by its type. What an index is made of is masked, which takes nothing
    // from it, and then V8 knows that no sum of it overflows or wants its sign. There are more values than registers: each word
    // of the header is done with before the next is read.
    const START: typeof Row.START = 0;
    const END: typeof Row.END = 1;
    const L3: typeof Row.L3 = 2;
    const ESP: typeof Row.ESP = 3;
    const SA: typeof Row.SA = 4;
    const KEY: typeof Row.KEY = 5;
    const SEQ_LO: typeof Row.SEQ_LO = 6;
    const STATE: typeof Row.STATE = 8;
    const FATE: typeof Row.FATE = 9;
    const ECN: typeof Row.ECN = 14;
    const RECEIVED: typeof RowState.RECEIVED = 4;
    const HEADER: typeof IPV4_HEADER_LENGTH = 20;
    const PROTOCOL: typeof IpProtocol.ESP = 50;
    // EtherType.IPV4 as it lies, the first byte lowest.
    const TYPE = 0x0008;
    const linkLength = this.#linkLength | 0;
    if (linkLength < 0) return from;
    const { rows, list, slab } = burst;
    const { view } = slab;
    const length = burst.length | 0;
    const groups = this.#groups;
    const { order } = groups;
    let placed = groups.placed | 0;
    let other = 0;
    let i = from | 0;
    while (i < length) {
      const began = i;
      const slot = this.#ordinarySa(slab, list[i]!) | 0;
      if (slot < 0) break;
      const sa = this.#sas[slot]!;
      const key = keys ? sa.key | 0 : 0;
      const least = (HEADER + sa.leastLength) | 0;
      const first = (rows[(list[i]! << 4) | START]! + linkLength) & 0x7fff_ffff;
      const source = view.getInt32(first + 12, true);
      const destination = view.getInt32(first + 16, true);
      const spi = view.getInt32(first + 20, true);
      const addresses = ((source & 0xffff) + (source >>> 16) + (destination & 0xffff) + (destination >>> 16)) | 0;
      // Frames of this SA, most often all: nothing that they are known by changes in this loop. Bytes are compared as they lie.
      for (; i < length; i = (i + 1) | 0) {
        const row = list[i]!;
        const r = (row & 0x3ff_ffff) << 4;
        const l3 = (rows[r | START]! + linkLength) & 0x7fff_ffff;
        const total = (rows[r | END]! - l3) | 0;
        if (rows[r | FATE] !== 0 || total < least) break;
        if (
          view.getInt32(l3 + 20, true) !== spi ||
          view.getInt32(l3 + 12, true) !== source ||
          view.getInt32(l3 + 16, true) !== destination
        )
          break;
        if (linkLength !== 0 && view.getInt32(l3 - 4, true) >>> 16 !== TYPE) break;
        const a = view.getInt32(l3, true);
        if ((a & 0xffff_00ff) !== (0x45 | ((total & 0xff) << 24) | ((total >>> 8) << 16))) break;
        const b = view.getInt32(l3 + 4, true);
        const c = view.getInt32(l3 + 8, true);
        // No fragment; protocol.
        if ((b & 0xff3f_0000) !== 0 || (c & 0xff00) !== PROTOCOL << 8) break;
        // The one's complement sum has no byte order (RFC 1071 2).
        const sum = (addresses + (a & 0xffff) + (a >>> 16) + (b & 0xffff) + (b >>> 16) + (c & 0xffff) + (c >>> 16)) | 0;
        if ((sum & 0xffff) + (sum >>> 16) !== 0xffff) break;
        rows[r | L3] = l3;
        rows[r | ESP] = l3 + HEADER;
        rows[r | SA] = slot;
        rows[r | KEY] = key;
        rows[r | SEQ_LO] = view.getInt32(l3 + HEADER + 4);
        rows[r | ECN] = (a >>> 8) & 3;
        other |= rows[r | STATE]! ^ RECEIVED;
        order[placed] = row;
        placed = (placed + 1) | 0;
      }
      // The first one is of this SA: it is something else.
      if (i === began) break;
      groups.turn(slot);
    }
    groups.placed = placed;
    if (other !== 0) this.#received = false;
    return i;
  }

  /** The slot of the SA that the frame has if it is an ordinary one; -1 where there is none, or something to say of it. */
  #ordinarySa({ rows, view }: FrameSlab, row: number): number {
    const r = row * Row.WORDS;
    const l3 = rows[r + Row.START]! + this.#linkLength;
    const esp = l3 + IPV4_HEADER_LENGTH;
    if (rows[r + Row.FATE] !== 0 || rows[r + Row.END]! - esp < 8) return -1;
    const slot = this.#index.find4(view.getInt32(esp), view.getInt32(l3 + 16), view.getInt32(l3 + 12));
    if (slot < 0) return -1;
    const sa = this.#sas[slot]!;
    return sa.inUdp || sa.lifetime?.spent() ? -1 : slot;
  }

  #lookup(view: DataView, l3: number, esp: number): number {
    const spi = view.getInt32(esp);
    if (view.getUint8(l3) >> 4 === 6) return this.#index.find(spi, view, l3 + 24, l3 + 8, true);
    return this.#index.find(spi, view, l3 + 16, l3 + 12, false);
  }

  /** A received row that no group will hold. */
  #refuse(r: number, fate: number): void {
    const { rows } = this.#slab;
    rows[r + Row.FATE] = fate;
    const slot = rows[r + Row.SA]!;
    this.#counters.drop(fate, slot < 0 ? null : this.#sas[slot]!.ticket, this.#slab, r);
  }

  /** Sets KEY on the rows that are still RECEIVED; returns how many. */
  #openHere(rows: Int32Array, key: number, from: number, to: number): number {
    const { order } = this.#groups;
    let count = 0;
    for (let i = from; i < to; i++) {
      const r = order[i]! * Row.WORDS;
      if (rows[r + Row.STATE] !== RowState.RECEIVED || rows[r + Row.FATE] !== 0) continue;
      rows[r + Row.KEY] = key;
      count++;
    }
    return count;
  }
}
