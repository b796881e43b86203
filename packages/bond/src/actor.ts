/** One thing after another: the bond's one queue. */
export class Actor {
  #last: Promise<unknown> = Promise.resolve();
  /** What `soon` was given waits and has not begun. */
  #waits = false;

  /** Does a step when all before it have ended, however they ended. */
  run<T>(step: () => Promise<T>): Promise<T> {
    const done = this.#last.then(() => {
      this.#waits = false;
      return step();
    });
    this.#last = done.catch(() => undefined);
    return done;
  }

  /** The same for a step of which one that has not begun is enough, and whose failure nobody waits for. */
  soon(step: () => Promise<void>): void {
    if (this.#waits) return;
    const done = this.run(step);
    this.#waits = true;
    done.catch(() => undefined);
  }

  /** Resolves when everything asked for so far, and what that asked for, has ended. */
  async settled(): Promise<void> {
    for (let seen: unknown = null; seen !== this.#last; ) {
      seen = this.#last;
      await seen;
    }
  }
}
