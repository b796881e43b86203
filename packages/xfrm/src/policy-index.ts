import type { PacketSelector } from './policy.ts';
import { maskOf, wordsOf } from './prefix.ts';
import { UpperMatch } from './upper-match.ts';

const NONE = -1;

/**
 * The policies of one address family, found without looking at each: the same answers as PolicyList's.
 *
 * Policies whose two prefixes have the same two lengths form a shape (a gateway has few). A shape is asked once: the
 * packet's addresses, cut to those lengths, lead to the policies of exactly these prefixes, chained in order. Shapes are
 * asked in the order of their first policies, and only while one of theirs could come before the best so far. One worker's.
 */
export class PolicyIndex {
  readonly #upper: UpperMatch;
  readonly #count: number;
  readonly #shapes: readonly Shape[];
  /** The next policy with the same two prefixes. */
  readonly #next: Int32Array;
  /** IPv6 source and destination of the packet at hand. */
  readonly #address: Int32Array = new Int32Array(8);

  /** Policies that make sense, all of the family of `bytes` bytes an address. */
  constructor(policies: readonly PacketSelector[], bytes: 4 | 16) {
    this.#upper = new UpperMatch(policies, bytes === 16);
    this.#count = policies.length;
    this.#next = new Int32Array(policies.length).fill(NONE);
    const shapes = new Map<string, number[]>();
    policies.forEach(({ sourceBits, destinationBits }, i) => {
      const name = `${sourceBits} ${destinationBits}`;
      const members = shapes.get(name);
      if (members === undefined) shapes.set(name, [i]);
      else members.push(i);
    });
    this.#shapes = [...shapes.values()].map((members) => new Shape(policies, members, this.#next));
  }

  /** See PolicyList; of many policies nobody knows. */
  alone(): boolean {
    return false;
  }

  /** The first policy that matches the IPv4 packet at `ipAt`, whose fixed header is whole; -1 = none. */
  find4(view: DataView, ipAt: number): number {
    const shapes = this.#shapes;
    const source = view.getInt32(ipAt + 12);
    const destination = view.getInt32(ipAt + 16);
    this.#upper.begin();
    let best = this.#count;
    for (let s = 0; s < shapes.length && shapes[s]!.first < best; s++)
      best = this.#firstOf(shapes[s]!.find4(source, destination), best, view, ipAt);
    return best === this.#count ? NONE : best;
  }

  /** The same of an IPv6 packet. */
  find6(view: DataView, ipAt: number): number {
    const shapes = this.#shapes;
    const address = this.#address;
    for (let k = 0; k < 8; k++) address[k] = view.getInt32(ipAt + 8 + 4 * k);
    this.#upper.begin();
    let best = this.#count;
    for (let s = 0; s < shapes.length && shapes[s]!.first < best; s++)
      best = this.#firstOf(shapes[s]!.find6(address), best, view, ipAt);
    return best === this.#count ? NONE : best;
  }

  /** The first match in a chain if it comes before `best`, else `best`. */
  #firstOf(head: number, best: number, view: DataView, ipAt: number): number {
    for (let i = head; i !== NONE && i < best; i = this.#next[i]!) if (this.#upper.matches(i, view, ipAt)) return i;
    return best;
  }
}

/** Policies whose prefixes have the same two lengths: a hash table from the prefixes to the first policy that has them. */
class Shape {
  /** The first policy of all. */
  readonly first: number;
  /** Bits of source and destination that count. */
  readonly #mask: Int32Array;
  /** Per place the prefixes, and their first policy, NONE = empty: three of four places are, so that a probe ends soon. */
  readonly #keys: Int32Array;
  readonly #heads: Int32Array;
  readonly #last: number;

  /** `members` are places in `policies`, ascending; `next` gets their chains. */
  constructor(policies: readonly PacketSelector[], members: readonly number[], next: Int32Array) {
    this.first = members[0]!;
    this.#mask = Int32Array.from(maskOf(policies[this.first]!));
    const width = this.#mask.length;
    const places = 2 ** Math.ceil(Math.log2(4 * members.length));
    this.#last = places - 1;
    this.#heads = new Int32Array(places).fill(NONE);
    this.#keys = new Int32Array(places * width);
    const ends = new Map<number, number>();
    for (const i of members) {
      const address = Int32Array.from(wordsOf(policies[i]!));
      const place = width === 2 ? this.#place4(address[0]!, address[1]!) : this.#place6(address);
      const end = ends.get(place);
      ends.set(place, i);
      if (end !== undefined) next[end] = i;
      else {
        this.#heads[place] = i;
        for (let k = 0; k < width; k++) this.#keys[place * width + k] = address[k]! & this.#mask[k]!;
      }
    }
  }

  /** The first policy of exactly these prefixes, or NONE. */
  find4(source: number, destination: number): number {
    return this.#heads[this.#place4(source, destination)]!;
  }

  find6(address: Int32Array): number {
    return this.#heads[this.#place6(address)]!;
  }

  /** Where these addresses, cut to the prefixes' lengths, stand or would stand. */
  #place4(source: number, destination: number): number {
    const keys = this.#keys;
    const heads = this.#heads;
    const s = source & this.#mask[0]!;
    const d = destination & this.#mask[1]!;
    const hash = Math.imul(s, 0x9e3779b1) ^ Math.imul(d, 0x85ebca6b);
    let place = (hash ^ (hash >>> 15)) & this.#last;
    while (heads[place] !== NONE && (keys[2 * place] !== s || keys[2 * place + 1] !== d))
      place = (place + 1) & this.#last;
    return place;
  }

  #place6(address: Int32Array): number {
    const mask = this.#mask;
    let hash = 0;
    for (let k = 0; k < 8; k++) hash = Math.imul(hash ^ (address[k]! & mask[k]!), 0x9e3779b1) ^ (hash >>> 15);
    for (let place = (hash ^ (hash >>> 15)) & this.#last; ; place = (place + 1) & this.#last) {
      if (this.#heads[place] === NONE) return place;
      let k = 0;
      while (k < 8 && this.#keys[8 * place + k] === (address[k]! & mask[k]!)) k++;
      if (k === 8) return place;
    }
  }
}
