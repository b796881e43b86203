import { Lifetime, ReplayWindow } from '@espalier/replay';
import {
  type Burst,
  checkTrailer,
  ESP_HEADER_LENGTH,
  ESP_TRAILER_LENGTH,
  IpProtocol,
  Row,
  type RowState,
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
  /** Bytes of the inner packets that the last `unwrap` has left. */
  bytes = 0;
  readonly lifetime: Lifetime | null;
  /** Bytes from the ESP header on below which there cannot be header, IV and ICV. */
  readonly leastLength: number;
  readonly inUdp: boolean;
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
  /** Nothing but the packet itself says whether it goes on. */
  readonly #plain: boolean;

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
    this.inUdp = ticket.encap !== null;
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
    this.#plain = this.#tunnel && this.#selectors === null && this.#mss === 0;
  }

  /**
   * Rows `list[from .. to)` without a FATE, after ICV and window, in this order: length, padding, next header, inner header
   * and TFC trim, ECN, selectors. Leaves the inner packet in `[START, END)` or sets a FATE; the number has been used up in
   * either case. Moves the rows that are left to the front; returns where they end.
   */
  unwrap(burst: Burst, list: Int32Array, from: number, to: number): number {
    // Literals where V8 sees them, each held to the table by its type, and indices of 31 bits (see InboundPath).
    const START: typeof Row.START = 0;
    const END: typeof Row.END = 1;
    const L3: typeof Row.L3 = 2;
    const ESP: typeof Row.ESP = 3;
    const STATE: typeof Row.STATE = 8;
    const FATE: typeof Row.FATE = 9;
    const ECN: typeof Row.ECN = 14;
    const OPENED: typeof RowState.OPENED = 5;
    const IPV4: typeof IpProtocol.IPV4 = 4;
    // Where ECN_DECAP leaves the inner field as it is: bit inner * 4 + outer.
    const KEEPS = 0xf577;
    const { rows, slab } = burst;
    const { bytes, view } = slab;
    const skip = (ESP_HEADER_LENGTH + this.#ivLength) | 0;
    const icvLength = this.#icvLength | 0;
    // No length that matters is without these bits where something else than the packet has a say.
    const strange = this.#plain ? (this.#block - 1) | 0 : -1;
    const last = to | 0;
    let left = from | 0;
    let sum = 0;
    for (let i = left; i < last; i = (i + 1) | 0) {
      const row = list[i]!;
      const r = (row << 4) & 0x7fff_fff0;
      if (rows[r | FATE] !== 0) continue;
      // Whatever an engine says of how many it has opened: nothing that it has not marked comes to light.
      if (rows[r | STATE] !== OPENED) {
        rows[r | FATE] = DropReason.ICV;
        continue;
      }
      const inner = (rows[r | ESP]! + skip) & 0x7fff_ffff;
      const trailerEnd = (rows[r | END]! - icvLength) & 0x7fff_ffff;
      const length = (trailerEnd - inner) | 0;
      let fate = -1;
      // The ordinary packet: IPv4 in a tunnel, its ECN as it is. `#open` says the same of it, and what is wrong with others.
      if (length >= 22 && (length & strange) === 0) {
        // The last two bytes of padding, how many bytes of it there are, and the next header.
        const tail = view.getInt32(trailerEnd - 4);
        const pad = (tail >>> 8) & 0xff;
        const end = trailerEnd - 2 - pad;
        let wrong = (tail & 0xff) ^ IPV4;
        if (pad <= 2) wrong |= ((tail >>> 16) & ((1 << (8 * pad)) - 1)) ^ (0x0102 >>> (16 - 8 * pad));
        else if (end >= inner + 20) for (let k = 0; k < pad; k++) wrong |= bytes[end + k]! ^ (k + 1);
        const first = view.getInt32(inner);
        const total = first & 0xffff;
        if (
          wrong === 0 &&
          first >>> 24 === 0x45 &&
          total >= 20 &&
          inner + total <= end &&
          ((KEEPS >>> (((first >>> 14) & 12) | rows[r | ECN]!)) & 1) !== 0
        ) {
          rows[r | START] = inner;
          rows[r | END] = inner + total;
          rows[r | L3] = inner;
          sum = (sum + total) | 0;
          fate = 0;
        }
      }
      if (fate !== 0) {
        fate = this.#open(burst, r, inner, trailerEnd);
        if (fate !== 0) {
          rows[r | FATE] = fate;
          continue;
        }
        sum = (sum + rows[r | END]! - rows[r | START]!) | 0;
      }
      if (left !== i) {
        list[i] = list[left]!;
        list[left] = row;
      }
      left = (left + 1) | 0;
    }
    this.bytes = sum;
    return left;
  }

  #open(burst: Burst, r: number, inner: number, trailerEnd: number): number {
    const { rows, slab } = burst;
    const fate = this.#uncover(burst, r, inner, trailerEnd);
    if (fate !== 0) return fate;
    const start = rows[r + Row.START]!;
    if (this.#selectors !== null && this.#selectors.lookup(slab.view, start) === NO_POLICY) return DropReason.SELECTOR;
    rows[r + Row.L3] = start;
    if (this.#mss !== 0) clampMss(slab.view, start, rows[r + Row.END]!, this.#mss);
    return 0;
  }

  #uncover(burst: Burst, r: number, inner: number, trailerEnd: number): number {
    const { rows, slab } = burst;
    const { bytes } = slab;
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
    const outerEnd = rows[r + Row.ESP]! - (this.inUdp ? UDP_HEADER_LENGTH : 0);
    const fate = unwrapTransport(burst, r, outerEnd, inner, end, next);
    if (fate !== 0 || !this.inUdp) return fate;
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
