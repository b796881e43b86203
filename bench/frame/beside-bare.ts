/** What `encap` and `decap` share: a packet's ways through EspPath, each beside the bare cipher call or the least work. */
import { ALGORITHMS, type AlgorithmName } from '@espalier/xfrm';
import { type Bare, bareNoble, bareNode } from './bare.ts';
import { material, NATIVE } from './desk.ts';
import { type Limit, product, type Variant } from './scenario.ts';

export const NAMES: readonly AlgorithmName[] = ['aes128gcm16', 'chacha20poly1305', 'aes128cbc-sha256'];
/** Bytes of the inner packet. */
export const SIZES = [64, 576, 1400] as const;

export const VARIANTS: readonly Variant[] = product({
  algorithm: NAMES,
  by: ['least', 'none', 'bare noble', 'noble', 'bare node', 'node', ...NATIVE],
  size: SIZES,
});

export function anchor(v: Variant): Variant | null {
  if (v.by === 'none') return { ...v, by: 'least' };
  return v.by === 'noble' || v.by === 'node' ? { ...v, by: `bare ${v.by}` } : null;
}

/** What CI holds these to; `most` is what all but the cipher may take in units of the least work, `goal` what for. */
export function limits(most: number, goal: string): Limit[] {
  return [
    limit('none', 'least', 64, most, goal),
    limit('node', 'bare node', 1400, 1.3, 'the bare cipher call and a tenth'),
    limit('noble', 'bare noble', 64, 0.45, 'a third of the bare call, whose key schedule is kept'),
    limit('noble', 'bare noble', 1400, 0.8, 'six tenths of the bare call, whose GHASH table is kept'),
  ];
}

function limit(by: string, to: string, size: number, most: number, goal: string): Limit {
  const algorithm = 'aes128gcm16';
  return { variant: { algorithm, by, size }, to: { algorithm, by: to, size }, most, goal };
}

export interface BareCall {
  readonly bare: Bare;
  readonly iv: Uint8Array;
  readonly aad: Uint8Array;
  /** Bytes of the text: the inner packet, padding and trailer. */
  readonly length: number;
  readonly icvLength: number;
}

/** The cipher call of a variant by `bare noble` or `bare node`, and what it is called with. */
export function bareCall({ algorithm, by, size }: Variant): BareCall {
  const name = algorithm as AlgorithmName;
  const { blockLength, icvLength, hash } = ALGORITHMS[name];
  const text = (size as number) + 2;
  return {
    bare: (by === 'bare noble' ? bareNoble : bareNode)(name, material(name)),
    iv: new Uint8Array(hash === null ? 12 : 16),
    aad: new Uint8Array(12),
    length: text + ((blockLength - (text % blockLength)) % blockLength),
    icvLength,
  };
}
