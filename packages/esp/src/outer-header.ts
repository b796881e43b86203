import {
  ESP_HEADER_LENGTH,
  ETHERNET_HEADER_LENGTH,
  EtherType,
  type FrameSlab,
  IPV4_DF,
  IPV4_HEADER_LENGTH,
  IPV6_HEADER_LENGTH,
  IpProtocol,
  Ipv4,
  UDP_HEADER_LENGTH,
  writeEthernet,
  writeEtherType,
  writeIpv4,
  writeIpv6,
  writeUdp,
} from '@espalier/wire';
import type { OutboundTicket } from './tickets.ts';

/** How the flow label comes out of the inner header. */
const Label = { FIXED: 0, COPY: 1, FLOW: 2 } as const;

/**
 * What stands in front of the IV of every packet of a tunnel SA, written in whole words from a template:
 *
 *     Ethernet 14 or nothing | IPv4 20 or IPv6 40 | UDP 8 or nothing | SPI, number
 *
 * The identification is the number's low half: unlike for all workers of an SA, and RFC 6864 asks no more of packets that
 * may be fragmented within their lifetime. The UDP checksum is 0 (RFC 3948 2.1); IPv6 wants one, see `finishUdp6`.
 */
export class OuterHeader {
  /** Bytes up to the IV. */
  readonly length: number;
  /** Offsets from its first byte. */
  readonly l3: number;
  readonly udp: number;
  readonly esp: number;
  readonly v6: boolean;
  /** Ethernet in the first four, 0 where there is none; then all from the IP header on. */
  readonly words: Int32Array;
  /** The same in this machine's byte order, with two bytes of nothing in front, so that the IP header is aligned. */
  readonly native: Int32Array;
  /** Outer traffic class by inner traffic class: DSCP and ECN in one load. */
  readonly traffic: Uint8Array;
  readonly copyDf: boolean;
  readonly copyTtl: boolean;
  /** Sum of the IPv4 header words that never change. */
  readonly sum: number;
  /** Of `native`: protocol and addresses. */
  readonly nativeSum: number;
  readonly #label: number;

  constructor(ticket: OutboundTicket) {
    const { source, destination, encap, link, ttl = 64, df = 'copy', flowLabel = 0 } = ticket;
    this.v6 = source.length === 16;
    this.l3 = link === null ? 0 : ETHERNET_HEADER_LENGTH;
    this.udp = this.l3 + (this.v6 ? IPV6_HEADER_LENGTH : IPV4_HEADER_LENGTH);
    this.esp = this.udp + (encap === null ? 0 : UDP_HEADER_LENGTH);
    this.length = this.esp + ESP_HEADER_LENGTH;
    this.traffic = trafficTable(ticket);
    this.copyDf = df === 'copy';
    this.copyTtl = ttl === 'copy';
    this.#label = flowLabel === 'copy' ? Label.COPY : flowLabel === 'flow' ? Label.FLOW : Label.FIXED;

    const bytes = new Uint8Array(this.length);
    const view = new DataView(bytes.buffer);
    if (link !== null) {
      writeEthernet(bytes, 0, link.subarray(0, 6), link.subarray(6, 12), 0);
      writeEtherType(view, 0, this.v6 ? EtherType.IPV6 : EtherType.IPV4);
    }
    const protocol = encap === null ? IpProtocol.ESP : IpProtocol.UDP;
    const hops = ttl === 'copy' ? 0 : ttl;
    if (this.v6)
      writeIpv6(view, this.l3, {
        trafficClass: 0,
        flowLabel: typeof flowLabel === 'number' ? flowLabel : 0,
        payloadLength: 0,
        nextHeader: protocol,
        hopLimit: hops,
        source,
        destination,
      });
    else
      writeIpv4(view, this.l3, {
        tos: 0,
        totalLength: 0,
        id: 0,
        fragment: df === 'set' ? IPV4_DF : 0,
        ttl: hops,
        protocol,
        source,
        destination,
      });
    if (encap !== null) writeUdp(view, this.udp, encap.sport, encap.dport, 0);
    view.setUint32(this.esp, ticket.spi);
    this.sum = this.v6 ? 0 : ~view.getUint16(this.l3 + Ipv4.CHECKSUM) & 0xffff;

    this.native = new Int32Array((this.length - this.l3) / 4 + 4);
    new Uint8Array(this.native.buffer).set(bytes, 16 - this.l3);
    const fields = new Uint16Array(this.native.buffer, 16);
    this.nativeSum = this.v6 ? 0 : fields[6]! + fields[7]! + fields[8]! + fields[9]!;

    // Words from the IP header on; the Ethernet header in front of them, where there is one.
    this.words = new Int32Array((this.length - this.l3) / 4 + 4);
    for (let i = 0; this.l3 + 4 * i < this.length; i++) this.words[i + 4] = view.getInt32(this.l3 + 4 * i);
    if (link === null) return;
    for (let i = 0; i < 3; i++) this.words[i] = view.getInt32(4 * i);
    this.words[3] = view.getUint16(12);
  }

