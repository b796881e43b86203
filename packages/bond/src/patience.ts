/** Bounds on waiting, in the time of `tick`: the bond has no clock. */
export class Patience {
  /** Milliseconds, as last told. */
  now = 0;
  readonly #waits: Set<{ readonly due: number; readonly over: () => void }> = new Set();

  /** Calls `over` at the first tick `ms` from now or later, unless the returned function is called before. */
  after(ms: number, over: () => void): () => void {
    const wait = { due: this.now + ms, over };
    this.#waits.add(wait);
    return () => {
      this.#waits.delete(wait);
    };
  }

  /** What `work` comes to, or a rejection with `late()` once `ms` are over; `work` is then on its own. */
  bound<T>(work: Promise<T>, ms: number, late: () => Error): Promise<T> {
    return new Promise((resolve, reject) => {
      const done = this.after(ms, () => reject(late()));
      work.then(
        (value) => {
          done();
          resolve(value);
        },
        (error) => {
          done();
          reject(error);
        },
      );
    });
  }

  tick(now: number): void {
    this.now = now;
    for (const wait of [...this.#waits]) {
      if (wait.due > now || !this.#waits.delete(wait)) continue;
      wait.over();
    }
  }

  /** Everything that is waited for is over now. */
  end(): void {
    for (const wait of [...this.#waits]) if (this.#waits.delete(wait)) wait.over();
  }
}
