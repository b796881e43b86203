import { _HMAC } from '@noble/hashes/hmac.js';
import type { CHash } from '@noble/hashes/utils.js';
import type { Mac } from '../transform.ts';

type Keyed = InstanceType<typeof _HMAC>;

/** HMAC with the states behind inner and outer padding kept per SA: a packet starts from a copy of them (RFC 2104 4). */
export class NobleHmac implements Mac {
  readonly #keyed: Keyed;
  readonly #work: Keyed;
  readonly #out: Uint8Array;

  constructor(hash: CHash, key: Uint8Array) {
    this.#keyed = new _HMAC(hash, key);
    this.#work = this.#keyed.clone();
    this.#out = new Uint8Array(hash.outputLen);
  }

  compute(bytes: Uint8Array, start: number, end: number, tail: Uint8Array): Uint8Array {
    const work = this.#keyed._cloneInto(this.#work);
    work.update(bytes.subarray(start, end));
    if (tail.length !== 0) work.update(tail);
    work.digestInto(this.#out);
    return this.#out;
  }

  destroy(): void {
    this.#keyed.destroy();
    this.#work.destroy();
    this.#out.fill(0);
  }
}