  /**
   * Writes the header at `at` for a frame that ends at `end` and carries the packet whose IP header is at `inner`, -1 for
   * a frame that carries none (a dummy, a keepalive). `flow` is the inner flow's hash.
   */
  write(slab: FrameSlab, at: number, end: number, inner: number, flow: number, number: number): void {
    const { view } = slab;
    const l3 = at + this.l3;
    if (this.v6) this.#write6(view, l3, end, inner, flow);
    else this.#write4(view, l3, end, inner, number);
    this.writeAround(slab, l3, at + this.udp, at + this.esp, end, number);
  }

  /** Everything but the IP header, which is at `l3`: Ethernet in front of it, UDP at `udp`, SPI and number at `esp`. */
  writeAround(slab: FrameSlab, l3: number, udp: number, esp: number, end: number, number: number): void {
    const { view } = slab;
    const t = this.words;
    if (this.l3 !== 0) {
      view.setInt32(l3 - 14, t[0]!);
      view.setInt32(l3 - 10, t[1]!);
      view.setInt32(l3 - 6, t[2]!);
      view.setUint16(l3 - 2, t[3]!);
    }
    let w = this.v6 ? 14 : 9;
    if (esp !== udp) {
      view.setInt32(udp, t[w]!);
      view.setInt32(udp + 4, (end - udp) << 16);
      w += 2;
    }
    view.setInt32(esp, t[w]!);
    view.setUint32(esp + 4, number);
  }

  #write4(view: DataView, l3: number, end: number, inner: number, number: number): void {
    const t = this.words;
    const first = view.getInt32(inner < 0 ? l3 : inner);
    let traffic = 0;
    let fragment = t[5]! & 0xffff;
    let ttl = t[6]!;
    let sum = this.sum;
    if (inner >= 0) {
      const six = first >>> 28 === 6;
      traffic = this.traffic[(six ? first >> 20 : first >> 16) & 0xff]!;
      if (this.copyDf) {
        fragment = six ? IPV4_DF : view.getUint16(inner + Ipv4.FRAGMENT) & IPV4_DF;
        sum += fragment;
      }
      if (this.copyTtl) {
        const hops = view.getUint8(inner + (six ? 7 : Ipv4.TTL)) << 8;
        ttl |= hops << 16;
        sum += hops;
      }
    }
    const length = end - l3;
    const id = number & 0xffff;
    sum += traffic + length + id;
    sum = (sum & 0xffff) + (sum >>> 16);
    sum += sum >>> 16;
    view.setInt32(l3, t[4]! | (traffic << 16) | length);
    view.setInt32(l3 + 4, (id << 16) | fragment);
    view.setInt32(l3 + 8, (ttl & 0xffff_0000) | (~sum & 0xffff));
    view.setInt32(l3 + 12, t[7]!);
    view.setInt32(l3 + 16, t[8]!);
  }

  #write6(view: DataView, l3: number, end: number, inner: number, flow: number): void {
    const t = this.words;
    let first = t[4]!;
    let last = t[5]!;
    if (inner >= 0) {
      const word = view.getInt32(inner);
      const six = word >>> 28 === 6;
      first |= this.traffic[(six ? word >> 20 : word >> 16) & 0xff]! << 20;
      if (this.#label === Label.COPY) first |= six ? word & 0xf_ffff : 0;
      // Never 0, which would say that there is no label.
      else if (this.#label === Label.FLOW) first |= flow >>> 12 || 1;
      if (this.copyTtl) last |= view.getUint8(inner + (six ? 7 : Ipv4.TTL));
    }
    view.setInt32(l3, first);
    view.setInt32(l3 + 4, last | ((end - l3 - IPV6_HEADER_LENGTH) << 16));
    for (let i = 0; i < 8; i++) view.setInt32(l3 + 8 + 4 * i, t[6 + i]!);
  }
}

/** Outer traffic class for each inner one. */
function trafficTable(ticket: OutboundTicket): Uint8Array {
  const { dscp = 'copy', ecn = 'normal' } = ticket;
  const table = new Uint8Array(256);
  for (let inner = 0; inner < 256; inner++) {
    const outer = dscp === 'copy' ? inner >> 2 : typeof dscp === 'number' ? dscp : dscp[inner >> 2]!;
    table[inner] = (outer << 2) | (ecn === 'normal' ? inner & 3 : 0);
  }
  return table;
}
