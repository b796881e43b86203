/** Bounds on waiting, in the time of `tick`: the bond has no clock. */
export class Patience {
  /** Milliseconds since the first tick: what was waited for before it has waited for nothing yet. */
  now = 0;
  #first: number | null = null;
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

  tick(ms: number): void {
    this.#first ??= ms;
    this.now = ms - this.#first;
    for (const wait of [...this.#waits]) {
      if (wait.due > this.now || !this.#waits.delete(wait)) continue;
      wait.over();
    }
  }
}
