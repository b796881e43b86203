import { type Burst, type FramePool, Row, RowState } from '@espalier/wire';
import { DropReason, type HandleSource, type Port } from '@espalier/xfrm';

/** A slave that obeys the seam and does nothing else: no handle, no packet; what it takes is gone at once. */
export class NullPort implements Port {
  readonly fd = -1;
  taken = 0;
  readonly #lower: number;
  readonly #handles: HandleSource | null;
  readonly #pool: FramePool | null;

  /** Without handles it takes whatever comes; without a pool, frames stay the caller's. */
  constructor(lower: number, handles: HandleSource | null, pool: FramePool | null) {
    this.#lower = lower;
    this.#handles = handles;
    this.#pool = pool;
  }

  xmit(burst: Burst): number {
    const { rows, list, length } = burst;
    let taken = 0;
    for (let i = 0; i < length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      if (this.#handles !== null && rows[r + Row.STATE] === RowState.TO_SEAL) {
        if (this.#handles.resolve(rows[r + Row.SA]!, this.#lower) === 0) {
          rows[r + Row.FATE] = DropReason.NO_LOWER_HANDLE;
          continue;
        }
      }
      this.#pool?.give(list[i]!);
      taken++;
    }
    this.taken += taken;
    return taken;
  }

  poll(): number {
    return 0;
  }

  reap(): number {
    return 0;
  }

  room(): number {
    return Number.MAX_SAFE_INTEGER;
  }

  close(): void {}
}
