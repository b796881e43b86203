import { Lifetime, SequenceAllocator } from '@espalier/replay';
import {
  type Burst,
  ESP_HEADER_LENGTH,
  ESP_TRAILER_LENGTH,
  flowHash,
  IpProtocol,
  padLength,
  Row,
  RowState,
  UDP_HEADER_LENGTH,
  writeTrailer,
} from '@espalier/wire';
import { ALGORITHMS, DropReason } from '@espalier/xfrm';
import { checkOutbound } from './check-ticket.ts';
import { clampMss } from './mss.ts';
import { OuterHeader } from './outer-header.ts';
import type { PathMtu } from './path-mtu.ts';
import { type FrameHash, portOfFlow, SpreadHash, strayFlow } from './spread.ts';
import type { OutboundTicket } from './tickets.ts';
import { moveHeader, NO_SPLIT, transportSplit } from './transport.ts';
import { decrementTtl } from './ttl.ts';
import { type TunnelShape, writeTunnelBurst } from './tunnel-burst.ts';
import { LITTLE_ENDIAN, writeTunnelWords } from './tunnel-words.ts';
import { finishUdp6 } from './udp-checksum.ts';

/** Bytes of an IP and a TCP header without options, by family. */
const TCP_OVERHEAD_4 = 40;
const TCP_OVERHEAD_6 = 60;

/** Of some packets the longest, and the least room that one of them has in its frame before and behind it, bytes. */
export interface Extent {
  longest: number;
  ahead: number;
  behind: number;
  /** Every START is a multiple of 4. */
  aligned: boolean;
}

/**
 * One outbound SA on one worker (RFC 4303 3.3): numbers, outer headers, padding; sealing is left to the lower's handle or
 * to the path's engine.
 *
 *     tunnel     link | outer IP | UDP | SPI, number | IV | inner packet | TFC | padding, trailer | ICV
 *     transport  link | IP header | UDP | SPI, number | IV | its payload | padding, trailer | ICV
 *
 * Nonce safety: the IV is the number, on every engine and lower alike, and all workers and replicas take numbers from one
 * allocator, each once. Hence no nonce is ever used twice under the SA's key, however many lowers hold a replica.
 */
export class EspOutbound {
  readonly ticket: OutboundTicket;
  /** The path engine's key for this SA; 0 when it is always sealed by lowers. */
  readonly key: number;
  /** Engine-sealed packets need a UDP checksum once sealed. */
  readonly udp6: boolean;
  /** Rows that the last `encap` turned into TO_SEAL, and the bytes of their inner packets. */
  encapped = 0;
  bytes = 0;
  readonly #allocator: SequenceAllocator;
  readonly #lifetime: Lifetime | null;
  readonly #header: OuterHeader;
  readonly #spread: SpreadHash;
  readonly #portEntropy: boolean;
  readonly #tunnel: boolean;
  readonly #ivLength: number;
  readonly #icvLength: number;
  readonly #blockLength: number;
  readonly #pathMtu: PathMtu | null;
  /** Bytes that transport mode puts between header and payload. */
  readonly #between: number;
  /** 0 = none, -1 = to the MTU. */
  readonly #tfc: number;
  readonly #mss: number;
  /** Nothing but size and room can refuse a packet. */
  readonly #plain: boolean;
  /** Where a burst can be written at once, else null. */
  readonly #shape: TunnelShape | null;
  /** And in words, where they are aligned. */
  readonly #inWords: boolean;
  readonly #one: Int32Array = new Int32Array(1);
  #mtu: number;
  #innerMtu = 0;

