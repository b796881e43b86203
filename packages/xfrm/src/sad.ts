import { XfrmError } from './errors.ts';
import { checkSelector, describeSelector, type SadSelector } from './sad-index.ts';
import type { Sa } from './seam.ts';

/** Which outer addresses an inbound SA is found by, beside its SPI (RFC 4301 4.1). */
export type SadMatch = 'spi' | 'destination' | 'both';

/** An SA as it is asked for: everything but its slot. */
export type SaRequest = Omit<Sa, 'slot'> & {
  /** Inbound: how it is found. Default `destination`: a peer behind a NAT may change its source at any time. */
  readonly match?: SadMatch;
};

/**
 * The state database: every SA of the house, its slot, and the longest-match lookup for inbound packets, in the plainest
 * form. Control thread; workers use a `SadIndex`. Outbound SAs have their own name space: their SPIs are the peer's choice.
 *
 * A slot is an index into every shared table, so a removed SA's slot comes back as late as possible: the slot that has
 * been free longest is given out first. Remove an SA only after the last packet that carries its slot is gone.
 */
export class Sad {
  /** Slots are below this. */
  readonly capacity: number;
  readonly #slots: (Sa | undefined)[];
  readonly #free: number[] = [];
  #freeFrom = 0;
  #fresh = 0;
  /** Selector text -> slot. */
  readonly #inbound: Map<string, number> = new Map();
  readonly #outbound: Map<string, number> = new Map();
  readonly #texts: (string | undefined)[];
  readonly #matches: (SadMatch | undefined)[];
  #size = 0;

  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1)
      throw new RangeError(`"capacity" must be a positive integer, got ${capacity}`);
    this.capacity = capacity;
    this.#slots = [];
    this.#texts = [];
    this.#matches = [];
  }

  /** Number of SAs. */
  get size(): number {
    return this.#size;
  }

  /**
   * Gives the SA a slot. Throws XfrmError EXISTS (same direction and selector), NO_SPACE, or UNSUPPORTED (offload type
   * packet: number and window would live in one device); RangeError when addresses or SPI make no sense.
   */
  add(request: SaRequest): Sa {
    const { match = 'destination', ...rest } = request;
    if (rest.source.length !== rest.destination.length)
      throw new RangeError(
        `source and destination differ in length: ${rest.source.length} and ${rest.destination.length}`,
      );
    if (rest.offload?.type === 'packet')
      throw new XfrmError({ code: 'UNSUPPORTED', device: rest.offload.device.name, what: 'offload type packet' });
    const selector = selectorOf(rest, rest.direction === 'out' ? 'both' : match);
    checkSelector(selector);
    const names = rest.direction === 'in' ? this.#inbound : this.#outbound;
    const text = textOf(selector);
    if (names.has(text))
      throw new XfrmError({ code: 'EXISTS', what: `an SA with ${describeSelector(selector)} is there already` });
    const slot = this.#takeSlot();
    const sa: Sa = { ...rest, slot };
    names.set(text, slot);
    this.#slots[slot] = sa;
    this.#texts[slot] = text;
    this.#matches[slot] = match;
    this.#size++;
    return sa;
  }

  /** Forgets the SA and gives its slot back. Throws XfrmError NOT_FOUND. */
  remove(slot: number): Sa {
    const sa = this.#slots[slot];
    if (sa === undefined) throw new XfrmError({ code: 'NOT_FOUND', what: `there is no SA in slot ${slot}` });
    (sa.direction === 'in' ? this.#inbound : this.#outbound).delete(this.#texts[slot]!);
    this.#slots[slot] = undefined;
    this.#texts[slot] = undefined;
    this.#matches[slot] = undefined;
    this.#free.push(slot);
    this.#size--;
    return sa;
  }

  /** The SA in a slot. */
  get(slot: number): Sa | undefined {
    return this.#slots[slot];
  }

  /** What a worker's SadIndex needs for an inbound SA; plain data. Throws XfrmError NOT_FOUND. */
  selector(slot: number): SadSelector {
    const sa = this.#slots[slot];
    if (sa === undefined) throw new XfrmError({ code: 'NOT_FOUND', what: `there is no SA in slot ${slot}` });
    return selectorOf(sa, this.#matches[slot]!);
  }

  /** The inbound SA for a packet: (spi, dst, src), else (spi, dst), else spi. RFC 4301 4.1. */
  lookup(spi: number, destination: Uint8Array, source: Uint8Array): Sa | undefined {
    const names = this.#inbound;
    const slot =
      names.get(textOf({ spi, destination, source })) ??
      names.get(textOf({ spi, destination, source: null })) ??
      names.get(textOf({ spi, destination: null, source: null }));
    return slot === undefined ? undefined : this.#slots[slot];
  }

  /** Every SA, by slot. */
  *[Symbol.iterator](): IterableIterator<Sa> {
    for (const sa of this.#slots) if (sa !== undefined) yield sa;
  }

  #takeSlot(): number {
    if (this.#fresh < this.capacity) return this.#fresh++;
    if (this.#freeFrom === this.#free.length)
      throw new XfrmError({ code: 'NO_SPACE', what: `all ${this.capacity} SA slots are taken` });
    const slot = this.#free[this.#freeFrom++]!;
    if (this.#freeFrom > 1024 && this.#freeFrom * 2 > this.#free.length) {
      this.#free.splice(0, this.#freeFrom);
      this.#freeFrom = 0;
    }
    return slot;
  }
}

function selectorOf(sa: Omit<Sa, 'slot'>, match: SadMatch): SadSelector {
  return {
    spi: sa.spi,
    destination: match === 'spi' ? null : sa.destination,
    source: match === 'both' ? sa.source : null,
  };
}

function textOf(selector: SadSelector): string {
  const { spi, destination, source } = selector;
  return `${spi >>> 0}/${destination === null ? '' : destination.join('.')}/${source === null ? '' : source.join('.')}`;
}
