import { SequenceAllocator } from '@espalier/replay';
import {
  type Burst,
  ESP_HEADER_LENGTH,
  ESP_TRAILER_LENGTH,
  ETHERNET_HEADER_LENGTH,
  EtherType,
  flowHash,
  IPV4_DF,
  IPV4_HEADER_LENGTH,
  IPV6_HEADER_LENGTH,
  IpProtocol,
  Ipv4,
  Ipv6,
  padLength,
  Row,
  RowState,
  readTrafficClass,
  UDP_HEADER_LENGTH,
  Udp,
  writeEthernet,
  writeEtherType,
  writeIpv4,
  writeIpv4Checksum,
  writeIpv6,
  writeTrafficClass,
  writeTrailer,
  writeUdp,
} from '@espalier/wire';
import { ALGORITHMS, DropReason, XfrmError } from '@espalier/xfrm';
import type { OutboundTicket } from './tickets.ts';

/**
 * One outbound SA on one worker (RFC 4303 3.3): numbers, outer headers, padding; sealing is left to the lower's handle or
 * to the path's engine.
 *
 *     link | outer IP | UDP | SPI, number | IV | inner packet | padding, trailer | ICV
 *     '---------- template ---------------'                    '---- written here ----'
 *
 * Nonce safety: the IV is the number, on every engine and lower alike, and all workers and replicas take numbers from one
 * allocator, each once. Hence no nonce is ever used twice under the SA's key, however many lowers hold a replica.
 */
export class EspOutbound {
  readonly ticket: OutboundTicket;
  /** The path engine's key for this SA; 0 when it is always sealed by lowers. */
  readonly key: number;
  readonly #allocator: SequenceAllocator;
  readonly #template: Uint8Array;
  /** Offsets inside the template. */
  readonly #l3: number;
  readonly #udp: number;
  readonly #esp: number;
  readonly #v6: boolean;
  readonly #ivLength: number;
  readonly #icvLength: number;
  readonly #blockLength: number;
  readonly #df: 'copy' | 'set' | 'clear';
  #id = 0;

  constructor(ticket: OutboundTicket, key: number) {
    if (ticket.mode !== 'tunnel')
      throw new XfrmError({ code: 'UNSUPPORTED', device: 'espalier', what: `${ticket.mode} mode` });
    this.ticket = ticket;
    this.key = key;
    this.#allocator = SequenceAllocator.attach(ticket.allocator.memory, ticket.allocator.offset);
    const { ivLength, blockLength } = ALGORITHMS[ticket.algorithm];
    this.#ivLength = ivLength;
    this.#icvLength = ticket.icvLength;
    this.#blockLength = blockLength;
    this.#df = ticket.df ?? 'copy';
    this.#v6 = ticket.source.length === 16;
    this.#l3 = ticket.link === null ? 0 : ETHERNET_HEADER_LENGTH;
    this.#udp = this.#l3 + (this.#v6 ? IPV6_HEADER_LENGTH : IPV4_HEADER_LENGTH);
    this.#esp = this.#udp + (ticket.encap === null ? 0 : UDP_HEADER_LENGTH);
    this.#template = makeTemplate(ticket, this.#l3, this.#udp, this.#esp);
  }

  /**
   * Turns rows `list[from .. to)`, checked inner packets of this SA, into TO_SEAL rows, or gives them a FATE (TOO_BIG,
   * NO_ROOM, EXHAUSTED). `list` is the caller's scratch: rows that do not fit are moved behind the others.
   */
  encap(burst: Burst, list: Int32Array, from: number, to: number): void {
    const { rows } = burst;
    let fit = from;
    for (let i = from; i < to; i++) {
      const row = list[i]!;
      const r = row * Row.WORDS;
      const fate = this.#fits(burst, row);
      if (fate !== 0) {
        rows[r + Row.FATE] = fate;
        continue;
      }
      list[i] = list[fit]!;
      list[fit++] = row;
    }
    let number = this.#allocator.reserve(fit - from);
    const granted = from + this.#allocator.granted;
    for (let i = from; i < granted; i++) this.#write(burst, list[i]! * Row.WORDS, number++);
    for (let i = granted; i < fit; i++) rows[list[i]! * Row.WORDS + Row.FATE] = DropReason.EXHAUSTED;
  }

