import { ReplayWindow } from '@espalier/replay';
import {
  type Burst,
  checkIpv4,
  checkIpv6,
  checkTrailer,
  ESP_HEADER_LENGTH,
  IPV6_HEADER_LENGTH,
  IpCheck,
  IpProtocol,
  Ipv4,
  Ipv6,
  Row,
  readTotalLength,
  readTrafficClass,
  updateChecksum,
  writeTrafficClass,
} from '@espalier/wire';
import { ALGORITHMS, DropReason, NO_POLICY, Spd, XfrmError } from '@espalier/xfrm';
import type { InboundTicket } from './tickets.ts';

const NOT_ECT = 0;
const CE = 3;

/** One inbound SA on one worker (RFC 4303 3.4): its window, and what happens to a packet once its ICV holds. */
export class EspInbound {
  readonly ticket: InboundTicket;
  /** The path engine's key; always there, so that lowers with and without the SA mix freely. */
  readonly key: number;
  readonly window: ReplayWindow;
  /** Bytes from the ESP header on below which there cannot be header, IV and ICV. */
  readonly leastLength: number;
  readonly #ivLength: number;
  readonly #icvLength: number;
  /** Selectors as a policy database of their own: any match passes. */
  readonly #selectors: Spd | null;

  constructor(ticket: InboundTicket, key: number) {
    if (ticket.mode !== 'tunnel')
      throw new XfrmError({ code: 'UNSUPPORTED', device: 'espalier', what: `${ticket.mode} mode` });
    this.ticket = ticket;
    this.key = key;
    this.window = ReplayWindow.attach(ticket.window.memory, ticket.window.offset);
    this.#ivLength = ALGORITHMS[ticket.algorithm].ivLength;
    this.#icvLength = ticket.icvLength;
    this.leastLength = ESP_HEADER_LENGTH + this.#ivLength + this.#icvLength;
    this.#selectors = ticket.selectors?.length
      ? new Spd(ticket.selectors.map((s) => ({ ...s, protocol: null, action: 'bypass', slot: -1 })))
      : null;
  }

  /**
   * After ICV and window, in this order: padding, next header, inner header and TFC trim, ECN, selectors. Leaves the
   * inner packet in `[START, END)` or sets a FATE. The number has been used up in either case.
   */
  unwrap(burst: Burst, r: number): void {
    const { rows, slab } = burst;
    const { bytes, view } = slab;
    const inner = rows[r + Row.ESP]! + ESP_HEADER_LENGTH + this.#ivLength;
    const trailerEnd = rows[r + Row.END]! - this.#icvLength;
    const end = checkTrailer(bytes, inner, trailerEnd);
    if (end < 0) {
      rows[r + Row.FATE] = DropReason.BAD_PAD;
      return;
    }
    const next = bytes[trailerEnd - 1]!;
    if (next === IpProtocol.NONE) rows[r + Row.FATE] = DropReason.DUMMY;
    else if (next === IpProtocol.IPV4) this.#unwrap4(burst, r, inner, end);
    else if (next === IpProtocol.IPV6) this.#unwrap6(burst, r, inner, end);
    else rows[r + Row.FATE] = DropReason.BAD_NEXT_HEADER;
    if (rows[r + Row.FATE] !== 0) return;
    if (this.#selectors !== null && this.#selectors.lookup(view, inner) === NO_POLICY) {
      rows[r + Row.FATE] = DropReason.SELECTOR;
      return;
    }
    rows[r + Row.START] = inner;
    rows[r + Row.L3] = inner;
  }

  #unwrap4(burst: Burst, r: number, inner: number, end: number): void {
    const { rows, slab } = burst;
    const { bytes, view } = slab;
    if (checkIpv4(view, inner, end, false) !== IpCheck.OK) {
      rows[r + Row.FATE] = DropReason.BAD_INNER;
      return;
    }
    // What lies behind the inner packet is traffic flow confidentiality padding (RFC 4303 2.7).
    rows[r + Row.END] = inner + readTotalLength(view, inner);
    if (rows[r + Row.ECN] !== CE) return;
    const tos = bytes[inner + Ipv4.TOS]!;
    if ((tos & 3) === NOT_ECT) rows[r + Row.FATE] = DropReason.ECN;
    else if ((tos & 3) !== CE) {
      const before = view.getUint16(inner);
      bytes[inner + Ipv4.TOS] = tos | CE;
      const sum = view.getUint16(inner + Ipv4.CHECKSUM);
      view.setUint16(inner + Ipv4.CHECKSUM, updateChecksum(sum, before, view.getUint16(inner)));
    }
  }

  #unwrap6(burst: Burst, r: number, inner: number, end: number): void {
    const { rows, slab } = burst;
    const { view } = slab;
    if (checkIpv6(view, inner, end) !== IpCheck.OK) {
      rows[r + Row.FATE] = DropReason.BAD_INNER;
      return;
    }
    rows[r + Row.END] = inner + IPV6_HEADER_LENGTH + view.getUint16(inner + Ipv6.PAYLOAD_LENGTH);
    if (rows[r + Row.ECN] !== CE) return;
    const traffic = readTrafficClass(view, inner);
    if ((traffic & 3) === NOT_ECT) rows[r + Row.FATE] = DropReason.ECN;
    else writeTrafficClass(view, inner, traffic | CE);
  }
}
