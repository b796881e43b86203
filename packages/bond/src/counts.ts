/** Counters of one SA on one lower, per worker, over every replica there has been: they never go back. */
import type { SaStats } from '@espalier/xfrm';

/** What is asked of a replica. */
export interface Counted {
  readonly lower: { readonly ports: number; readonly xfrm: { readonly updatePortStats?: unknown } | null };
  /** Absolute counts of one port; -1 = all ports together. Throws when the lower does not know any more. */
  read(port: number, into: SaStats): void;
}

const COLUMNS = 3;
const scratch: SaStats = { packets: 0, bytes: 0, icvFailures: 0 };

export class ReplicaCounts {
  readonly ports: number;
  /** Of replicas that are gone. */
  readonly #folded: Float64Array;
  /** Of those that are not: the highest reading so far, so that a lower that slips does not take totals with it. */
  readonly #live: Map<Counted, Float64Array> = new Map();

  constructor(ports: number, before?: ReplicaCounts) {
    this.ports = ports;
    this.#folded = new Float64Array(ports * COLUMNS);
    if (before === undefined) return;
    this.#folded.set(before.#folded);
    for (const [one, seen] of before.#live) {
      const wider = new Float64Array(ports * COLUMNS);
      wider.set(seen);
      this.#live.set(one, wider);
    }
  }

  /** A replica has become READY. */
  follow(one: Counted): void {
    this.#live.set(one, new Float64Array(this.ports * COLUMNS));
  }

  /** A replica is about to be freed: what it counted stays. */
  fold(one: Counted): void {
    const seen = this.#look(one);
    if (seen === null) return;
    for (let i = 0; i < seen.length; i++) this.#folded[i] = this.#folded[i]! + seen[i]!;
    this.#live.delete(one);
  }

  /** Adds the counts of one worker, or of all (-1), to `into`. A lower that cannot tell ports apart counts as worker 0. */
  addTo(worker: number, into: SaStats): void {
    this.#sum(this.#folded, worker, into);
    for (const one of this.#live.keys()) this.#sum(this.#look(one)!, worker, into);
  }

  #sum(columns: Float64Array, worker: number, into: SaStats): void {
    const from = Math.max(worker, 0);
    const to = worker < 0 ? this.ports : worker + 1;
    for (let port = from; port < to && port < this.ports; port++) {
      into.packets += columns[port * COLUMNS]!;
      into.bytes += columns[port * COLUMNS + 1]!;
      into.icvFailures += columns[port * COLUMNS + 2]!;
    }
  }

  #look(one: Counted): Float64Array | null {
    const seen = this.#live.get(one);
    if (seen === undefined) return null;
    const apart = one.lower.xfrm?.updatePortStats !== undefined;
    try {
      for (let port = 0; port < (apart ? one.lower.ports : 1); port++) {
        one.read(apart ? port : -1, scratch);
        const c = port * COLUMNS;
        seen[c] = Math.max(seen[c]!, scratch.packets);
        seen[c + 1] = Math.max(seen[c + 1]!, scratch.bytes);
        seen[c + 2] = Math.max(seen[c + 2]!, scratch.icvFailures);
      }
    } catch {
      // It is gone from its lower: what was last seen is what is known.
    }
    return seen;
  }
}
