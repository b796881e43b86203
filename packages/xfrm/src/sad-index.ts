import { XfrmError } from './errors.ts';

/**
 * What an inbound SA is found by: the SPI alone, the SPI with the outer destination, or both outer addresses too.
 * `source` without `destination` makes no sense (RFC 4301 4.1). Addresses in network order, 4 or 16 bytes.
 */
export interface SadSelector {
  readonly spi: number;
  readonly destination: Uint8Array | null;
  readonly source: Uint8Array | null;
}

/** How many addresses an entry is found by: 0 = SPI alone, 1 = destination too, 2 = destination and source. */
type Level = 0 | 1 | 2;

/** Words of one entry: SPI, level | family << 2, destination, source; 10 used, 16 so that an entry is one cache line. */
const SPI = 0;
const KIND = 1;
const DESTINATION = 2;
const SOURCE = 6;
const ENTRY_WORDS = 16;

const V6 = 4;
const FREE = -1;
const NOWHERE: Int32Array = new Int32Array(4);

/**
 * Words of one bucket: slot | kind << 24 (FREE = empty), SPI, and the first words of the addresses. That settles an IPv4
 * lookup in the cache line where it begins; IPv6 goes on to the entry.
 */
const Bucket = { SLOT: 0, SPI: 1, DESTINATION: 2, SOURCE: 3, WORDS: 4 } as const;
const SLOT_MASK = 0xff_ffff;

/**
 * The datapath's SAD: slots by (SPI, destination, source), longest match first: (spi, dst, src) > (spi, dst) > spi
 * (RFC 4301 4.1). Open addressing over typed arrays, at most half full, removal by shifting back, so a table that has
 * seen a million SAs come and go is as fast as a fresh one. The hash has no seed: same calls, same layout.
 *
 * Belongs to one worker; `find` allocates nothing. Each slot has at most one entry.
 */
