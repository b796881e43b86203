import {
  type Burst,
  checkIpv4,
  checkIpv6,
  ETHERNET_HEADER_LENGTH,
  EtherType,
  type FrameSlab,
  IPV4_HEADER_LENGTH,
  IPV6_HEADER_LENGTH,
  IpProtocol,
  Ipv6,
  Row,
  RowState,
  readIhl,
} from '@espalier/wire';
import {
  type CryptoEngine,
  DropReason,
  L3Flag,
  type LinkType,
  OffloadDevice,
  type OffloadTable,
  PolicyAction,
  type PolicyTicket,
  Spd,
  XfrmError,
} from '@espalier/xfrm';
import { EspOutbound, type Extent } from './outbound.ts';
import type { PathMtu } from './path-mtu.ts';
import type { EspPathOptions } from './path-options.ts';
import type { SaCounters } from './sa-counters.ts';
import type { SaGroups } from './sa-groups.ts';
import type { FrameHash } from './spread.ts';
import type { OutboundTicket } from './tickets.ts';
import { finishUdp6 } from './udp-checksum.ts';

/** The way out of an EspPath, whose methods these are: policies, the outbound SAs, and what seals their packets. */
export class OutboundPath {
  /** For errors about our packets. */
  readonly bySpi: Map<number, EspOutbound[]> = new Map();
  readonly #slab: FrameSlab;
  readonly #engine: CryptoEngine;
  readonly #linkType: LinkType;
  readonly #offloads: OffloadTable | null;
  readonly #link: Uint8Array | null;
  readonly #pathMtu: PathMtu | null;
  readonly #frameHash: FrameHash | null;
  readonly #counters: SaCounters;
  readonly #groups: SaGroups;
  readonly #sas: (EspOutbound | null)[];
  /** SAs of the way in, which no policy should name. */
  readonly #inbound: readonly (object | null)[];
  /** Of the packets of the burst at hand. */
  readonly #extent: Extent = { longest: 0, ahead: 0, behind: 0, aligned: false };
  #policies: Spd = new Spd([]);

  constructor(
    options: EspPathOptions,
    counters: SaCounters,
    groups: SaGroups,
    sas: (EspOutbound | null)[],
    inbound: readonly (object | null)[],
  ) {
    this.#slab = options.slab;
    this.#engine = options.engine;
    this.#linkType = options.linkType;
    this.#offloads = options.offloads;
    this.#link = options.link ?? null;
    this.#pathMtu = options.pathMtu ?? null;
    this.#frameHash = options.frameHash ?? null;
    this.#counters = counters;
    this.#groups = groups;
    this.#sas = sas;
    this.#inbound = inbound;
  }