  /** Throws XfrmError UNSUPPORTED or RangeError on a ticket that makes no sense. */
  constructor(
    ticket: OutboundTicket,
    key: number,
    pathMtu: PathMtu | null = null,
    frameHash: FrameHash | null = null,
    flows = false,
  ) {
    checkOutbound(ticket);
    this.ticket = ticket;
    this.key = key;
    this.#allocator = SequenceAllocator.attach(ticket.allocator.memory, ticket.allocator.offset);
    const { lifetime } = ticket;
    this.#lifetime = lifetime ? Lifetime.attach(lifetime.memory, lifetime.offset) : null;
    const { ivLength, blockLength } = ALGORITHMS[ticket.algorithm];
    this.#ivLength = ivLength;
    this.#icvLength = ticket.icvLength;
    this.#blockLength = blockLength;
    this.#tunnel = ticket.mode === 'tunnel';
    this.#header = new OuterHeader(ticket);
    this.#spread = new SpreadHash(ticket, this.#header, frameHash);
    this.#portEntropy = ticket.portEntropy ?? false;
    this.udp6 = this.#header.v6 && ticket.encap !== null;
    this.#between = (ticket.encap === null ? 0 : UDP_HEADER_LENGTH) + ESP_HEADER_LENGTH + ivLength;
    this.#tfc = ticket.tfc === undefined ? 0 : ticket.tfc === 'mtu' ? -1 : ticket.tfc;
    this.#mss = ticket.mss === undefined ? 0 : ticket.mss === 'mtu' ? -1 : ticket.mss;
    this.#plain = this.#tunnel && this.#mss === 0 && this.#tfc === 0 && !(ticket.decrementTtl ?? false);
    const hash = this.#spread.constant;
    this.#shape =
      this.#plain && !this.#header.v6 && hash !== null && !this.#portEntropy && !flows
        ? { header: this.#header, ivLength, icvLength: this.#icvLength, blockLength, hash }
        : null;
    this.#inWords = LITTLE_ENDIAN && blockLength === 4;
    this.#pathMtu = pathMtu;
    this.#mtu = ticket.mtu;
    this.#size(ticket.mtu);
  }

  /** Largest packet that fits the MTU once encapsulated, bytes; in transport mode one without IP options. */
  get innerMtu(): number {
    this.#refresh();
    return this.#innerMtu;
  }

  /**
   * Turns rows `list[from .. to)`, checked inner packets of this SA, into TO_SEAL rows, or gives them a FATE (TOO_BIG,
   * NO_ROOM, FRAGMENT, BAD_STATE, TTL, LIFETIME, EXHAUSTED). `list` is the caller's scratch: rows that do not fit are moved behind the others.
   * KEY becomes `key`. With the `extent` of these and maybe other packets, those of an ordinary SA are not looked at one by one.
   */
  encap(burst: Burst, list: Int32Array, from: number, to: number, key: number, extent: Extent | null = null): void {
    const { rows } = burst;
    this.#refresh();
    const fit = extent !== null && this.#takesAll(extent) ? to : this.#fit(burst, list, from, to);
    // Lifetimes before numbers: what is not granted needs none.
    const alive = this.#lifetime === null ? fit : from + this.#lifetime.grant(rows, list, from, fit);
    for (let i = alive; i < fit; i++) rows[list[i]! * Row.WORDS + Row.FATE] = DropReason.LIFETIME;
    const number = this.#allocator.reserve(alive - from);
    const granted = from + this.#allocator.granted;
    this.encapped = granted - from;
    const shape = this.#shape;
    const high = Math.floor(number / 0x1_0000_0000);
    if (shape === null) this.#writeEach(burst, list, from, granted, number, key);
    else if (this.#inWords && extent?.aligned)
      this.bytes = writeTunnelWords(burst, list, from, granted, number, high, key, shape);
    else this.bytes = writeTunnelBurst(burst, list, from, granted, number, high, key, shape);
    for (let i = granted; i < alive; i++) rows[list[i]! * Row.WORDS + Row.FATE] = DropReason.EXHAUSTED;
  }

  /** Whether no packet of this extent can be refused. */
  #takesAll({ longest, ahead, behind }: Extent): boolean {
    return (
      this.#plain &&
      longest <= this.#innerMtu &&
      ahead >= this.#header.length + this.#ivLength &&
      behind >= this.#blockLength - 1 + ESP_TRAILER_LENGTH + this.#icvLength
    );
  }

  /** Moves the rows that fit to the front of `list[from .. to)`; returns where they end. */
  #fit(burst: Burst, list: Int32Array, from: number, to: number): number {
    let fit = from;
    for (let i = from; i < to; i++) {
      const row = list[i]!;
      const fate = this.#prepare(burst, row);
      if (fate !== 0) {
        burst.rows[row * Row.WORDS + Row.FATE] = fate;
        continue;
      }
      list[i] = list[fit]!;
      list[fit++] = row;
    }
    return fit;
  }

  #writeEach(burst: Burst, list: Int32Array, from: number, to: number, first: number, key: number): void {
    this.bytes = 0;
    let number = first;
    for (let i = from; i < to; i++) {
      const r = list[i]! * Row.WORDS;
      if (this.#tunnel) this.#writeTunnel(burst, r, number++);
      else this.#writeTransport(burst, r, number++);
      burst.rows[r + Row.KEY] = key;
    }
  }

