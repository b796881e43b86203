import { WindowWord } from './layout.ts';

const ACCEPTED = 0;
const LATE = 1;
/** Float64 in the header and in a worker's line. */
const BASE = WindowWord.BASE / 2;
const WORKER = WindowWord.WORKER / 2;
const LINE = WindowWord.WORDS_PER_WORKER / 2;

/**
 * What the workers of a window have accepted, and how late it was: each writes a line of its own, once per burst, and
 * whoever asks adds them up. Exact while nobody commits; a killed worker hides at most one burst.
 */
export class Accounts {
  readonly #cells: Float64Array;
  readonly #workers: number;
  readonly #mine: number;

  /** `words` begin where the window does. */
  constructor(words: Int32Array, workers: number, worker: number) {
    this.#cells = new Float64Array(words.buffer, words.byteOffset, WORKER + workers * LINE);
    this.#workers = workers;
    this.#mine = WORKER + worker * LINE;
  }

  /** This worker has accepted `count` more. */
  add(count: number): void {
    const at = this.#mine + ACCEPTED;
    this.#cells[at] = this.#cells[at]! + count;
  }

  /** This worker has accepted one that lay this far behind. */
  late(behind: number): void {
    const at = this.#mine + LATE;
    if (behind > this.#cells[at]!) this.#cells[at] = behind;
  }

  /** By all workers. */
  accepted(): number {
    let sum = 0;
    for (let w = 0; w < this.#workers; w++) sum += this.#cells[WORKER + w * LINE + ACCEPTED]!;
    return sum;
  }

  /** The latest of all workers. */
  lateness(): number {
    let most = 0;
    for (let w = 0; w < this.#workers; w++) most = Math.max(most, this.#cells[WORKER + w * LINE + LATE]!);
    return most;
  }

  /** From here on losses count: after number `from`, when so many had been accepted and lost. */
  rebase(from: number, accepted: number, lost: number): void {
    this.#cells[BASE] = from;
    this.#cells[BASE + 1] = accepted;
    this.#cells[BASE + 2] = lost;
  }

  get from(): number {
    return this.#cells[BASE]!;
  }

  /** Numbers lost when so many have left the window since `from`, and `inside` of those accepted are in it still. */
  lost(left: number, inside: number): number {
    const gone = this.accepted() - this.#cells[BASE + 1]! - inside;
    return this.#cells[BASE + 2]! + Math.max(0, left - gone);
  }
}
