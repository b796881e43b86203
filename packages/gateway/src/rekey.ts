/**
 * Make before break (RFC 7296 2.8), with keys that somebody else brings:
 *
 *     INSTALLED   the new SAs are in, inbound ones first; what goes out still goes by the old ones
 *     SWITCHED    what goes out goes by the new ones; the old inbound ones still take what is under way
 *     DONE        the old ones are gone
 *
 * Going on is safe when the peer's new inbound SAs are in. Without IKE nobody says so, but it shows: a peer that keeps to
 * the same order sends by its new SAs only once they are. So the switch comes with the first authentic packet on a new
 * inbound SA, or `switchAfterMs` after the installation: the time to tell the peer. An old inbound SA goes `overlapMs` after
 * the switch or after the last packet on one of them, whichever is later; its hard lifetime ends it sooner.
 */
export interface RekeyOptions {
  /** Milliseconds until the switch when nothing is heard of the peer; Infinity = only by `switchNow`. 10 s when absent. */
  readonly switchAfterMs?: number;
  /** Milliseconds that the old SAs are kept: more than the skew of the links and what lies in queues. 30 s when absent. */
  readonly overlapMs?: number;
}

/** What a rekey does and sees of its gateway. */
export interface RekeyHands {
  readonly now: () => number;
  /** Packets that the SAs of these names have let in so far. */
  packets(inbound: readonly string[]): number;
  switchOutbound(from: string, to: string): Promise<void>;
  remove(sa: string): Promise<void>;
  tell(phase: 'switched' | 'done' | 'failed', error?: Error): void;
}

export interface Succession {
  readonly direction: 'in' | 'out';
  readonly from: string;
  readonly to: string;
}

export type RekeyPhase = 'installed' | 'switched' | 'done' | 'failed';

/** Complete. Throws RangeError on times that make no sense: to be asked before anything is installed. */
export function rekeyTimes(options: RekeyOptions): Required<RekeyOptions> {
  const { switchAfterMs = 10_000, overlapMs = 30_000 } = options;
  for (const [name, ms] of Object.entries({ switchAfterMs, overlapMs }))
    if (!(ms >= 0)) throw new RangeError(`"${name}" must be milliseconds, got ${ms}`);
  return { switchAfterMs, overlapMs };
}

export class Rekey {
  readonly successions: readonly Succession[];
  /** Resolves when the old SAs are gone; rejects when that could not be done: then what was there still is. */
  readonly done: Promise<void>;
  readonly #hands: RekeyHands;
  readonly #overlapMs: number;
  readonly #switchAt: number;
  readonly #oldIn: readonly string[];
  readonly #newIn: readonly string[];
  #phase: RekeyPhase = 'installed';
  #step: Promise<void> | null = null;
  /** Packets on the old inbound SAs when last looked at, and when there was the last one. */
  #seen = 0;
  #quietSince = 0;
  #end!: { resolve(): void; reject(error: Error): void };

  /** The new SAs are in. */
  constructor(successions: readonly Succession[], hands: RekeyHands, times: Required<RekeyOptions>) {
    const { switchAfterMs, overlapMs } = times;
    this.successions = successions;
    this.#hands = hands;
    this.#overlapMs = overlapMs;
    this.#switchAt = hands.now() + switchAfterMs;
    const inbound = successions.filter((s) => s.direction === 'in');
    this.#oldIn = inbound.map((s) => s.from);
    this.#newIn = inbound.map((s) => s.to);
    this.done = new Promise((resolve, reject) => {
      this.#end = { resolve, reject };
    });
    // Whoever does not wait for it hears of a failure by event.
    this.done.catch(() => undefined);
  }

  get phase(): RekeyPhase {
    return this.#phase;
  }

  /** The peer's new inbound SAs are known to be in: switches without waiting. Resolves when every worker has. */
  switchNow(): Promise<void> {
    this.#step ??= this.#switch();
    return this.#step;
  }

  /** Ends it where it is: the gateway stops. */
  abandon(why: Error): void {
    this.#fail(why);
  }

  /** Time passes; called by the gateway. What goes wrong ends this rekey and nothing else. */
  tick(): void {
    try {
      this.#look();
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #look(): void {
    const now = this.#hands.now();
    if (this.#phase === 'installed') {
      // A switch that is under way ends by itself, well or not.
      if (this.#step !== null) return;
      if (now >= this.#switchAt || this.#hands.packets(this.#newIn) > 0) this.switchNow().catch(() => undefined);
    } else if (this.#phase === 'switched') {
      const seen = this.#hands.packets(this.#oldIn);
      if (seen !== this.#seen) this.#quietSince = now;
      this.#seen = seen;
      if (now - this.#quietSince >= this.#overlapMs) this.#finish();
    }
  }

  async #switch(): Promise<void> {
    const outbound = this.successions.filter((s) => s.direction === 'out');
    let done = 0;
    try {
      for (; done < outbound.length; done++) await this.#hands.switchOutbound(outbound[done]!.from, outbound[done]!.to);
      this.#seen = this.#hands.packets(this.#oldIn);
    } catch (error) {
      for (const { from, to } of outbound.slice(0, done).reverse())
        await this.#hands.switchOutbound(to, from).catch(() => undefined);
      this.#fail(error as Error);
      throw error;
    }
    this.#quietSince = this.#hands.now();
    this.#phase = 'switched';
    this.#hands.tell('switched');
  }

  #finish(): void {
    this.#phase = 'done';
    const gone = async (): Promise<void> => {
      for (const { from } of this.successions) await this.#hands.remove(from);
      this.#hands.tell('done');
    };
    gone().then(this.#end.resolve, (error: Error) => this.#fail(error));
  }

  #fail(error: Error): void {
    if (this.#phase === 'failed') return;
    this.#phase = 'failed';
    // One that has failed before its switch does not switch any more.
    this.#step ??= this.done;
    this.#hands.tell('failed', error);
    this.#end.reject(error);
  }
}