export class SadIndex {
  /** Slots are below this. */
  readonly capacity: number;
  readonly #entries: Int32Array;
  readonly #buckets: Int32Array;
  readonly #mask: number;
  /** Entries per level: a level without entries is not probed. */
  readonly #levels: Int32Array = new Int32Array(3);
  /** Addresses of the IPv6 packet at hand. */
  readonly #destination: Int32Array = new Int32Array(4);
  readonly #source: Int32Array = new Int32Array(4);

  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > 1 << 24)
      throw new RangeError(`"capacity" must be an integer from 1 to 2^24, got ${capacity}`);
    this.capacity = capacity;
    this.#entries = new Int32Array(capacity * ENTRY_WORDS);
    for (let slot = 0; slot < capacity; slot++) this.#entries[slot * ENTRY_WORDS + KIND] = FREE;
    let buckets = 4;
    while (buckets < capacity * 2) buckets *= 2;
    this.#buckets = new Int32Array(buckets * Bucket.WORDS);
    for (let i = 0; i < this.#buckets.length; i += Bucket.WORDS) this.#buckets[i] = FREE;
    this.#mask = buckets - 1;
  }

  /** Number of entries. */
  get size(): number {
    return this.#levels[0]! + this.#levels[1]! + this.#levels[2]!;
  }

  /** Throws XfrmError EXISTS when the slot has an entry or another slot has the same selector; RangeError on nonsense. */
  add(slot: number, selector: SadSelector): void {
    this.#demandSlot(slot);
    const level = checkSelector(selector);
    const e = slot * ENTRY_WORDS;
    const entries = this.#entries;
    if (entries[e + KIND] !== FREE)
      throw new XfrmError({ code: 'EXISTS', what: `slot ${slot} is in the index already` });
    const v6 = level > 0 && selector.destination!.length === 16;
    // The entry is written first and linked last: a refused one is wiped again, so it never was.
    entries.fill(0, e, e + ENTRY_WORDS);
    entries[e + SPI] = selector.spi;
    entries[e + KIND] = level | (v6 ? V6 : 0);
    if (level > 0) writeAddress(entries, e + DESTINATION, selector.destination!);
    if (level > 1) writeAddress(entries, e + SOURCE, selector.source!);
    const buckets = this.#buckets;
    let b = this.#hashOf(slot) & this.#mask;
    for (; buckets[b * Bucket.WORDS] !== FREE; b = (b + 1) & this.#mask) {
      if (!this.#sameEntry(buckets[b * Bucket.WORDS]! & SLOT_MASK, slot)) continue;
      entries[e + KIND] = FREE;
      throw new XfrmError({ code: 'EXISTS', what: `an SA with ${describeSelector(selector)} is there already` });
    }
    const w = b * Bucket.WORDS;
    buckets[w] = slot | (entries[e + KIND]! << 24);
    buckets[w + Bucket.SPI] = entries[e + SPI]!;
    buckets[w + Bucket.DESTINATION] = entries[e + DESTINATION]!;
    buckets[w + Bucket.SOURCE] = entries[e + SOURCE]!;
    this.#levels[level] = this.#levels[level]! + 1;
  }

  /** Whether the slot had an entry. From now on nothing finds it. */
  remove(slot: number): boolean {
    this.#demandSlot(slot);
    const kind = this.#entries[slot * ENTRY_WORDS + KIND]!;
    if (kind === FREE) return false;
    const buckets = this.#buckets;
    const mask = this.#mask;
    let hole = this.#hashOf(slot) & mask;
    while ((buckets[hole * Bucket.WORDS]! & SLOT_MASK) !== slot) hole = (hole + 1) & mask;
    // Shift back whatever would no longer be reached across the hole.
    for (let b = (hole + 1) & mask; buckets[b * Bucket.WORDS] !== FREE; b = (b + 1) & mask) {
      const home = this.#hashOf(buckets[b * Bucket.WORDS]! & SLOT_MASK) & mask;
      if (((b - home) & mask) < ((b - hole) & mask)) continue;
      buckets.copyWithin(hole * Bucket.WORDS, b * Bucket.WORDS, (b + 1) * Bucket.WORDS);
      hole = b;
    }
    buckets[hole * Bucket.WORDS] = FREE;
    this.#entries[slot * ENTRY_WORDS + KIND] = FREE;
    this.#levels[kind & 3] = this.#levels[kind & 3]! - 1;
    return true;
  }

  /** Whether the slot has an entry. */
  has(slot: number): boolean {
    return slot >= 0 && slot < this.capacity && this.#entries[slot * ENTRY_WORDS + KIND] !== FREE;
  }

  /**
   * The slot for a packet whose outer addresses lie in `view` at `dstAt` and `srcAt` (4 bytes each, 16 with `isV6`), or
   * -1. `spi` may be signed or unsigned. The caller has checked that the addresses are inside the view.
   */
  find(spi: number, view: DataView, dstAt: number, srcAt: number, isV6: boolean): number {
    return isV6
      ? this.#find6(spi | 0, view, dstAt, srcAt)
      : this.find4(spi | 0, view.getInt32(dstAt), view.getInt32(srcAt));
  }

  /** The slot found by the SPI alone, or -1: for lowers that start at the ESP header (esp-udp). */
  findSpi(spi: number): number {
    return this.#probe(spi | 0, 0, 0, 0);
  }

  /** The same for a packet over IPv4, from its addresses as words. */
  find4(spi: number, destination: number, source: number): number {
    const levels = this.#levels;
    let slot = FREE;
    if (levels[2] !== 0) slot = this.#probe(spi, 2, destination, source);
    if (slot < 0 && levels[1] !== 0) slot = this.#probe(spi, 1, destination, 0);
    if (slot < 0 && levels[0] !== 0) slot = this.#probe(spi, 0, 0, 0);
    return slot;
  }

  #find6(spi: number, view: DataView, dstAt: number, srcAt: number): number {
    const levels = this.#levels;
    const to = this.#destination;
    const from = this.#source;
    let slot = FREE;
    if (levels[2] !== 0 || levels[1] !== 0)
      for (let i = 0; i < 4; i++) {
        to[i] = view.getInt32(dstAt + 4 * i);
        from[i] = view.getInt32(srcAt + 4 * i);
      }
    if (levels[2] !== 0) slot = this.#probe6(spi, V6 | 2, to, from);
    if (slot < 0 && levels[1] !== 0) slot = this.#probe6(spi, V6 | 1, to, NOWHERE);
    if (slot < 0 && levels[0] !== 0) slot = this.#probe(spi, 0, 0, 0);
    return slot;
  }

  /** Entries with IPv4 addresses or none: the bucket has all of them. */
  #probe(spi: number, kind: number, destination: number, source: number): number {
    // Literals where V8 sees them, each held to the table by its type.
    const SPI: typeof Bucket.SPI = 1;
    const DESTINATION: typeof Bucket.DESTINATION = 2;
    const SOURCE: typeof Bucket.SOURCE = 3;
    const SLOT: typeof SLOT_MASK = 0xff_ffff;
    const buckets = this.#buckets;
    const mask = this.#mask;
    for (let b = finish(mix(spi, kind, destination, source)) & mask; ; b = (b + 1) & mask) {
      const w = b << 2;
      const word = buckets[w]!;
      if (word < 0) return word;
      if (
        buckets[w | SPI] === spi &&
        buckets[w | DESTINATION] === destination &&
        buckets[w | SOURCE] === source &&
        word >>> 24 === kind
      )
        return word & SLOT;
    }
  }

  #probe6(spi: number, kind: number, destination: Int32Array, source: Int32Array): number {
    const buckets = this.#buckets;
    const entries = this.#entries;
    const mask = this.#mask;
    for (let b = mix6(spi, kind, destination, 0, source, 0) & mask; ; b = (b + 1) & mask) {
      const word = buckets[b * Bucket.WORDS]!;
      if (word < 0) return word;
      if (buckets[b * Bucket.WORDS + Bucket.SPI] !== spi || word >>> 24 !== kind) continue;
      const slot = word & SLOT_MASK;
      const e = slot * ENTRY_WORDS;
      let k = 0;
      while (k < 4 && entries[e + DESTINATION + k] === destination[k] && entries[e + SOURCE + k] === source[k]) k++;
      if (k === 4) return slot;
    }
  }

  #hashOf(slot: number): number {
    const w = this.#entries;
    const e = slot * ENTRY_WORDS;
    const kind = w[e + KIND]!;
    return (kind & V6) === 0
      ? finish(mix(w[e + SPI]!, kind, w[e + DESTINATION]!, w[e + SOURCE]!))
      : mix6(w[e + SPI]!, kind, w, e + DESTINATION, w, e + SOURCE);
  }

  #sameEntry(a: number, b: number): boolean {
    for (let i = 0; i < SOURCE + 4; i++)
      if (this.#entries[a * ENTRY_WORDS + i] !== this.#entries[b * ENTRY_WORDS + i]) return false;
    return true;
  }

  #demandSlot(slot: number): void {
    if (!Number.isInteger(slot) || slot < 0 || slot >= this.capacity)
      throw new RangeError(`slot ${slot} is not in an index of ${this.capacity}`);
  }
}

