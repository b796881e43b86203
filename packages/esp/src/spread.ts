import { createSlab, ESP_HEADER_LENGTH } from '@espalier/wire';
import type { OuterHeader } from './outer-header.ts';
import type { OutboundTicket } from './tickets.ts';

/** The transmit hash of the frame `[start, end)`, 31 bits: how a bond would hash its bytes under layer3+4. */
export type FrameHash = (view: DataView, start: number, end: number) => number;

/** In place of a hash: the bond has to look at the bytes. */
const UNKNOWN = -1;
const HASH_BITS = 0x7fff_ffff;
/** Dynamic ports begin here (RFC 6335 6); 14 bits of them. */
const FIRST_PORT = 0xc000;
/** 2^32 over the golden ratio: neighbours in a count become far apart. */
const STRIDE = 0x9e37_79b1;

/**
 * What one worker writes into HASH for one SA's packets. Spread `sa` computes it once: addresses and SPI of a tunnel do not
 * change, and sealing changes nothing that is hashed. Where they do change (transport mode, source ports by flow) the bytes
 * are hashed packet by packet.
 */
export class SpreadHash {
  /** For all packets; UNKNOWN for `sa` without a constant hash. */
  readonly #constant: number;
  readonly #spread: 'sa' | 'inner' | 'spray';
  #count: number;

  constructor(ticket: OutboundTicket, header: OuterHeader, frameHash: FrameHash | null) {
    const { spread = 'sa', portEntropy = false, mode, spi } = ticket;
    this.#spread = spread;
    const constant = mode === 'tunnel' && !portEntropy && frameHash !== null;
    this.#constant = constant ? hashOfTemplate(header, frameHash) : UNKNOWN;
    // SAs do not all begin with the same slave.
    this.#count = spi & 0xffff;
  }

  /** What every packet gets, or -1 (hash the bytes); null where it depends on the packet. */
  get constant(): number | null {
    return this.#spread === 'sa' ? this.#constant : null;
  }

  /** For a packet of the inner flow with hash `flow`. */
  of(flow: number): number {
    if (this.#spread === 'sa') return this.#constant;
    return this.#spread === 'inner' ? flow & HASH_BITS : this.next();
  }

  /** For a packet without a flow (a dummy): as `of`, but `inner` goes round robin too. */
  ofDummy(): number {
    return this.#spread === 'sa' ? this.#constant : this.next();
  }

  next(): number {
    this.#count = (this.#count + 1) & HASH_BITS;
    return this.#count;
  }
}

/** A UDP source port for an inner flow: bits of its hash that a bond's choice among few slaves does not use. */
export function portOfFlow(flow: number): number {
  return FIRST_PORT | (flow >>> 18);
}

/** A flow hash for what has no flow, another one each time. */
export function strayFlow(count: number): number {
  return Math.imul(count, STRIDE);
}

function hashOfTemplate(header: OuterHeader, frameHash: FrameHash): number {
  const slab = createSlab({ frames: 1 });
  const end = header.length + ESP_HEADER_LENGTH;
  header.write(slab, 0, end, -1, 0, 1);
  return frameHash(slab.view, 0, end);
}
