/** One SA on one lower, from ABSENT to FREED, and the SA that the bond answers for. */
import { type LowerDevice, type LowerHandle, type Sa, type SaStats, XfrmError } from '@espalier/xfrm';
import { ReplicaCounts } from './counts.ts';
import { limitsOf } from './veto.ts';

/**
 *   ABSENT -> ADDING -> READY -> DRAINING -> DELETED -> FREED
 *      ^---------'|                 ^
 *       refused   '-----------------'  answered when nobody wanted it any more
 *
 * READY is resolvable once shown; DRAINING is not, though bursts under way may still use the handle; DELETED has no new use,
 * though frames may still be on their way out. Whoever takes a replica out of READY owns what follows; ADDING is owned by
 * the add's completion alone.
 */
export type ReplicaState = 'ABSENT' | 'ADDING' | 'READY' | 'DRAINING' | 'DELETED' | 'FREED';

const NEXT: Readonly<Record<ReplicaState, readonly ReplicaState[]>> = {
  ABSENT: ['ADDING'],
  ADDING: ['READY', 'DRAINING', 'ABSENT'],
  READY: ['DRAINING'],
  DRAINING: ['DELETED'],
  DELETED: ['FREED'],
  FREED: [],
};

/** An ESN step: lowers tell the high half from the left edge's multiple of this (kernel drivers: esn_msb and overlap). */
const ESN_STEP = 2 ** 31;

/** An add that was ended because nobody wants its replica any more: no refusal of the lower's. */
export class Unwanted extends XfrmError {
  constructor(what: string) {
    super({ code: 'ABORTED', what });
  }
}

/** Counters of one SA on one lower through one worker's port. */
export interface ReplicaStats extends SaStats {
  readonly lower: number;
  readonly worker: number;
}

/** An SA the bond answers for. */
export class SaEntry {
  readonly sa: Sa;
  /** By lower: ADDING, READY or DRAINING. */
  readonly replicas: Map<number, Replica> = new Map();
  /** Lowers whose replica was withdrawn by hand. */
  readonly withheld: Set<number> = new Set();
  /** By lower: counters of every replica there has been. */
  readonly counts: Map<number, ReplicaCounts> = new Map();
  dead = false;
  #bottom = 0;

  constructor(sa: Sa) {
    this.sa = sa;
  }

