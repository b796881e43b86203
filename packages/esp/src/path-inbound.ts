import { type Burst, type FrameSlab, Row, RowState } from '@espalier/wire';
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
  readonly #worker: number;
  readonly #pathMtu: PathMtu | null;
  readonly #counters: SaCounters;
  readonly #groups: SaGroups;
  readonly #sas: (EspInbound | null)[];
  readonly #index: SadIndex;
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
    this.#worker = options.worker ?? 0;
    this.#pathMtu = options.pathMtu ?? null;
    this.#counters = counters;
    this.#groups = groups;
    this.#sas = sas;
    this.#bySpi = bySpi;
    this.#index = new SadIndex(options.maxSas);
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
      this.#sas[groups.slots[g]!]!.window.checkBurst(rows, groups.order, from, to);
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
      this.#accept(burst, this.#sas[groups.slots[g]!]!, from, to);
      from = to;
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
        this.#counters.software(slot, 1);
      }
      if (ahead?.over) this.#ahead.delete(slot);
      from = to;
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
    this.#counters.count(sa.ticket.slot, packets, bytes);
    if (packets < to - from) this.#counters.drops(sa.ticket, burst.slab, order, from, to);
  }

  /** Parse and SAD lookup for one received row. */
  #find(r: number): number {
    const { rows, view } = this.#slab;
    const parsed = parseOuter(this.#slab, r, this.#linkType);
    if (parsed !== 0 && parsed !== IN_UDP) {
      if (parsed !== DropReason.NOT_ESP || this.#pathMtu === null || rows[r + Row.L3]! < 0) return parsed;
      const ours = judgeOuterError(this.#slab, r, this.#bySpi, this.#pathMtu, this.now);
      return ours ? DropReason.OUTER_ERROR : parsed;
    }
    const esp = rows[r + Row.ESP]!;
    const length = rows[r + Row.END]! - esp;
    if (length < 8) return DropReason.TRUNCATED;
    const slot = this.#lookup(r, view, esp);
    if (slot < 0) return DropReason.NO_STATE;
    const sa = this.#sas[slot]!;
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
    this.#counters.drop(fate, slot < 0 ? null : this.#sas[slot]!.ticket, this.#slab, r);
  }

  /** Sets KEY on the rows that are still RECEIVED; returns how many. */
  #openHere(rows: Int32Array, slot: number, from: number, to: number): number {
    const { order } = this.#groups;
    const { key } = this.#sas[slot]!;
    let count = 0;
    for (let i = from; i < to; i++) {
      const r = order[i]! * Row.WORDS;
      if (rows[r + Row.STATE] !== RowState.RECEIVED || rows[r + Row.FATE] !== 0) continue;
      rows[r + Row.KEY] = key;
      count++;
    }
    this.#counters.software(slot, count);
    return count;
  }
}
