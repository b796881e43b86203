/** A token bucket on the caller's clock: at most `perSecond` a second in the long run, `burst` at once. One worker's. */
export class RateLimit {
  readonly perSecond: number;
  readonly burst: number;
  #tokens: number;
  #at = Number.NaN;

  constructor(perSecond: number, burst: number = Math.max(1, perSecond)) {
    if (!(perSecond >= 0) || !(burst >= 0))
      throw new RangeError(`rate ${perSecond} and burst ${burst} must not be below 0`);
    this.perSecond = perSecond;
    this.burst = burst;
    this.#tokens = burst;
  }

  /** Tells the time, milliseconds of a clock that does not go back (a step back counts as no time at all). */
  tick(nowMs: number): void {
    const passed = nowMs - this.#at;
    if (passed > 0) this.#tokens = Math.min(this.burst, this.#tokens + (passed * this.perSecond) / 1000);
    if (!(passed <= 0)) this.#at = nowMs;
  }

  /** Whether one more may happen now. */
  take(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}