  /** The window's left edge as far as anybody has said; never goes back. */
  bottom(): number {
    const now = this.sa.bottom?.() ?? 0;
    if (now > this.#bottom) this.#bottom = now;
    return this.#bottom;
  }

  raise(bottom: number): void {
    if (bottom > this.#bottom) this.#bottom = bottom;
  }

  ready(lower: number): boolean {
    return this.replicas.get(lower)?.state === 'READY';
  }

  countsOn(lower: LowerDevice): ReplicaCounts {
    let counts = this.counts.get(lower.index);
    if (counts === undefined || counts.ports < lower.ports) {
      counts = new ReplicaCounts(lower.ports, counts);
      this.counts.set(lower.index, counts);
    }
    return counts;
  }

  /** Over all lowers and workers; never goes back. */
  readStats(into: SaStats): void {
    into.packets = 0;
    into.bytes = 0;
    into.icvFailures = 0;
    for (const counts of this.counts.values()) counts.addTo(-1, into);
  }

  /** The same taken apart. */
  replicaStats(): ReplicaStats[] {
    const all: ReplicaStats[] = [];
    for (const [lower, counts] of this.counts)
      for (let worker = 0; worker < counts.ports; worker++) {
        const one = { lower, worker, packets: 0, bytes: 0, icvFailures: 0 };
        counts.addTo(worker, one);
        all.push(one);
      }
    return all;
  }
}

/** An add has ended without becoming READY. `again`: the lower took it, only too late, and may be asked again. */
export type Orphan = (replica: Replica, failure: unknown, again: boolean) => void;

export class Replica {
  readonly entry: SaEntry;
  readonly lower: LowerDevice;
  /** Workers may resolve it. */
  shown = false;
  /** DELETED, and the last frame is out. */
  drained = true;
  handle: LowerHandle = 0;
  #state: ReplicaState = 'ABSENT';
  #told = 0;
  #freeing = false;
  #limits: readonly number[] | null = null;
  #giveUp: ((why: XfrmError) => void) | null = null;

  constructor(entry: SaEntry, lower: LowerDevice) {
    this.entry = entry;
    this.lower = lower;
  }

  get state(): ReplicaState {
    return this.#state;
  }

  /**
   * Resolves when READY. Rejects when the lower refuses, or at once when `giveUp` is called: then an answer that comes all
   * the same is undone by its completion, and `orphan` is told when that is over.
   */
  add(signal: AbortSignal, orphan: Orphan): Promise<void> {
    this.#move('ADDING');
    return new Promise((resolve, reject) => {
      let unwanted = false;
      this.#giveUp = (why) => {
        unwanted = true;
        reject(why);
      };
      const takeBack = (why: unknown, again: boolean): void => {
        const over = (failure: unknown): void => {
          orphan(this, failure, again);
          reject(why);
        };
        this.#undo().then(() => over(null), over);
      };
      this.lower.xfrm!.stateAdd(this.entry.sa, signal).then(
        (handle) => {
          this.#giveUp = null;
          this.handle = handle;
          // Much may have happened since it was asked: the SA killed, the lower gone, the patience over.
          if (unwanted || this.entry.dead) {
            takeBack(new Unwanted('the SA is gone'), true);
            return;
          }
          try {
            // Before READY: the edge may have moved while the lower was busy.
            this.tell();
          } catch (error) {
            takeBack(error, false);
            return;
          }
          this.#move('READY');
          this.entry.countsOn(this.lower).follow(this);
          resolve();
        },
        (error) => {
          this.#giveUp = null;
          this.#move('ABSENT');
          reject(error);
          if (unwanted) orphan(this, null, false);
        },
      );
    });
  }

  /** ADDING: nobody waits for it any more; true. Otherwise nothing; false. */
  giveUp(why: XfrmError): boolean {
    const { state } = this;
    if (state !== 'ADDING' || this.#giveUp === null) return false;
    this.#giveUp(why);
    this.#giveUp = null;
    return true;
  }

  /** Tells the lower the window's left edge if that has crossed a multiple of 2^31 since it was last told. */
  tell(): void {
    const bottom = this.entry.bottom();
    const step = Math.floor(bottom / ESN_STEP);
    if (step <= this.#told || !this.entry.sa.esn) return;
    this.lower.xfrm!.advanceEsn(this.handle, bottom);
    this.#told = step;
  }

  /** Longest packet that the lower takes, per set of L3Flag. */
  limits(): readonly number[] {
    this.#limits ??= limitsOf(this.lower.xfrm!, this.entry.sa);
    return this.#limits;
  }

  /** READY to DRAINING. */
  hide(): void {
    if (this.#state === 'DRAINING') return;
    this.#move('DRAINING');
    this.shown = false;
    this.drained = false;
  }

  /** To DELETED: exactly once. A lower that does not obey leaves it DRAINING; `free` asks again. */
  delete(): void {
    if (this.#state !== 'READY' && this.#state !== 'DRAINING' && this.#state !== 'ADDING')
      throw new TypeError(`delete of a replica that is ${this.#state}`);
    if (this.#state !== 'DRAINING') this.#move('DRAINING');
    this.lower.xfrm!.stateDelete(this.handle);
    this.#move('DELETED');
  }

  /** To FREED, after delete and the last frame: exactly once. What fails leaves it as it is, to be asked again. */
  async free(): Promise<void> {
    if (this.#state === 'DRAINING') this.delete();
    if (this.#state !== 'DELETED' || this.#freeing)
      throw new TypeError(`free of a replica that is ${this.#freeing ? 'being freed' : this.#state}`);
    this.entry.countsOn(this.lower).fold(this);
    this.#freeing = true;
    try {
      await this.lower.xfrm!.stateFree(this.handle);
      this.#move('FREED');
    } finally {
      this.#freeing = false;
    }
  }

  /** A free is under way. */
  get freeing(): boolean {
    return this.#freeing;
  }

  /** Absolute counts of one port of the lower since READY; `port` -1 = all together. */
  read(port: number, into: SaStats): void {
    if (port < 0) this.lower.xfrm!.updateStats(this.handle, into);
    else this.lower.xfrm!.updatePortStats!(this.handle, port, into);
  }

  async #undo(): Promise<void> {
    this.delete();
    await this.free();
  }

  #move(to: ReplicaState): void {
    if (!NEXT[this.#state].includes(to)) throw new TypeError(`a replica cannot go from ${this.#state} to ${to}`);
    this.#state = to;
  }
}
