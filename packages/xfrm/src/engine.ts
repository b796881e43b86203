import type { Burst } from '@espalier/wire';
import type { AlgorithmName } from './algorithm.ts';
import type { SaKey } from './key.ts';

export interface EngineKeyOptions {
  /** The ICV covers the high half of the number (RFC 4303 2.2.1). */
  readonly esn: boolean;
  /** Bytes; the algorithm's name says it, so that another length is refused. */
  readonly icvLength?: number;
}

/**
 * Many SAs, one call. Belongs to one worker, synchronous, works in place.
 *
 * A row's ESP column is the offset of the ESP header (SPI and low number already written); END is one past the ICV.
 * The IV lies at ESP + 8. Where the algorithm's `iv` is `number` it is, on every engine and lower alike, the number:
 * SEQ_HI then SEQ_LO, big-endian (SEQ_HI counts as 0 without ESN). One allocator for all replicas makes nonces unique
 * across every one of them. Where it is `random` the engine draws it.
 */
export interface CryptoEngine {
  readonly name: string;
  /** What it has; `install` refuses the rest. */
  readonly algorithms: readonly AlgorithmName[];
  /** Expands the key once; returns the number (above 0) that rows carry in KEY. Throws XfrmError UNSUPPORTED or NO_SPACE. */
  install(algorithm: AlgorithmName, key: SaKey, options: EngineKeyOptions): number;
  /** Forgets the key and wipes what was made of it. The number may be given out again. */
  remove(key: number): void;
  /** Seals every TO_SEAL row without a FATE that has a KEY: writes the IV, encrypts, appends the ICV, sets SEALED. Never touches a SEALED one. */
  seal(burst: Burst): void;
  /**
   * Opens every RECEIVED row without a FATE that has a KEY: OPENED, or ICV_BAD with its payload zeroed. START and END stay.
   * The ICV is of the row's number, SEQ_LO and SEQ_HI, which the window has judged: a header that says another by now is
   * ICV_BAD. Returns how many it has made OPENED: where that is all of a burst, their states are not looked at before the
   * window is, so that an engine which counts too many spends numbers that nobody has authenticated.
   */
  open(burst: Burst): number;
}
