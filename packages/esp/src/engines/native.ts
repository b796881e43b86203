import type { Burst, FrameSlab } from '@espalier/wire';
import {
  ALGORITHM_NAMES,
  ALGORITHMS,
  type Algorithm,
  type AlgorithmName,
  type CryptoEngine,
  type EngineKeyOptions,
  type SaKey,
  XfrmError,
} from '@espalier/xfrm';

/** Bursts of seals and opens in the native addon: `@espalier/native`'s `aead()` is one. Results below 0 are -errno. */
export interface AeadBinding {
  /** The addon's number for a slab, registered at first sight. */
  slabId(slab: FrameSlab): number;
  /** 0 when the provider is there and has given the known answers. */
  ready(provider: number): number;
  /** Material: cipher key, salt, HMAC key. A key number above 0, or -errno. */
  install(
    material: Uint8Array,
    provider: number,
    kind: number,
    flags: number,
    ivLength: number,
    icvLength: number,
    saltLength: number,
    macLength: number,
  ): number;
  remove(key: number): number;
  /** Rows sealed. */
  seal(slabId: number, list: Int32Array, count: number): number;
  /** Rows opened. */
  open(slabId: number, list: Int32Array, count: number): number;
}

/** Whose ciphers: libipsec-mb where it is installed, the OpenSSL inside the node process. */
export type AeadProvider = 'ipsec-mb' | 'openssl';

const PROVIDER: Readonly<Record<AeadProvider, number>> = { 'ipsec-mb': 1, openssl: 2 };
const GCM = 1;
const CHACHA = 2;
const CBC_HMAC = 3;
const ESN = 1;
const IMPLICIT_IV = 2;

/** The addon's number for a transform; 0 where it has none. */
function kindOf({ cipher, hash, legacy }: Algorithm): number {
  if (cipher === 'aes-gcm') return GCM;
  if (cipher === 'chacha20-poly1305') return CHACHA;
  return cipher === 'aes-cbc' && hash !== null && !legacy ? CBC_HMAC : 0;
}

/**
 * One addon call per burst, in place. Belongs to one worker. libipsec-mb does CBC with an HMAC in jobs of many packets and has
 * no random numbers for the IVs: those, and fewer than four packets in a row, are OpenSSL's, in the same call.
 */
class NativeEngine implements CryptoEngine {
  readonly name: string;
  readonly algorithms: readonly AlgorithmName[];
  readonly #binding: AeadBinding;
  readonly #provider: AeadProvider;
  #slab: FrameSlab | null = null;
  #slabId = -1;

  constructor(binding: AeadBinding, provider: AeadProvider) {
    this.name = `native (${provider})`;
    this.#binding = binding;
    this.#provider = provider;
    const kinds = binding.ready(PROVIDER.openssl) === 0 ? [GCM, CHACHA, CBC_HMAC] : [GCM, CHACHA];
    this.algorithms = ALGORITHM_NAMES.filter((name) => kinds.includes(kindOf(ALGORITHMS[name])));
  }

  install(algorithm: AlgorithmName, key: SaKey, options: EngineKeyOptions): number {
    const a = ALGORITHMS[algorithm];
    if (!this.algorithms.includes(algorithm) || (options.icvLength ?? a.icvLength) !== a.icvLength)
      throw this.#unsupported(algorithm);
    const flags = (options.esn ? ESN : 0) | (a.iv === 'implicit' ? IMPLICIT_IV : 0);
    const { ivLength, icvLength, saltLength, integrityKeyLength } = a;
    const material = key.reveal().slice();
    const number = this.#binding.install(
      material,
      PROVIDER[this.#provider],
      kindOf(a),
      flags,
      ivLength,
      icvLength,
      saltLength,
      integrityKeyLength,
    );
    material.fill(0);
    if (number <= 0) throw this.#unsupported(algorithm);
    return number;
  }

  remove(key: number): void {
    this.#binding.remove(key);
  }

  seal(burst: Burst): void {
    this.#binding.seal(this.#idOf(burst.slab), burst.list, burst.length);
  }

  open(burst: Burst): number {
    return this.#binding.open(this.#idOf(burst.slab), burst.list, burst.length);
  }

  #idOf(slab: FrameSlab): number {
    if (slab !== this.#slab) {
      this.#slabId = this.#binding.slabId(slab);
      this.#slab = slab;
    }
    return this.#slabId;
  }

  #unsupported(what: string): XfrmError {
    return new XfrmError({ code: 'UNSUPPORTED', device: `engine ${this.name}`, what });
  }
}

/** The addon's engine over one provider, or null where that is not on this machine or gave a wrong answer. */
export function nativeEngine(binding: AeadBinding, provider: AeadProvider): CryptoEngine | null {
  return binding.ready(PROVIDER[provider]) === 0 ? new NativeEngine(binding, provider) : null;
}