  /**
   * Makes row `row` a dummy packet (RFC 4303 2.6) of `length` payload bytes: next header 59, zeros inside. A number of its
   * own, sealed like any other, so that nobody outside can tell. Sets a FATE (EXHAUSTED, LIFETIME, TOO_BIG, NO_ROOM) when it cannot be.
   */
  dummy(burst: Burst, row: number, length: number): void {
    const { rows, slab } = burst;
    const r = row * Row.WORDS;
    this.#refresh();
    const inner = row * slab.frameSize + Math.max(slab.headroom, this.#header.length + this.#ivLength);
    rows[r + Row.STATE] = RowState.UNSET;
    rows[r + Row.START] = inner;
    rows[r + Row.END] = inner + length;
    rows[r + Row.FATE] = this.#room(burst, row, inner, length, inner - this.#header.length - this.#ivLength);
    if (rows[r + Row.FATE] !== 0) return;
    this.#one[0] = row;
    if (this.#lifetime !== null && this.#lifetime.grant(rows, this.#one, 0, 1) === 0) {
      rows[r + Row.FATE] = DropReason.LIFETIME;
      return;
    }
    const number = this.#allocator.reserve(1);
    if (this.#allocator.granted === 0) {
      rows[r + Row.FATE] = DropReason.EXHAUSTED;
      return;
    }
    slab.bytes.fill(0, inner, inner + length);
    const at = inner - this.#ivLength - this.#header.length;
    const end = this.#writeTail(burst, inner + length, length, IpProtocol.NONE);
    this.#header.write(slab, at, end, -1, 0, number);
    if (this.#portEntropy) slab.view.setUint16(at + this.#header.udp, portOfFlow(strayFlow(number)));
    this.#finish(rows, r, at, end, at + this.#header.l3, at + this.#header.esp, number);
    rows[r + Row.FLOW] = 0;
    rows[r + Row.HASH] = this.#spread.ofDummy();
  }

  /** Makes row `row` a NAT keepalive (RFC 3948 2.3), CLEAR. The SA has UDP encapsulation. */
  keepalive(burst: Burst, row: number): void {
    const { rows, slab } = burst;
    const r = row * Row.WORDS;
    const at = row * slab.frameSize;
    const payload = at + this.#header.udp + UDP_HEADER_LENGTH;
    this.#header.write(slab, at, payload + 1, -1, 0, 0);
    slab.bytes[payload] = 0xff;
    rows[r + Row.START] = at;
    rows[r + Row.END] = payload + 1;
    rows[r + Row.L3] = at + this.#header.l3;
    rows[r + Row.ESP] = payload;
    rows[r + Row.SA] = this.ticket.slot;
    rows[r + Row.FATE] = 0;
    rows[r + Row.STATE] = RowState.CLEAR;
    rows[r + Row.HASH] = -1;
    if (this.udp6) finishUdp6(slab, r);
  }

  /** Whether a number with this low half is among the last 65,536 given out: what an ICMP error about us would quote. */
  sentLately(seqLo: number): boolean {
    const behind = (this.#allocator.next() - 1 - seqLo) % 0x1_0000_0000;
    return (behind < 0 ? behind + 0x1_0000_0000 : behind) < 0x1_0000;
  }

  /** Everything that can refuse a packet, before it gets a number: fragments, TTL, MSS, size, room. */
  #prepare(burst: Burst, row: number): number {
    const { rows, slab } = burst;
    const r = row * Row.WORDS;
    const start = rows[r + Row.START]!;
    const length = rows[r + Row.END]! - start;
    if (this.#mss !== 0) this.#clamp(slab.view, start, start + length);
    if (this.ticket.decrementTtl && !decrementTtl(slab.view, start)) return DropReason.TTL;
    if (this.#tunnel)
      return this.#room(burst, row, start, this.#padded(length), start - this.#header.length - this.#ivLength);
    // The header stays the packet's own, and the peer finds its SA by that.
    if ((slab.view.getUint8(start) >> 4 === 6) !== this.#header.v6) return DropReason.BAD_STATE;
    const split = transportSplit(slab.view, start, start + length);
    if (split === NO_SPLIT) return DropReason.FRAGMENT;
    rows[r + Row.ESP] = split;
    return this.#room(burst, row, split, start + length - split, start - this.#between - this.#header.l3);
  }

  /** Whether `length` bytes from `payload` on, what follows them and a header from `at` on fit the MTU and the frame. */
  #room(burst: Burst, row: number, payload: number, length: number, at: number): number {
    const { frameSize } = burst.slab;
    const end = payload + length + padLength(length, this.#blockLength) + ESP_TRAILER_LENGTH + this.#icvLength;
    if (end - at - this.#header.l3 > this.#mtu) return DropReason.TOO_BIG;
    const first = row * frameSize;
    return at >= first && end <= first + frameSize ? 0 : DropReason.NO_ROOM;
  }

  /** Inner length with TFC padding. */
  #padded(length: number): number {
    if (this.#tfc === 0) return length;
    return Math.max(length, this.#tfc < 0 ? this.#innerMtu : Math.min(this.#tfc, this.#innerMtu));
  }

  #writeTunnel(burst: Burst, r: number, number: number): void {
    const { rows, slab } = burst;
    const inner = rows[r + Row.START]!;
    let innerEnd = rows[r + Row.END]!;
    const at = inner - this.#ivLength - this.#header.length;
    const flow = flowHash(slab.view, inner, innerEnd);
    this.bytes += innerEnd - inner;
    let length = innerEnd - inner;
    if (this.#tfc !== 0) {
      length = this.#padded(length);
      // The frame's last tenant must not travel as padding.
      slab.bytes.fill(0, innerEnd, inner + length);
      innerEnd = inner + length;
    }
    const next = slab.bytes[inner]! >> 4 === 6 ? IpProtocol.IPV6 : IpProtocol.IPV4;
    const end = this.#writeTail(burst, innerEnd, length, next);
    this.#header.write(slab, at, end, inner, flow, number);
    if (this.#portEntropy) slab.view.setUint16(at + this.#header.udp, portOfFlow(flow));
    rows[r + Row.FLOW] = flow;
    rows[r + Row.HASH] = this.#spread.of(flow);
    this.#finish(rows, r, at, end, at + this.#header.l3, at + this.#header.esp, number);
  }

  #writeTransport(burst: Burst, r: number, number: number): void {
    const { rows, slab } = burst;
    const { view } = slab;
    const start = rows[r + Row.START]!;
    const payloadEnd = rows[r + Row.END]!;
    const split = rows[r + Row.ESP]!;
    this.bytes += payloadEnd - start;
    const flow = flowHash(view, start, payloadEnd);
    rows[r + Row.FLOW] = flow;
    rows[r + Row.HASH] = this.#spread.of(flow);
    const to = start - this.#between;
    const length = payloadEnd - split;
    const end = payloadEnd + padLength(length, this.#blockLength) + ESP_TRAILER_LENGTH + this.#icvLength;
    const udp = split - this.#between;
    const esp = split - this.#ivLength - ESP_HEADER_LENGTH;
    const protocol = esp === udp ? IpProtocol.ESP : IpProtocol.UDP;
    const next = moveHeader(slab, start, split, to, protocol, end);
    this.#writeTail(burst, payloadEnd, length, next);
    this.#header.writeAround(slab, to, udp, esp, end, number);
    if (this.#portEntropy) view.setUint16(udp, portOfFlow(flow));
    this.#finish(rows, r, to - this.#header.l3, end, to, esp, number);
  }

  /** Padding, trailer and room for the ICV behind `at`, where `length` bytes of payload end; returns the frame's end. */
  #writeTail(burst: Burst, at: number, length: number, next: number): number {
    return writeTrailer(burst.slab.bytes, at, padLength(length, this.#blockLength), next) + this.#icvLength;
  }

  #finish(rows: Int32Array, r: number, at: number, end: number, l3: number, esp: number, number: number): void {
    rows[r + Row.START] = at;
    rows[r + Row.END] = end;
    rows[r + Row.L3] = l3;
    rows[r + Row.ESP] = esp;
    rows[r + Row.SA] = this.ticket.slot;
    rows[r + Row.SEQ_LO] = number | 0;
    rows[r + Row.SEQ_HI] = Math.floor(number / 0x1_0000_0000);
    rows[r + Row.KEY] = 0;
    rows[r + Row.STATE] = RowState.TO_SEAL;
  }

  #clamp(view: DataView, start: number, end: number): void {
    const overhead = view.getUint8(start) >> 4 === 6 ? TCP_OVERHEAD_6 : TCP_OVERHEAD_4;
    clampMss(view, start, end, this.#mss < 0 ? this.#innerMtu - overhead : this.#mss);
  }

  #refresh(): void {
    if (this.#pathMtu === null) return;
    const learned = this.#pathMtu.of(this.ticket.slot);
    const mtu = learned === 0 ? this.ticket.mtu : Math.min(learned, this.ticket.mtu);
    if (mtu !== this.#mtu) this.#size(mtu);
  }

  #size(mtu: number): void {
    this.#mtu = mtu;
    const header = this.#header;
    // Transport mode encrypts what stands behind the packet's own header, so that header is outside the blocks.
    const outside = this.#tunnel ? 0 : header.udp - header.l3;
    const room = mtu - (header.length - header.l3) - this.#ivLength - this.#icvLength;
    this.#innerMtu = Math.max(0, room - (room % this.#blockLength) - ESP_TRAILER_LENGTH + outside);
  }
}
