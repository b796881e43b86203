/**
 * Link addresses of the next hops of one Ethernet lower, in shared memory: ports ask by the outer destination and note
 * what they miss, the control thread finds out and answers. Nothing waits for an answer: until there is one a packet ends
 * with NO_NEIGHBOUR.
 *
 * An open-addressed table; an address lies in one of the 16 places from its hash on. A place is written under its version,
 * odd meanwhile, which readers compare before and after. Ports put addresses in, the control thread takes them out.
 */
import { type Burst, EtherType, type FrameSlab, Row } from '@espalier/wire';
import { DropReason } from './drop-reason.ts';
import { PortStat } from './port-stats.ts';

const Place = {
  VERSION: 0,
  STATE: 1,
  /** 1 = a port has asked since the control thread looked. */
  ASKED: 2,
  /** First 4 bytes of the link address, and the other 2 as the high half of a word; as they lie in a frame. */
  MAC_FIRST: 3,
  MAC_LAST: 4,
  /** Bytes of the IP address: 4 or 16; and the address in words as they lie in a frame. */
  LENGTH: 5,
  ADDRESS: 8,
  WORDS: 16,
} as const;

/** FREE ends a search, GONE does not. */
const State = { FREE: 0, GONE: 1, TAKEN: 2, KNOWN: 3 } as const;

/** Words in front of the places: how many, how often a port has put an address in. */
const PLACES = 0;
const ADDED = 1;
const HEADER = 16;
const REACH = 16;
const ETHERNET_BYTES = 14;

/** Words of the memory that a port is given. */
export class NextHopTable {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #view: DataView;
  readonly #places: number;
  #added = 0;

  /** `places`: a power of two from 16 up; 1024 when absent. */
  constructor(places = 1024) {
    if (!Number.isInteger(places) || places < REACH || (places & (places - 1)) !== 0)
      throw new RangeError(`"places" must be a power of two from ${REACH} up, got ${places}`);
    this.#places = places;
    this.memory = new SharedArrayBuffer((HEADER + places * Place.WORDS) * 4);
    this.#words = new Int32Array(this.memory);
    this.#view = new DataView(this.memory);
    this.#words[PLACES] = places;
  }