/** Multiply and rotate, one round per word pair, and a final avalanche: neighbouring SPIs land far apart. */
function mix(spi: number, kind: number, destination: number, source: number): number {
  let h = Math.imul(spi ^ (kind << 29), 0x9e3779b1);
  h = Math.imul((h ^ (h >>> 15)) + destination, 0x85ebca6b);
  return Math.imul((h ^ (h >>> 13)) + source, 0xc2b2ae35);
}

function mix6(spi: number, kind: number, destination: Int32Array, d: number, source: Int32Array, s: number): number {
  let h = mix(spi, kind, destination[d]!, source[s]!);
  for (let i = 1; i < 4; i++) {
    h = Math.imul((h ^ (h >>> 15)) + destination[d + i]!, 0x85ebca6b);
    h = Math.imul((h ^ (h >>> 13)) + source[s + i]!, 0xc2b2ae35);
  }
  return finish(h);
}

function finish(h: number): number {
  return h ^ (h >>> 16);
}

function writeAddress(words: Int32Array, at: number, address: Uint8Array): void {
  for (let i = 0; i < address.length; i += 4)
    words[at + i / 4] = (address[i]! << 24) | (address[i + 1]! << 16) | (address[i + 2]! << 8) | address[i + 3]!;
}

/** Throws RangeError or TypeError when the selector makes no sense; returns its level. */
export function checkSelector(selector: SadSelector): Level {
  const { spi, destination, source } = selector;
  if (!Number.isInteger(spi) || spi < 1 || spi > 0xffff_ffff)
    throw new RangeError(`an SPI is an integer from 1 to 2^32-1 (RFC 4303 2.1), got ${spi}`);
  if (destination === null) {
    if (source !== null) throw new TypeError('a selector with a source needs a destination (RFC 4301 4.1)');
    return 0;
  }
  if (destination.length !== 4 && destination.length !== 16)
    throw new RangeError(`an address has 4 or 16 bytes, got ${destination.length}`);
  if (source === null) return 1;
  if (source.length !== destination.length)
    throw new RangeError(`source and destination differ in length: ${source.length} and ${destination.length}`);
  return 2;
}

/** For messages: the SPI in hex and which addresses count. */
export function describeSelector(selector: SadSelector): string {
  const spi = `SPI 0x${selector.spi.toString(16).padStart(8, '0')}`;
  if (selector.destination === null) return spi;
  return `${spi} and this destination${selector.source === null ? '' : ' and source'}`;
}
