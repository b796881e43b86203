import { ALGORITHM_NAMES, ALGORITHMS, type AlgorithmName } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { keyLimits } from '../src/index.ts';

describe('keyLimits', () => {
  // Packets of 2^7 blocks, AAD included, at an advantage of 2^-50: the example of draft-irtf-cfrg-aead-limits, where v of
  // AES-GCM follows from its formula and is half of what its table says.
  it.each([
    ['aes128gcm16', 32.5, 70],
    ['aes256gcm16', 32.5, 70],
    ['chacha20poly1305', Number.POSITIVE_INFINITY, 46],
    ['aes128ccm16', 30, 30],
    ['aes128ccm8', 30.9, 13],
  ] as const)('agrees with the published example of %s', (algorithm, q, v) => {
    const { packets, forgeries } = keyLimits(algorithm, { length: 127 * 16, advantage: 2 ** -50 });
    // Ours is the cautious side of a bound that both share.
    expect(Math.log2(packets)).toBeLessThanOrEqual(q);
    if (Number.isFinite(q)) expect(Math.log2(packets)).toBeGreaterThan(q - 1);
    expect(Math.log2(forgeries)).toBeLessThanOrEqual(v);
    expect(Math.log2(forgeries)).toBeGreaterThan(v - 1);
  });

  it('is stricter for longer packets, shorter ICVs and smaller advantages, and never 0', () => {
    for (const algorithm of ALGORITHM_NAMES) {
      const base = keyLimits(algorithm);
      for (const stricter of [keyLimits(algorithm, { length: 9000 }), keyLimits(algorithm, { advantage: 2 ** -60 })]) {
        expect(stricter.packets).toBeLessThanOrEqual(base.packets);
        expect(stricter.forgeries).toBeLessThanOrEqual(base.forgeries);
        expect(Math.min(stricter.packets, stricter.forgeries)).toBeGreaterThanOrEqual(1);
      }
    }
    const v = (a: AlgorithmName): number => keyLimits(a).forgeries;
    expect(v('aes128gcm8')).toBeLessThan(v('aes128gcm12'));
    expect(v('aes128gcm12')).toBeLessThan(v('aes128gcm16'));
    expect(ALGORITHMS.aes128gcm8.icvLength).toBe(8);
  });

  it('refuses nonsense', () => {
    for (const options of [{ length: 0 }, { length: Number.NaN }, { advantage: 0 }, { advantage: 1 }])
      expect(() => keyLimits('aes128gcm16', options)).toThrow(RangeError);
  });
});
