/**
 * How much one key may do before an attacker's advantage passes `advantage`, from what is proved of each mode for one key.
 * L is the length of a packet in 16-byte blocks, q the packets sealed, v the forgeries tried.
 *
 *   AES-GCM            q (L + 1) <= sqrt(p) 2^64.5 - 1,  v <= p 2^(t-1) / (L + 1)    draft-irtf-cfrg-aead-limits 5.1
 *   ChaCha20-Poly1305  no bound on q,                    v <= p 2^103 / (L + 1)      ditto 5.2
 *   AES-CCM            2 L q <= sqrt(p) 2^64,            v 2^(128-t) + (2 L (v + q))^2 <= p 2^128    ditto 5.3, 5.4
 *   AES-GMAC           nothing is hidden,                v <= p 2^(t-1) / (L + 1)    as GCM
 *   AES-CBC, AES-CTR   q L <= sqrt(p) 2^64.5             the birthday bound of a 128-bit block (SP 800-38A users' rule)
 *   HMAC               v <= p 2^t                        t bits are guessed, RFC 2104 6
 *
 * t is the ICV in bits. The default advantage, 2^-57, is what TLS 1.3 and QUIC aim at (RFC 8446 5.5, RFC 9001 B.1); an ICV of
 * 64 bits cannot give that for more than a few forgeries, so that whoever uses one chooses a greater advantage too, or lets
 * an attacker end the SA.
 */
import { ALGORITHMS, type AlgorithmName } from '@espalier/xfrm';

export interface KeyLimits {
  /** Packets that may be sealed; Infinity where the proof has no bound. A sequence number ends sooner in any case. */
  readonly packets: number;
  /** Failed ICVs after which a receiver should ask for a new key, all workers and replicas together. */
  readonly forgeries: number;
}

export interface LimitOptions {
  /** Bytes of the longest packet, ESP header and ICV left out; 1500 when absent. */
  readonly length?: number;
  /** Greatest advantage, for secrecy and for integrity each; 2^-57 when absent. */
  readonly advantage?: number;
}

/** Throws RangeError when length or advantage make no sense. */
export function keyLimits(algorithm: AlgorithmName, options: LimitOptions = {}): KeyLimits {
  const { length = 1500, advantage: p = 2 ** -57 } = options;
  if (!(length >= 1)) throw new RangeError(`"length" must be at least 1 byte, got ${length}`);
  if (!(p > 0 && p < 1)) throw new RangeError(`"advantage" must be between 0 and 1, got ${p}`);
  const { cipher, icvLength } = ALGORITHMS[algorithm];
  const t = icvLength * 8;
  // The associated data, 12 bytes at most, is a block more.
  const L = Math.ceil(length / 16) + 1;
  const never = Number.POSITIVE_INFINITY;
  switch (cipher) {
    case 'aes-gcm':
      return limits((Math.sqrt(p) * 2 ** 64.5 - 1) / (L + 1), (p * 2 ** (t - 1)) / (L + 1));
    case 'aes-gmac':
      return limits(never, (p * 2 ** (t - 1)) / (L + 1));
    case 'chacha20-poly1305':
      return limits(never, (p * 2 ** 103) / (L + 1));
    case 'aes-ccm': {
      // One bound for both: half of it to the guesses at the ICV; of the other half v takes what it can use, q the rest.
      const together = (Math.sqrt(p / 2) * 2 ** 63) / L;
      const v = Math.min(together / 2, (p / 2) * 2 ** t);
      return limits(together - v, v);
    }
    default:
      return limits(cipher === 'null' ? never : (Math.sqrt(p) * 2 ** 64.5) / L, p * 2 ** t);
  }
}

/** At least one of each: a limit of 0 would forbid the SA. */
function limits(packets: number, forgeries: number): KeyLimits {
  return { packets: Math.max(1, Math.floor(packets)), forgeries: Math.max(1, Math.floor(forgeries)) };
}
