import { checkPacketSelector, NO_POLICY, PolicyAction, type PolicyTicket } from './policy.ts';
import { PolicyIndex } from './policy-index.ts';
import { PolicyList } from './policy-list.ts';

/** So many policies of a family are found faster one after another than by an index (`pnpm bench --filter spd`). */
const FEW = 8;
/** `recent` that no packet matches: no word is 1 under a mask of 0. */
const NOTHING = [1, 1, 0, 0, NO_POLICY];

/**
 * The policy database of one worker: ordered policies, the first that matches an inner packet decides (RFC 4301 4.4.1).
 * Belongs to one worker; `lookup` allocates nothing.
 */
export class Spd {
  readonly #v4: PolicyList | PolicyIndex;
  readonly #v6: PolicyList | PolicyIndex;
  /** What each policy of a family says: an SA slot, or a PolicyAction. */
  readonly #says4: Int32Array;
  readonly #says6: Int32Array;
  /** Number of policies. */
  readonly size: number;
  /**
   * What a policy that answered `lookupNext` twice in a row says of every IPv4 packet of its prefixes: source, destination,
   * the masks of both (a packet is of them when `address & mask` is source and destination, as big-endian words), the slot of
   * an SA; of no packet where nothing is known. The last word is another one whenever the others have changed, which any call
   * of this Spd may do.
   */
  readonly recent: Int32Array = Int32Array.of(...NOTHING, 0);
  /** The policy that `recent` is of, and the one that answered last, -1 = none. */
  #recent = -1;
  #last = -1;

  /** Throws RangeError on a policy that makes no sense; then there is no Spd. */
  constructor(policies: readonly PolicyTicket[]) {
    policies.forEach(checkPolicy);
    this.size = policies.length;
    const v4 = policies.filter((p) => p.source.length === 4);
    const v6 = policies.filter((p) => p.source.length === 16);
    this.#v4 = finder(v4, 4);
    this.#v6 = finder(v6, 16);
    this.#says4 = Int32Array.from(v4, sayOf);
    this.#says6 = Int32Array.from(v6, sayOf);
  }

  /**
   * What to do with the IP packet at `ipAt`: an SA slot (0 and up) to protect with, or PolicyAction.BYPASS or DISCARD,
   * or NO_POLICY when nothing matches or the version is neither 4 nor 6. The caller has checked that a whole IP header
   * is there. A protocol behind IPv6 extension headers is found up to the end of the packet (by its payload length).
   */
  lookup(view: DataView, ipAt: number): number {
    const version = view.getUint8(ipAt) >> 4;
    if (version === 4) {
      const policy = this.#v4.find4(view, ipAt);
      return policy < 0 ? NO_POLICY : this.#says4[policy]!;
    }
    if (version === 6) {
      const policy = this.#v6.find6(view, ipAt);
      return policy < 0 ? NO_POLICY : this.#says6[policy]!;
    }
    return NO_POLICY;
  }

  /** As `lookup`, for whoever asks of one packet after another: keeps `recent`. */
  lookupNext(view: DataView, ipAt: number): number {
    if (view.getUint8(ipAt) >> 4 !== 4) return this.lookup(view, ipAt);
    const policy = this.#v4.find4(view, ipAt);
    if (policy < 0) return NO_POLICY;
    // Not at once: where every packet has another policy, that would cost more than it saves.
    if (policy === this.#last && policy !== this.#recent) this.#keep(policy);
    this.#last = policy;
    return this.#says4[policy]!;
  }

  #keep(policy: number): void {
    const says = this.#says4[policy]!;
    if (says < 0 || !this.#v4.alone(policy, this.recent)) return;
    this.recent[4] = says;
    this.recent[5] = this.recent[5]! + 1;
    this.#recent = policy;
  }

  /** From now on `recent` is of no packet: its SA is gone, for instance. */
  forget(): void {
    this.recent.set(NOTHING);
    this.recent[5] = this.recent[5]! + 1;
    this.#recent = -1;
  }

  /**
   * From now on every policy that protects with SA `from` protects with `to`: the switch of a rekey, for this worker
   * between two packets. Returns how many policies there were.
   */
  redirect(from: number, to: number): number {
    if (!Number.isInteger(to) || to < 0) throw new RangeError(`"to" must be the slot of an SA, got ${to}`);
    let changed = 0;
    for (const says of [this.#says4, this.#says6])
      for (let i = 0; i < says.length; i++) {
        if (says[i] !== from) continue;
        says[i] = to;
        changed++;
      }
    this.forget();
    return changed;
  }
}

function finder(policies: readonly PolicyTicket[], bytes: 4 | 16): PolicyList | PolicyIndex {
  return policies.length <= FEW ? new PolicyList(policies, bytes) : new PolicyIndex(policies, bytes);
}

function checkPolicy(policy: PolicyTicket, i: number): void {
  checkPacketSelector(policy, `policy ${i}`);
  const { action, slot } = policy;
  if (action === 'protect' && (!Number.isInteger(slot) || slot < 0))
    throw new RangeError(`policy ${i}: "protect" needs the slot of an SA, got ${slot}`);
}

function sayOf({ action, slot }: PolicyTicket): number {
  if (action === 'protect') return slot;
  return action === 'bypass' ? PolicyAction.BYPASS : PolicyAction.DISCARD;
}
