import { checkPacketSelector, NO_POLICY, PolicyAction, type PolicyTicket, type PortRange } from './policy.ts';
import { UpperLayer } from './upper-layer.ts';

/** Words per compiled policy: these, then source address and mask, destination address and mask. */
const PROTOCOL = 0;
const RESULT = 1;
/** First and last source port, first and last destination port. A packet whose ports cannot be seen has -1. */
const PORTS = 2;
const SOURCE = 6;

/** Words of one family's policies. */
interface Compiled {
  readonly words: Int32Array;
  readonly count: number;
  /** Words per policy. */
  readonly stride: number;
  /** Some policy asks for what lies behind the IP header. */
  readonly byUpper: boolean;
}

/**
 * The policy database of one worker: ordered policies, the first that matches an inner packet decides (RFC 4301 4.4.1).
 * Compiled to typed arrays, one table per family; `lookup` allocates nothing. Belongs to one worker.
 */
export class Spd {
  readonly #v4: Compiled;
  readonly #v6: Compiled;
  readonly #upper: UpperLayer = new UpperLayer();
  /** Number of policies. */
  readonly size: number;

  /** Throws RangeError on a policy that makes no sense; then there is no Spd. */
  constructor(policies: readonly PolicyTicket[]) {
    policies.forEach(checkPolicy);
    this.size = policies.length;
    this.#v4 = compile(policies, 4);
    this.#v6 = compile(policies, 16);
  }

  /**
   * What to do with the IP packet at `ipAt`: an SA slot (0 and up) to protect with, or PolicyAction.BYPASS or DISCARD,
   * or NO_POLICY when nothing matches or the version is neither 4 nor 6. The caller has checked that a whole IP header
   * is there. A protocol behind IPv6 extension headers is found up to the end of the packet (by its payload length).
   */
  lookup(view: DataView, ipAt: number): number {
    const version = view.getUint8(ipAt) >> 4;
    if (version === 4) return this.#lookup4(view, ipAt);
    if (version === 6) return this.#lookup6(view, ipAt);
    return NO_POLICY;
  }

  /**
   * From now on every policy that protects with SA `from` protects with `to`: the switch of a rekey, for this worker
   * between two packets. Returns how many policies there were.
   */
  redirect(from: number, to: number): number {
    if (!Number.isInteger(to) || to < 0) throw new RangeError(`"to" must be the slot of an SA, got ${to}`);
    let changed = 0;
    for (const { words, count, stride } of [this.#v4, this.#v6])
      for (let i = 0; i < count; i++) {
        if (words[i * stride + RESULT] !== from) continue;
        words[i * stride + RESULT] = to;
        changed++;
      }
    return changed;
  }

  #lookup4(view: DataView, ipAt: number): number {
    const { words, count, byUpper } = this.#v4;
    const source = view.getInt32(ipAt + 12);
    const destination = view.getInt32(ipAt + 16);
    if (byUpper) this.#upper.read4(view, ipAt);
    for (let i = 0, w = 0; i < count; i++, w += SOURCE + 4) {
      if ((source & words[w + SOURCE + 1]!) !== words[w + SOURCE]) continue;
      if ((destination & words[w + SOURCE + 3]!) !== words[w + SOURCE + 2]) continue;
      if (!byUpper || this.#matches(words, w)) return words[w + RESULT]!;
    }
    return NO_POLICY;
  }

  #lookup6(view: DataView, ipAt: number): number {
    const { words, count, byUpper } = this.#v6;
    if (count === 0) return NO_POLICY;
    if (byUpper) this.#upper.read6(view, ipAt);
    for (let i = 0, w = 0; i < count; i++, w += SOURCE + 16) {
      if (byUpper && !this.#matches(words, w)) continue;
      let same = true;
      for (let k = 0; k < 4 && same; k++) {
        const s = w + SOURCE + k;
        same =
          (view.getInt32(ipAt + 8 + 4 * k) & words[s + 4]!) === words[s] &&
          (view.getInt32(ipAt + 24 + 4 * k) & words[s + 12]!) === words[s + 8];
      }
      if (same) return words[w + RESULT]!;
    }
    return NO_POLICY;
  }

  #matches(words: Int32Array, w: number): boolean {
    const { protocol, sourcePort, destinationPort } = this.#upper;
    const wanted = words[w + PROTOCOL]!;
    return (
      (wanted === -1 || wanted === protocol) &&
      sourcePort >= words[w + PORTS]! &&
      sourcePort <= words[w + PORTS + 1]! &&
      destinationPort >= words[w + PORTS + 2]! &&
      destinationPort <= words[w + PORTS + 3]!
    );
  }
}

function checkPolicy(policy: PolicyTicket, i: number): void {
  checkPacketSelector(policy, `policy ${i}`);
  const { action, slot } = policy;
  if (action === 'protect' && (!Number.isInteger(slot) || slot < 0))
    throw new RangeError(`policy ${i}: "protect" needs the slot of an SA, got ${slot}`);
}

function compile(policies: readonly PolicyTicket[], family: 4 | 16): Compiled {
  const mine = policies.filter((p) => p.source.length === family);
  const k = family / 4;
  const stride = SOURCE + 4 * k;
  const words = new Int32Array(mine.length * stride);
  mine.forEach((p, i) => {
    const w = i * stride;
    words[w + PROTOCOL] = p.protocol ?? -1;
    words[w + RESULT] = resultOf(p);
    writePorts(words, w + PORTS, p.sourcePorts);
    writePorts(words, w + PORTS + 2, p.destinationPorts);
    writePrefix(words, w + SOURCE, p.source, p.sourceBits);
    writePrefix(words, w + SOURCE + 2 * k, p.destination, p.destinationBits);
  });
  const byUpper = mine.some(
    (p) => p.protocol !== null || p.sourcePorts !== undefined || p.destinationPorts !== undefined,
  );
  return { words, count: mine.length, stride, byUpper };
}

function resultOf(policy: PolicyTicket): number {
  if (policy.action === 'protect') return policy.slot;
  return policy.action === 'bypass' ? PolicyAction.BYPASS : PolicyAction.DISCARD;
}

function writePorts(words: Int32Array, at: number, ports: PortRange | undefined): void {
  words[at] = ports === undefined || ports === 'opaque' ? -1 : ports[0];
  words[at + 1] = ports === undefined ? 0xffff : ports === 'opaque' ? -1 : ports[1];
}

/** Address words cut to the prefix, then mask words. Host bits of a prefix do not count. */
function writePrefix(words: Int32Array, at: number, address: Uint8Array, bits: number): void {
  const k = address.length / 4;
  for (let i = 0; i < k; i++) {
    const left = Math.max(0, Math.min(32, bits - 32 * i));
    // A shift by 32 is a shift by 0 in JS.
    const mask = left === 0 ? 0 : -1 << (32 - left);
    const b = 4 * i;
    const word = (address[b]! << 24) | (address[b + 1]! << 16) | (address[b + 2]! << 8) | address[b + 3]!;
    words[at + i] = word & mask;
    words[at + k + i] = mask;
  }
}
