import { TWO_32 } from './esn.ts';
import type { ReplayWindow } from './window.ts';

export interface ResyncOptions {
  /** Failed ICVs in a row after which a packet is tried further ahead. Default 1024. */
  readonly threshold?: number;
  /** How many subspaces of 2^32 numbers ahead one packet is tried in. Default 8. */
  readonly attempts?: number;
}

/**
 * Resynchronisation after the loss of more than 2^32 packets in a row (RFC 4303 Appendix A3), for one SA on one worker.
 * Such a receiver infers a high half that is too low, for ever. After `threshold` failed ICVs in a row one packet is tried
 * under the next high halves, `attempts` of them at most, and then the count begins anew: so a forger gains at most
 * `attempts` extra ICVs per `threshold` packets. Nothing moves until an ICV holds and its number is committed.
 *
 *     if (icvHolds) resync.held();
 *     else if (resync.failed())
 *       for (let i = 1; (number = resync.candidate(seqLo, i)) > 0; i++) if (verify(number)) { window.commit(number); break; }
 */
export class Resync {
  readonly #window: ReplayWindow;
  readonly #threshold: number;
  readonly #attempts: number;
  #failures = 0;

  constructor(window: ReplayWindow, options: ResyncOptions = {}) {
    const { threshold = 1024, attempts = 8 } = options;
    if (!Number.isInteger(threshold) || threshold < 1)
      throw new RangeError(`"threshold" must be at least 1, got ${threshold}`);
    if (!Number.isInteger(attempts) || attempts < 1 || attempts > 64)
      throw new RangeError(`"attempts" must be from 1 to 64, got ${attempts}`);
    this.#window = window;
    this.#threshold = threshold;
    this.#attempts = attempts;
  }

  /** An ICV held: the high half is right. */
  held(): void {
    this.#failures = 0;
  }

  /** An ICV failed; returns whether this packet should be tried under the candidates. Never without ESN. */
  failed(): boolean {
    if (!this.#window.esn || ++this.#failures < this.#threshold) return false;
    this.#failures = 0;
    return true;
  }

  /** The number of the `attempt`-th subspace ahead, from 1; -1 beyond the last attempt or LIMIT. */
  candidate(seqLo: number, attempt: number): number {
    if (attempt > this.#attempts) return -1;
    const bottom = this.#window.top() - this.#window.size + 1;
    const inferred = bottom + ((seqLo - (bottom % TWO_32) + 2 * TWO_32) % TWO_32);
    const number = inferred + attempt * TWO_32;
    return number <= this.#window.limit ? number : -1;
  }
}