  #fits(burst: Burst, row: number): number {
    const { rows, slab } = burst;
    const start = rows[row * Row.WORDS + Row.START]!;
    const end = rows[row * Row.WORDS + Row.END]!;
    const inner = end - start;
    const tail = padLength(inner, this.#blockLength) + ESP_TRAILER_LENGTH + this.#icvLength;
    const outer = this.#template.length - this.#l3 + this.#ivLength + inner + tail;
    if (outer > this.ticket.mtu) return DropReason.TOO_BIG;
    const first = row * slab.frameSize;
    const fits = start - this.#template.length - this.#ivLength >= first && end + tail <= first + slab.frameSize;
    return fits ? 0 : DropReason.NO_ROOM;
  }

  #write(burst: Burst, r: number, number: number): void {
    const { rows, slab } = burst;
    const { bytes, view } = slab;
    const inner = rows[r + Row.START]!;
    const at = inner - this.#ivLength - this.#template.length;
    const v6Inner = bytes[inner]! >> 4 === 6;
    const traffic = v6Inner ? readTrafficClass(view, inner) : bytes[inner + Ipv4.TOS]!;
    const df = !v6Inner && this.#df === 'copy' ? view.getUint16(inner + Ipv4.FRAGMENT) & IPV4_DF : 0;
    rows[r + Row.FLOW] = flowHash(view, inner, rows[r + Row.END]!);

    const innerEnd = rows[r + Row.END]!;
    const pad = padLength(innerEnd - inner, this.#blockLength);
    const end = writeTrailer(bytes, innerEnd, pad, v6Inner ? IpProtocol.IPV6 : IpProtocol.IPV4) + this.#icvLength;

    bytes.set(this.#template, at);
    const l3 = at + this.#l3;
    if (this.#v6) {
      writeTrafficClass(view, l3, traffic);
      view.setUint16(l3 + Ipv6.PAYLOAD_LENGTH, end - l3 - IPV6_HEADER_LENGTH);
    } else {
      bytes[l3 + Ipv4.TOS] = traffic;
      view.setUint16(l3 + Ipv4.TOTAL_LENGTH, end - l3);
      this.#id = (this.#id + 1) & 0xffff;
      view.setUint16(l3 + Ipv4.ID, this.#id);
      if (this.#df === 'copy') view.setUint16(l3 + Ipv4.FRAGMENT, df);
      writeIpv4Checksum(view, l3);
    }
    if (this.#esp !== this.#udp) view.setUint16(at + this.#udp + Udp.LENGTH, end - at - this.#udp);
    const esp = at + this.#esp;
    view.setUint32(esp + 4, number);

    rows[r + Row.START] = at;
    rows[r + Row.END] = end;
    rows[r + Row.L3] = l3;
    rows[r + Row.ESP] = esp;
    rows[r + Row.SEQ_LO] = number | 0;
    rows[r + Row.SEQ_HI] = Math.floor(number / 0x1_0000_0000);
    rows[r + Row.KEY] = 0;
    rows[r + Row.STATE] = RowState.TO_SEAL;
  }
}

function makeTemplate(ticket: OutboundTicket, l3: number, udp: number, esp: number): Uint8Array {
  const { source, destination, encap, ttl = 64, link } = ticket;
  const bytes = new Uint8Array(esp + ESP_HEADER_LENGTH);
  const view = new DataView(bytes.buffer);
  const v6 = source.length === 16;
  const protocol = encap === null ? IpProtocol.ESP : IpProtocol.UDP;
  if (link !== null) {
    writeEthernet(bytes, 0, link.subarray(0, 6), link.subarray(6, 12), 0);
    writeEtherType(view, 0, v6 ? EtherType.IPV6 : EtherType.IPV4);
  }
  if (v6)
    writeIpv6(view, l3, {
      trafficClass: 0,
      flowLabel: 0,
      payloadLength: 0,
      nextHeader: protocol,
      hopLimit: ttl,
      source,
      destination,
    });
  else
    writeIpv4(view, l3, {
      tos: 0,
      totalLength: 0,
      id: 0,
      fragment: ticket.df === 'set' ? IPV4_DF : 0,
      ttl,
      protocol,
      source,
      destination,
    });
  if (encap !== null) writeUdp(view, udp, encap.sport, encap.dport, 0);
  view.setUint32(esp, ticket.spi);
  return bytes;
}
