import { type Burst, ESP_HEADER_LENGTH, Row, RowState } from '@espalier/wire';
import {
  ALGORITHM_NAMES,
  ALGORITHMS,
  type AlgorithmName,
  type CryptoEngine,
  type EngineKeyOptions,
  keyParts,
  type SaKey,
  XfrmError,
} from '@espalier/xfrm';
import { type CipherSuite, has, makeTransform, type Transform } from './transform.ts';

export interface EngineOptions {
  /** Also the transforms that are for old peers only (HMAC-SHA1); false when absent. */
  readonly legacy?: boolean;
  /** Keys are numbered from here on, 1 when absent: two engines whose numbers do not meet can work on one burst. */
  readonly firstKey?: number;
}

interface Key {
  readonly transform: Transform;
  readonly ivLength: number;
  readonly icvLength: number;
  readonly esn: boolean;
}

/** A CryptoEngine over what a library offers, packet by packet: the rows, the keys, and what a bad ICV does. */
export class RowEngine implements CryptoEngine {
  readonly name: string;
  readonly algorithms: readonly AlgorithmName[];
  readonly #suite: CipherSuite;
  readonly #keys: (Key | null)[] = [null];
  /** Key number n lies at n - base. */
  readonly #base: number;
  readonly #free: number[] = [];

  constructor(name: string, suite: CipherSuite, options: EngineOptions = {}) {
    this.name = name;
    this.#suite = suite;
    const { legacy = false, firstKey = 1 } = options;
    this.#base = firstKey - 1;
    this.algorithms = ALGORITHM_NAMES.filter((n) => has(suite, ALGORITHMS[n]) && (legacy || !ALGORITHMS[n].legacy));
  }

  install(algorithm: AlgorithmName, key: SaKey, options: EngineKeyOptions): number {
    if (!this.algorithms.includes(algorithm)) throw this.#unsupported(algorithm);
    const { ivLength, icvLength } = ALGORITHMS[algorithm];
    if ((options.icvLength ?? icvLength) !== icvLength)
      throw this.#unsupported(`${algorithm} with an ICV of ${options.icvLength} bytes`);
    const { esn } = options;
    const material = key.reveal().slice();
    const transform = makeTransform(this.#suite, ALGORITHMS[algorithm], keyParts(algorithm, material), esn);
    material.fill(0);
    const number = this.#free.pop() ?? this.#base + this.#keys.length;
    this.#keys[number - this.#base] = { transform, ivLength, icvLength, esn };
    return number;
  }

  remove(key: number): void {
    const entry = this.#keyOf(key);
    if (!entry) throw new RangeError(`no key ${key} in engine ${this.name}`);
    entry.transform.destroy();
    this.#keys[key - this.#base] = null;
    this.#free.push(key);
  }

  seal(burst: Burst): void {
    const { rows, list, slab } = burst;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.STATE] !== RowState.TO_SEAL || rows[r + Row.FATE] !== 0) continue;
      const key = this.#keyOf(rows[r + Row.KEY]!);
      if (!key) continue;
      const end = rows[r + Row.END]! - key.icvLength;
      key.transform.seal(slab, rows[r + Row.ESP]!, end, rows[r + Row.SEQ_LO]!, key.esn ? rows[r + Row.SEQ_HI]! : 0);
      rows[r + Row.STATE] = RowState.SEALED;
    }
  }

  open(burst: Burst): number {
    const { rows, list, slab } = burst;
    let opened = 0;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.STATE] !== RowState.RECEIVED || rows[r + Row.FATE] !== 0) continue;
      const key = this.#keyOf(rows[r + Row.KEY]!);
      if (!key) continue;
      const esp = rows[r + Row.ESP]!;
      const start = esp + ESP_HEADER_LENGTH + key.ivLength;
      const end = rows[r + Row.END]! - key.icvLength;
      const lo = rows[r + Row.SEQ_LO]!;
      const hi = key.esn ? rows[r + Row.SEQ_HI]! : 0;
      // The window has judged the row's number: if the bytes have come to say another since, no ICV makes up for it.
      const same = end >= start && slab.view.getInt32(esp + 4) === lo;
      if (same && key.transform.open(slab, esp, end, lo, hi)) {
        rows[r + Row.STATE] = RowState.OPENED;
        opened++;
      } else {
        // Whatever a library has done to the payload by now, nobody shall read it.
        if (end > start) slab.bytes.fill(0, start, end);
        rows[r + Row.STATE] = RowState.ICV_BAD;
      }
    }
    return opened;
  }

  #keyOf(number: number): Key | null | undefined {
    const at = number - this.#base;
    return at > 0 ? this.#keys[at] : null;
  }

  #unsupported(what: string): XfrmError {
    return new XfrmError({ code: 'UNSUPPORTED', device: `engine ${this.name}`, what });
  }
}
