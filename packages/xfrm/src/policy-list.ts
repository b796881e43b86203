import type { PacketSelector } from './policy.ts';
import { maskOf, wordsOf } from './prefix.ts';
import { UpperMatch } from './upper-match.ts';

/** The policies of one address family, looked at one after another: what a few are found fastest by. One worker's. */
export class PolicyList {
  readonly #upper: UpperMatch;
  readonly #count: number;
  /** Per policy: source and destination cut to their prefixes, then the masks of both. */
  readonly #words: Int32Array;
  /** Per IPv4 policy 1 where it answers every packet of its prefixes. */
  readonly #alone: Uint8Array;

  /** Policies that make sense, all of the family of `bytes` bytes an address. */
  constructor(policies: readonly PacketSelector[], bytes: 4 | 16) {
    this.#upper = new UpperMatch(policies, bytes === 16);
    this.#count = policies.length;
    this.#words = Int32Array.from(
      policies.flatMap((p) => {
        const mask = maskOf(p);
        return [...wordsOf(p).map((word, k) => word & mask[k]!), ...mask];
      }),
    );
    this.#alone = Uint8Array.from(policies, (_, i) => (bytes === 4 && this.#isAlone(i) ? 1 : 0));
  }

  /** Whether IPv4 policy `i` answers every packet of its prefixes; then these and their masks become the first words of `to`. */
  alone(i: number, to: Int32Array): boolean {
    if (this.#alone[i] === 0) return false;
    for (let k = 0; k < 4; k++) to[k] = this.#words[4 * i + k]!;
    return true;
  }

  /** The first policy that matches the IPv4 packet at `ipAt`, whose fixed header is whole; -1 = none. */
  find4(view: DataView, ipAt: number): number {
    const words = this.#words;
    const source = view.getInt32(ipAt + 12);
    const destination = view.getInt32(ipAt + 16);
    this.#upper.begin();
    for (let i = 0, w = 0; i < this.#count; i++, w += 4) {
      if ((source & words[w + 2]!) !== words[w] || (destination & words[w + 3]!) !== words[w + 1]) continue;
      if (this.#upper.matches(i, view, ipAt)) return i;
    }
    return -1;
  }

  /** The same of an IPv6 packet. */
  find6(view: DataView, ipAt: number): number {
    const words = this.#words;
    this.#upper.begin();
    for (let i = 0, w = 0; i < this.#count; i++, w += 16) {
      let k = 0;
      // Source and destination lie side by side.
      while (k < 8 && (view.getInt32(ipAt + 8 + 4 * k) & words[w + 8 + k]!) === words[w + k]) k++;
      if (k === 8 && this.#upper.matches(i, view, ipAt)) return i;
    }
    return -1;
  }

  /** It asks for nothing else, and no policy before it has a packet in common with it. */
  #isAlone(i: number): boolean {
    const words = this.#words;
    const meet = (a: number, b: number): boolean => ((words[a]! ^ words[b]!) & words[a + 2]! & words[b + 2]!) === 0;
    for (let j = 0; j < i; j++) if (meet(4 * i, 4 * j) && meet(4 * i + 1, 4 * j + 1)) return false;
    return !this.#upper.asks(i);
  }
}
