import type { Burst, FrameSlab } from '@espalier/wire';
import {
  ALGORITHMS,
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
  /** 0 when the provider is there and has given a known answer. */
  ready(provider: number): number;
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
const ESN = 1;

const KIND: Readonly<Partial<Record<AlgorithmName, number>>> = {
  aes128gcm16: GCM,
  aes192gcm16: GCM,
  aes256gcm16: GCM,
  chacha20poly1305: CHACHA,
};

/** One addon call per burst, in place. Belongs to one worker. */
class NativeEngine implements CryptoEngine {
  readonly name: string;
  readonly algorithms: readonly AlgorithmName[] = Object.keys(KIND) as AlgorithmName[];
  readonly #binding: AeadBinding;
  readonly #provider: number;
  #slab: FrameSlab | null = null;
  #slabId = -1;

  constructor(binding: AeadBinding, provider: AeadProvider) {
    this.name = `native (${provider})`;
    this.#binding = binding;
    this.#provider = PROVIDER[provider];
  }

  install(algorithm: AlgorithmName, key: SaKey, options: EngineKeyOptions): number {
    const kind = KIND[algorithm];
    const { saltLength, ivLength, icvLength } = ALGORITHMS[algorithm];
    const material = key.reveal().slice();
    const number =
      kind === undefined
        ? -1
        : this.#binding.install(
            material,
            this.#provider,
            kind,
            options.esn ? ESN : 0,
            ivLength,
            options.icvLength ?? icvLength,
            saltLength,
            0,
          );
    material.fill(0);
    if (number > 0) return number;
    throw new XfrmError({ code: 'UNSUPPORTED', device: `engine ${this.name}`, what: algorithm });
  }

  remove(key: number): void {
    this.#binding.remove(key);
  }

  seal(burst: Burst): void {
    this.#binding.seal(this.#idOf(burst.slab), burst.list, burst.length);
  }

  open(burst: Burst): void {
    this.#binding.open(this.#idOf(burst.slab), burst.list, burst.length);
  }

  #idOf(slab: FrameSlab): number {
    if (slab !== this.#slab) {
      this.#slabId = this.#binding.slabId(slab);
      this.#slab = slab;
    }
    return this.#slabId;
  }
}

/** The addon's engine over one provider, or null where that is not on this machine or gave a wrong answer. */
export function nativeEngine(binding: AeadBinding, provider: AeadProvider): CryptoEngine | null {
  return binding.ready(PROVIDER[provider]) === 0 ? new NativeEngine(binding, provider) : null;
}