  /** Adds the SA in a free slot. Throws XfrmError UNSUPPORTED or RangeError, and changes nothing then. */
  add(ticket: OutboundTicket, key: number): void {
    const sa = new EspOutbound(this.#fitted(ticket), key, this.#pathMtu, this.#frameHash, this.#linkType === 'esp-udp');
    this.#sas[ticket.slot] = sa;
    this.bySpi.set(ticket.spi, [...(this.bySpi.get(ticket.spi) ?? []), sa]);
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

  remove(sa: EspOutbound): void {
    const left = this.bySpi.get(sa.ticket.spi)!.filter((s) => s !== sa);
    if (left.length > 0) this.bySpi.set(sa.ticket.spi, left);
    else this.bySpi.delete(sa.ticket.spi);
    this.#sas[sa.ticket.slot] = null;
  }

  setPolicies(policies: readonly PolicyTicket[]): void {
    this.#policies = new Spd(policies);
  }

  switchOutbound(from: number, to: number): number {
    if (!this.#sas[to]) throw new XfrmError({ code: 'NOT_FOUND', what: `no outbound SA in slot ${to}` });
    return this.#policies.redirect(from, to);
  }

  /** The SA in a slot. Throws XfrmError NOT_FOUND. */
  demand(slot: number): EspOutbound {
    const sa = this.#sas[slot];
    if (!sa) throw new XfrmError({ code: 'NOT_FOUND', what: `no outbound SA in slot ${slot}` });
    return sa;
  }

  outbound(burst: Burst): void {
    const { rows, slab } = burst;
    this.#classifyAll(burst);
    const groups = this.#groups;
    const { order, ends, slots } = groups;
    let software = false;
    let udp6 = false;
    for (let g = 0, from = 0; g < groups.count; g++) {
      const to = ends[g]!;
      const slot = slots[g]!;
      const sa = this.#sas[slot]!;
      const all = this.#sealsAll(sa);
      sa.encap(burst, order, from, to, all ? sa.key : 0, this.#extent);
      const { encapped } = sa;
      if (this.#linkType === 'esp-udp') this.#strip(rows, from, from + encapped);
      const here = all ? encapped : this.#sealSome(sa, rows, from, from + encapped);
      this.#counters.software(slot, here);
      this.#counters.count(slot, encapped, sa.bytes);
      if (encapped < to - from) this.#counters.drops(sa.ticket, slab, order, from, to);
      software ||= here > 0;
      udp6 ||= sa.udp6;
      from = to;
    }
    if (!software) return;
    this.#engine.seal(burst);
    if (udp6) this.#finish(burst);
  }

  seal(burst: Burst): void {
    const { rows, list } = burst;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.STATE] !== RowState.TO_SEAL || rows[r + Row.FATE] !== 0) continue;
      const slot = rows[r + Row.SA]!;
      rows[r + Row.KEY] = this.#sas[slot]!.key;
      this.#counters.software(slot, 1);
    }
    this.#engine.seal(burst);
    this.#finish(burst);
  }

  dummy(slot: number, burst: Burst, frame: number, length: number): void {
    const sa = this.demand(slot);
    burst.list[burst.length++] = frame;
    sa.dummy(burst, frame, length);
    const fate = burst.rows[frame * Row.WORDS + Row.FATE]!;
    if (fate !== 0) {
      this.#counters.countDrop(slot, fate);
      return;
    }
    this.#groups.order[0] = frame;
    if (this.#linkType === 'esp-udp') this.#strip(burst.rows, 0, 1);
    const { rows } = burst;
    if (this.#sealsAll(sa)) rows[frame * Row.WORDS + Row.KEY] = sa.key;
    else if (this.#sealSome(sa, rows, 0, 1) === 0) return;
    this.#counters.software(slot, 1);
    this.#engine.seal(burst);
    this.#finish(burst);
  }

  keepalive(slot: number, burst: Burst, frame: number): void {
    const sa = this.demand(slot);
    if (sa.ticket.encap === null)
      throw new XfrmError({
        code: 'UNSUPPORTED',
        device: 'espalier',
        what: 'a keepalive for an SA without UDP encapsulation',
      });
    burst.list[burst.length++] = frame;
    sa.keepalive(burst, frame);
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

  /** Classifies a burst, groups it by SA, and takes its extent. */
  #classifyAll(burst: Burst): void {
    // Literals where V8 sees them, each held to the table by its type; a row's words are `r | WORD`, with no overflow.
    const START: typeof Row.START = 0;
    const END: typeof Row.END = 1;
    const SA: typeof Row.SA = 4;
    const FATE: typeof Row.FATE = 9;
    const { rows, list, slab } = burst;
    const { view } = slab;
    const frameSize = slab.frameSize | 0;
    const length = burst.length | 0;
    const groups = this.#groups;
    const { order } = groups;
    // Most packets are answered by the policy that answered the one before: two compares, in locals.
    const known = this.#known();
    let source = known[0]!;
    let destination = known[1]!;
    let sourceMask = known[2]!;
    let destinationMask = known[3]!;
    let answer = known[4]!;
    let version = known[5]!;
    let last = -1;
    let mixed = false;
    let placed = 0;
    let longest = 0;
    let ahead = frameSize;
    let behind = frameSize;
    let starts = 0;
    for (let i = 0; i < length; i = (i + 1) | 0) {
      const row = list[i]!;
      const r = row << 4;
      if (rows[r | FATE] !== 0) {
        rows[r | SA] = -1;
        continue;
      }
      const start = rows[r | START]!;
      const end = rows[r | END]!;
      const size = (end - start) | 0;
      // The ordinary packet, without options; `checkIpv4` says the same of it.
      const first = size >= 20 ? view.getInt32(start) : 0;
      const total = first & 0xffff;
      const ordinary = first >>> 24 === 0x45 && total >= 20 && total <= size;
      let slot = answer;
      if (
        !ordinary ||
        (view.getInt32((start + 12) | 0) & sourceMask) !== source ||
        (view.getInt32((start + 16) | 0) & destinationMask) !== destination
      ) {
        slot = this.#classify(slab, r, ordinary) | 0;
        if (known[5] !== version) {
          this.#known();
          source = known[0]!;
          destination = known[1]!;
          sourceMask = known[2]!;
          destinationMask = known[3]!;
          answer = known[4]!;
          version = known[5]!;
        }
      }
      rows[r | SA] = slot;
      if (slot < 0) continue;
      if (slot !== last) {
        mixed ||= last >= 0;
        last = slot;
      }
      order[placed] = row;
      placed = (placed + 1) | 0;
      const before = (start - Math.imul(row, frameSize)) | 0;
      if (size > longest) longest = size;
      if (before < ahead) ahead = before;
      const after = (frameSize - before - size) | 0;
      if (after < behind) behind = after;
      starts |= start;
    }
    groups.last = last;
    groups.mixed = mixed;
    groups.placed = placed;
    groups.end(burst);
    const extent = this.#extent;
    extent.longest = longest;
    extent.ahead = ahead;
    extent.behind = behind;
    extent.aligned = (starts & 3) === 0;
  }

  /** What is known of the policy that answered last, `Spd.recent`; its SA is there. */
  #known(): Int32Array {
    const { recent } = this.#policies;
    if (recent[4]! >= 0 && !this.#sas[recent[4]!]) this.#policies.forget();
    return recent;
  }

  /** Inner checks and policy for one outbound row; returns the SA of a protected one, else -1. */
  #classify(slab: FrameSlab, r: number, ordinary: boolean): number {
    const { rows, view } = slab;
    const start = rows[r + Row.START]!;
    const end = rows[r + Row.END]!;
    let version = 4;
    if (!ordinary) {
      version = end > start ? view.getUint8(start) >> 4 : 0;
      const check = version === 6 ? checkIpv6(view, start, end) : checkIpv4(view, start, end, false);
      if (check !== 0) {
        rows[r + Row.FATE] = DropReason.BAD_INNER;
        return -1;
      }
    }
    const verdict = this.#policies.lookupNext(view, start);
    if (verdict >= 0) {
      if (this.#sas[verdict]) return verdict;
      rows[r + Row.FATE] = this.#inbound[verdict] ? DropReason.BAD_STATE : DropReason.NO_STATE;
    } else if (verdict === PolicyAction.BYPASS) this.#bypass(slab, r, version);
    else rows[r + Row.FATE] = DropReason.POLICY;
    return -1;
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

  /** Whether all of an SA's rows are sealed here: not offloaded, or offloaded to nothing right now and allowed to. */
  #sealsAll(sa: EspOutbound): boolean {
    const { offload, noHandle, slot } = sa.ticket;
    if (!offload) return true;
    const device = this.#offloads === null ? OffloadDevice.UPPER : this.#offloads.device(slot);
    return device === OffloadDevice.SOFTWARE || (device === OffloadDevice.NONE && noHandle === 'software');
  }

  /** Sets KEY on the rows of an offloaded SA that are sealed here: vetoed by a lower (`offloadOk`). Returns how many. */
  #sealSome(sa: EspOutbound, rows: Int32Array, from: number, to: number): number {
    const { order } = this.#groups;
    const offloads = this.#offloads;
    if (offloads === null) return 0;
    let here = 0;
    for (let i = from; i < to; i++) {
      const r = order[i]! * Row.WORDS;
      if (this.#fits(offloads, sa, r)) continue;
      rows[r + Row.KEY] = sa.key;
      here++;
    }
    return here;
  }

  /** Whether the lowers take the row as it is; a tunnel's outer header has no options. */
  #fits(offloads: OffloadTable, sa: EspOutbound, r: number): boolean {
    const { rows, view } = this.#slab;
    const flags = sa.ticket.mode === 'tunnel' ? 0 : headerFlags(view, rows[r + Row.L3]!);
    return offloads.fits(sa.ticket.slot, rows[r + Row.END]! - rows[r + Row.L3]!, flags);
  }

  /** UDP checksums of sealed rows over IPv6. */
  #finish(burst: Burst): void {
    const { rows, list } = burst;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      const slot = rows[r + Row.SA]!;
      if (slot >= 0 && rows[r + Row.STATE] === RowState.SEALED && this.#sas[slot]!.udp6) finishUdp6(this.#slab, r);
    }
  }
}

/** L3Flag set of the packet at `l3`, whose upper layer is ESP or UDP. */
function headerFlags(view: DataView, l3: number): number {
  if (view.getUint8(l3) >> 4 === 4) return readIhl(view, l3) > IPV4_HEADER_LENGTH ? L3Flag.IP_OPTIONS : 0;
  const next = view.getUint8(l3 + Ipv6.NEXT_HEADER);
  return next === IpProtocol.ESP || next === IpProtocol.UDP ? 0 : L3Flag.EXTENSION_HEADERS;
}
