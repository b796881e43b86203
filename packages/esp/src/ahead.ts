import { Resync } from '@espalier/replay';
import { type Burst, type FrameSlab, Row, RowState } from '@espalier/wire';
import { type CryptoEngine, XfrmError } from '@espalier/xfrm';
import type { EspInbound } from './inbound.ts';

/** What a resynchronisation may cost at most. */
export interface ResyncBounds {
  /** Received frames that are tried; 1 when absent. */
  readonly frames?: number;
  /** Subspaces of 2^32 numbers beyond the inferred one that each is tried in, 1 to 64; 8 when absent. */
  readonly attempts?: number;
}

/** The frames of one SA that are tried under later high halves (RFC 4303 A3), because the caller has asked for it. */
export class Ahead {
  readonly #sa: EspInbound;
  readonly #engine: CryptoEngine;
  readonly #numbers: Resync;
  readonly #one: Burst;
  #frames: number;

  /** Throws XfrmError UNSUPPORTED without ESN, RangeError on bounds that are none. */
  constructor(sa: EspInbound, engine: CryptoEngine, slab: FrameSlab, { frames = 1, attempts = 8 }: ResyncBounds) {
    if (!sa.ticket.esn)
      throw new XfrmError({ code: 'UNSUPPORTED', device: 'espalier', what: 'resynchronisation without ESN' });
    if (!Number.isInteger(frames) || frames < 1)
      throw new RangeError(`"frames" must be a positive integer, got ${frames}`);
    this.#sa = sa;
    this.#engine = engine;
    this.#numbers = new Resync(sa.window, { attempts });
    this.#one = { slab, rows: slab.rows, list: new Int32Array(1), length: 1 };
    this.#frames = frames;
  }

  /** Nothing more is to be tried: the bound is reached, or an ICV has held. */
  get over(): boolean {
    return this.#frames === 0;
  }

  /** Opens a RECEIVED row under the half it has and then under later ones: OPENED with the half that held, or ICV_BAD. */
  try(row: number): void {
    const { rows, bytes } = this.#one.slab;
    const r = row * Row.WORDS;
    const esp = rows[r + Row.ESP]!;
    const inferred = rows[r + Row.SEQ_HI]!;
    // Each failure wipes the payload.
    const frame = bytes.slice(esp, rows[r + Row.END]!);
    this.#one.list[0] = row;
    this.#frames--;
    let hi = inferred;
    for (let attempt = 1; ; attempt++) {
      rows[r + Row.KEY] = this.#sa.key;
      rows[r + Row.SEQ_HI] = hi;
      rows[r + Row.STATE] = RowState.RECEIVED;
      bytes.set(frame, esp);
      this.#engine.open(this.#one);
      if (rows[r + Row.STATE] === RowState.OPENED) {
        this.#frames = 0;
        return;
      }
      const number = this.#numbers.candidate(rows[r + Row.SEQ_LO]! >>> 0, attempt);
      if (number < 0) break;
      hi = Math.floor(number / 0x1_0000_0000);
    }
    rows[r + Row.SEQ_HI] = inferred;
  }
}