  /** Whether a port has put an address in since the last call. */
  news(): boolean {
    const added = Atomics.load(this.#words, ADDED);
    const news = added !== this.#added;
    this.#added = added;
    return news;
  }

  /** Places that hold an address. */
  entries(): { readonly place: number; readonly address: Uint8Array }[] {
    const found: { place: number; address: Uint8Array }[] = [];
    for (let place = 0; place < this.#places; place++) {
      const at = HEADER + place * Place.WORDS;
      if (Atomics.load(this.#words, at + Place.STATE) < State.TAKEN) continue;
      const from = (at + Place.ADDRESS) * 4;
      found.push({
        place,
        address: Uint8Array.from(new Uint8Array(this.memory, from, this.#words[at + Place.LENGTH]!)),
      });
    }
    return found;
  }

  /** Whether a port has asked for it since the last call. */
  asked(place: number): boolean {
    return Atomics.exchange(this.#words, HEADER + place * Place.WORDS + Place.ASKED, 0) === 1;
  }

  /** The link address, 6 bytes, or null: not known, or not any more. */
  set(place: number, mac: Uint8Array | null): void {
    const at = HEADER + place * Place.WORDS;
    Atomics.add(this.#words, at + Place.VERSION, 1);
    if (mac !== null) for (let i = 0; i < 6; i++) this.#view.setUint8((at + Place.MAC_FIRST) * 4 + i, mac[i]!);
    Atomics.store(this.#words, at + Place.STATE, mac === null ? State.TAKEN : State.KNOWN);
    Atomics.add(this.#words, at + Place.VERSION, 1);
  }

  /** The place may hold another address. */
  forget(place: number): void {
    const at = HEADER + place * Place.WORDS;
    Atomics.add(this.#words, at + Place.VERSION, 1);
    Atomics.store(this.#words, at + Place.STATE, State.GONE);
    Atomics.add(this.#words, at + Place.VERSION, 1);
  }
}

/** Datapath half, of one port: `look` before anything is sealed, `address` when a row is about to leave. */
export class NextHops {
  readonly #words: Int32Array;
  readonly #mask: number;
  readonly #slab: FrameSlab;
  readonly #stats: Float64Array;
  /** By frame: the link address that `look` found. */
  readonly #first: Int32Array;
  readonly #last: Uint16Array;
  /** The device's own, as it lies in a frame. */
  readonly #own: Uint8Array;
  /** Of the last `#find`. */
  #foundFirst = 0;
  #foundLast = 0;

  /** `mac`: what frames are sent from. */
  constructor(memory: SharedArrayBuffer, mac: Uint8Array, slab: FrameSlab, stats: Float64Array) {
    this.#words = new Int32Array(memory);
    this.#mask = this.#words[PLACES]! - 1;
    this.#slab = slab;
    this.#stats = stats;
    this.#first = new Int32Array(slab.frames);
    this.#last = new Uint16Array(slab.frames);
    this.#own = Uint8Array.from(mac);
  }

  /** Refuses IP rows whose next hop is not known: NO_NEIGHBOUR, the row as it was. Others, LACP say, keep their addresses. */
  look(burst: Burst): void {
    const { rows, list } = burst;
    const { view } = this.#slab;
    let refused = 0;
    for (let i = 0; i < burst.length; i++) {
      const row = list[i]!;
      const r = row * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      const start = rows[r + Row.START]!;
      const left = rows[r + Row.END]! - start - ETHERNET_BYTES;
      const type = left < 20 ? 0 : view.getUint16(start + 12);
      this.#last[row] = 0;
      this.#first[row] = 0;
      let found = true;
      if (type === EtherType.IPV4) found = this.#find(start + ETHERNET_BYTES + 16, 1);
      else if (type === EtherType.IPV6 && left >= 40) found = this.#find(start + ETHERNET_BYTES + 24, 4);
      else continue;
      if (found) {
        this.#first[row] = this.#foundFirst;
        this.#last[row] = this.#foundLast;
        continue;
      }
      rows[r + Row.FATE] = DropReason.NO_NEIGHBOUR;
      refused++;
    }
    if (refused > 0) this.#stats[PortStat.REFUSED] = this.#stats[PortStat.REFUSED]! + refused;
  }

  /** Writes destination and source of a row that `look` let pass. */
  address(row: number, start: number): void {
    const first = this.#first[row]!;
    const last = this.#last[row]!;
    // No neighbour has the address 0: what is no IP keeps what it has.
    if (first === 0 && last === 0) return;
    const { view, bytes } = this.#slab;
    view.setInt32(start, first, true);
    view.setUint16(start + 4, last, true);
    const own = this.#own;
    for (let i = 0; i < 6; i++) bytes[start + 6 + i] = own[i]!;
  }

  /** Looks up the `count` words at a byte offset of the slab; notes an address that is not there. */
  #find(offset: number, count: number): boolean {
    const words = this.#words;
    const { view } = this.#slab;
    let hash = count;
    for (let k = 0; k < count; k++) {
      // Neighbours differ in the last byte of their address, which is the highest of a word: it must reach the lowest bits.
      hash = Math.imul(hash ^ view.getInt32(offset + 4 * k, true), 0x9e37_79b1);
      hash ^= hash >>> 16;
    }
    const home = Math.imul(hash, 0x85eb_ca6b) >>> 16;
    let room = -1;
    for (let step = 0; step < REACH; step++) {
      const at = HEADER + ((home + step) & this.#mask) * Place.WORDS;
      const version = Atomics.load(words, at + Place.VERSION);
      const state = Atomics.load(words, at + Place.STATE);
      if (state < State.TAKEN) {
        if (room < 0 && (version & 1) === 0) room = at;
        if (state === State.FREE) break;
        continue;
      }
      if (!this.#same(at, offset, count)) continue;
      if (words[at + Place.ASKED] === 0) Atomics.store(words, at + Place.ASKED, 1);
      if (state !== State.KNOWN) return false;
      this.#foundFirst = words[at + Place.MAC_FIRST]!;
      this.#foundLast = words[at + Place.MAC_LAST]! & 0xffff;
      return (version & 1) === 0 && Atomics.load(words, at + Place.VERSION) === version;
    }
    if (room >= 0) this.#note(room, offset, count);
    return false;
  }

  #same(at: number, offset: number, count: number): boolean {
    const { view } = this.#slab;
    if (this.#words[at + Place.LENGTH] !== 4 * count) return false;
    for (let k = 0; k < count; k++)
      if (this.#words[at + Place.ADDRESS + k] !== view.getInt32(offset + 4 * k, true)) return false;
    return true;
  }

  /** Whoever makes the version odd writes; another worker's address may come in twice, which does no harm. */
  #note(at: number, offset: number, count: number): void {
    const words = this.#words;
    const version = Atomics.load(words, at + Place.VERSION);
    if ((version & 1) !== 0 || Atomics.load(words, at + Place.STATE) >= State.TAKEN) return;
    if (Atomics.compareExchange(words, at + Place.VERSION, version, version + 1) !== version) return;
    for (let k = 0; k < count; k++) words[at + Place.ADDRESS + k] = this.#slab.view.getInt32(offset + 4 * k, true);
    words[at + Place.LENGTH] = 4 * count;
    Atomics.store(words, at + Place.ASKED, 1);
    Atomics.store(words, at + Place.STATE, State.TAKEN);
    Atomics.store(words, at + Place.VERSION, version + 2);
    Atomics.add(words, ADDED, 1);
  }
}
