import { Lifetime, ReplayWindow } from '@espalier/replay';
import {
  type Burst,
  checkTrailer,
  ESP_HEADER_LENGTH,
  ESP_TRAILER_LENGTH,
  IpProtocol,
  Row,
  UDP_HEADER_LENGTH,
} from '@espalier/wire';
import { ALGORITHMS, DropReason, NO_POLICY, Spd } from '@espalier/xfrm';
import { checkInbound } from './check-ticket.ts';
import { clampMss } from './mss.ts';
import type { InboundTicket } from './tickets.ts';
import { addressSum, fixChecksum, unwrapTransport } from './transport.ts';
import { unwrap4, unwrap6 } from './tunnel.ts';

/** Ciphertexts of block ciphers are whole blocks; counter modes need none, and what Linux takes from them we take. */
const CIPHER_BLOCK = 16;

/** One inbound SA on one worker (RFC 4303 3.4): its window, and what happens to a packet once its ICV holds. */
export class EspInbound {
  readonly ticket: InboundTicket;
  /** The path engine's key; always there, so that lowers with and without the SA mix freely. */
  readonly key: number;
  readonly window: ReplayWindow;
  readonly lifetime: Lifetime | null;
  /** Bytes from the ESP header on below which there cannot be header, IV and ICV. */
  readonly leastLength: number;
  readonly #ivLength: number;
  readonly #icvLength: number;
  /** Ciphertext is a multiple of this. */
  readonly #block: number;
  readonly #tunnel: boolean;
  readonly #checkPadding: boolean;
  /** Selectors as a policy database of their own: any match passes. */
  readonly #selectors: Spd | null;
  /** Some selector asks for IP in transport mode. */
  readonly #ipInTransport: boolean;
  /** Sum of the addresses under the peer's checksums, or -1; transport mode in UDP. */
  readonly #original: number;
  readonly #mss: number;

  /** Throws XfrmError UNSUPPORTED or RangeError on a ticket that makes no sense. */
  constructor(ticket: InboundTicket, key: number, worker = 0) {
    checkInbound(ticket);
    this.ticket = ticket;
    this.key = key;
    this.window = ReplayWindow.attach(ticket.window.memory, ticket.window.offset, worker);
    const { lifetime } = ticket;
    this.lifetime = lifetime ? Lifetime.attach(lifetime.memory, lifetime.offset) : null;
    const { ivLength, blockLength } = ALGORITHMS[ticket.algorithm];
    this.#ivLength = ivLength;
    this.#icvLength = ticket.icvLength;
    this.#block = blockLength === CIPHER_BLOCK ? CIPHER_BLOCK : 1;
    this.leastLength = ESP_HEADER_LENGTH + ivLength + this.#icvLength;
    this.#tunnel = ticket.mode === 'tunnel';
    this.#checkPadding = ticket.checkPadding ?? true;
    const selectors = ticket.selectors ?? [];
    this.#selectors = selectors.length
      ? new Spd(selectors.map((s) => ({ ...s, protocol: s.protocol ?? null, action: 'bypass', slot: -1 })))
      : null;
    this.#ipInTransport = selectors.some((s) => s.protocol === IpProtocol.IPV4 || s.protocol === IpProtocol.IPV6);
    const { original } = ticket;
    this.#original = original ? addressSum(original.source, original.destination) : -1;
    this.#mss = ticket.mss ?? 0;
  }

  /**
   * After ICV and window, in this order: length, padding, next header, inner header and TFC trim, ECN, selectors. Leaves
   * the inner packet in `[START, END)` or sets a FATE. The number has been used up in either case.
   */
  unwrap(burst: Burst, r: number): void {
    const { rows, slab } = burst;
    const fate = this.#open(burst, r);
    if (fate !== 0) {
      rows[r + Row.FATE] = fate;
      return;
    }
    const start = rows[r + Row.START]!;
    if (this.#selectors !== null && this.#selectors.lookup(slab.view, start) === NO_POLICY) {
      rows[r + Row.FATE] = DropReason.SELECTOR;
      return;
    }
    rows[r + Row.L3] = start;
    if (this.#mss !== 0) clampMss(slab.view, start, rows[r + Row.END]!, this.#mss);
  }

  #open(burst: Burst, r: number): number {
    const { rows, slab } = burst;
    const { bytes } = slab;
    const inner = rows[r + Row.ESP]! + ESP_HEADER_LENGTH + this.#ivLength;
    const trailerEnd = rows[r + Row.END]! - this.#icvLength;
    if ((trailerEnd - inner) % this.#block !== 0) return DropReason.BAD_LENGTH;
    const end = this.#checkPadding ? checkTrailer(bytes, inner, trailerEnd) : cutTrailer(bytes, inner, trailerEnd);
    if (end < 0) return DropReason.BAD_PAD;
    const next = bytes[trailerEnd - 1]!;
    if (next === IpProtocol.NONE) return DropReason.DUMMY;
    if (!this.#tunnel) return this.#openTransport(burst, r, inner, end, next);
    if (next !== IpProtocol.IPV4 && next !== IpProtocol.IPV6) return DropReason.BAD_NEXT_HEADER;
    const fate = next === IpProtocol.IPV4 ? unwrap4(burst, r, inner, end) : unwrap6(burst, r, inner, end);
    if (fate === 0) rows[r + Row.START] = inner;
    return fate;
  }

  #openTransport(burst: Burst, r: number, inner: number, end: number, next: number): number {
    if ((next === IpProtocol.IPV4 || next === IpProtocol.IPV6) && !this.#ipInTransport)
      return DropReason.BAD_NEXT_HEADER;
    const { rows, slab } = burst;
    const encap = this.ticket.encap !== null;
    const outerEnd = rows[r + Row.ESP]! - (encap ? UDP_HEADER_LENGTH : 0);
    const fate = unwrapTransport(burst, r, outerEnd, inner, end, next);
    if (fate !== 0 || !encap) return fate;
    fixChecksum(slab, rows[r + Row.START]!, inner, end, next, this.#original);
    return 0;
  }
}

/** As `checkTrailer`, without looking at the padding's bytes. */
function cutTrailer(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < ESP_TRAILER_LENGTH) return -1;
  const begin = end - ESP_TRAILER_LENGTH - bytes[end - 2]!;
  return begin < start ? -1 : begin;
}
