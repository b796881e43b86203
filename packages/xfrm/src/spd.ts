import type { PolicyTicket } from './policy.ts';
import { NO_POLICY, PolicyAction } from './policy.ts';

/** Words per compiled policy: protocol, result, then source address and mask, destination address and mask. */
const PROTOCOL = 0;
const RESULT = 1;
const SOURCE = 2;

/** Words of one family's policies. */
interface Compiled {
  readonly words: Int32Array;
  readonly count: number;
  /** Words per policy. */
  readonly stride: number;
  /** Some policy asks for the protocol. */
  readonly byProtocol: boolean;
}

/**
 * The policy database of one worker: ordered policies, the first that matches an inner packet decides (RFC 4301 4.4.1).
 * Compiled to typed arrays, one table per family; `lookup` allocates nothing. Belongs to one worker.
 */
export class Spd {
  readonly #v4: Compiled;
  readonly #v6: Compiled;
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

  #lookup4(view: DataView, ipAt: number): number {
    const { words, count } = this.#v4;
    const source = view.getInt32(ipAt + 12);
    const destination = view.getInt32(ipAt + 16);
    const protocol = view.getUint8(ipAt + 9);
    for (let i = 0, w = 0; i < count; i++, w += 6) {
      if ((source & words[w + SOURCE + 1]!) !== words[w + SOURCE]) continue;
      if ((destination & words[w + SOURCE + 3]!) !== words[w + SOURCE + 2]) continue;
      const wanted = words[w + PROTOCOL]!;
      if (wanted === -1 || wanted === protocol) return words[w + RESULT]!;
    }
    return NO_POLICY;
  }

  #lookup6(view: DataView, ipAt: number): number {
    const { words, count, byProtocol } = this.#v6;
    if (count === 0) return NO_POLICY;
    const protocol = byProtocol ? upperProtocol6(view, ipAt) : -1;
    for (let i = 0, w = 0; i < count; i++, w += 18) {
      const wanted = words[w + PROTOCOL]!;
      if (wanted !== -1 && wanted !== protocol) continue;
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
}

/** Next header behind hop-by-hop (0), routing (43), fragment (44, first fragment) and destination options (60); -1 when cut short. */
function upperProtocol6(view: DataView, ipAt: number): number {
  const end = Math.min(ipAt + 40 + view.getUint16(ipAt + 4), view.byteLength);
  let next = view.getUint8(ipAt + 6);
  let at = ipAt + 40;
  while (next === 0 || next === 43 || next === 44 || next === 60) {
    if (at + 8 > end) return -1;
    // Behind a later fragment's header lies the middle of something: its protocol is known, its ports are not.
    const length = next === 44 ? 8 : 8 * (view.getUint8(at + 1) + 1);
    const later = next === 44 && view.getUint16(at + 2) >= 8;
    next = view.getUint8(at);
    at += length;
    if (later) break;
  }
  return next;
}

function checkPolicy(policy: PolicyTicket, i: number): void {
  const { source, sourceBits, destination, destinationBits, protocol, action, slot } = policy;
  const family = source.length;
  if ((family !== 4 && family !== 16) || destination.length !== family)
    throw new RangeError(`policy ${i}: source and destination must both have 4 or both 16 bytes`);
  for (const bits of [sourceBits, destinationBits])
    if (!Number.isInteger(bits) || bits < 0 || bits > family * 8)
      throw new RangeError(`policy ${i}: a prefix of ${bits} bits does not fit ${family * 8}`);
  if (protocol !== null && (!Number.isInteger(protocol) || protocol < 0 || protocol > 255))
    throw new RangeError(`policy ${i}: protocol ${protocol} is not from 0 to 255`);
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
    writePrefix(words, w + SOURCE, p.source, p.sourceBits);
    writePrefix(words, w + SOURCE + 2 * k, p.destination, p.destinationBits);
  });
  return { words, count: mine.length, stride, byProtocol: mine.some((p) => p.protocol !== null) };
}

function resultOf(policy: PolicyTicket): number {
  if (policy.action === 'protect') return policy.slot;
  return policy.action === 'bypass' ? PolicyAction.BYPASS : PolicyAction.DISCARD;
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
