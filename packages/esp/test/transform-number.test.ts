// The number under an ICV where a transform has it in memory of its own: the one it is told. Budget: 1 s.
import { ALGORITHM_NAMES, ALGORITHMS, keyParts } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { NOBLE_SUITE } from '../src/engines/noble.ts';
import { NODE_SUITE } from '../src/engines/node.ts';
import { has, makeTransform } from '../src/transform.ts';
import { Bench } from './bench-rows.ts';

const ESP = 64;
const TEXT = 48;

describe.each([
  ['noble', NOBLE_SUITE],
  ['node', NODE_SUITE],
] as const)('%s', (_, suite) => {
  const own = ALGORITHM_NAMES.filter((name) => ALGORITHMS[name].hash === null && has(suite, ALGORITHMS[name]));

  it.each(own)('%s authenticates the number it is told, whatever the header says', (name) => {
    const { keyLength, ivLength, cipher } = ALGORITHMS[name];
    // GMAC without ESN lies in the slab as a whole.
    for (const esn of cipher === 'aes-gmac' ? [true] : [false, true]) {
      const key = new Uint8Array(keyLength).map((_, i) => i);
      const transform = makeTransform(suite, ALGORITHMS[name], keyParts(name, key), esn);
      const { slab } = new Bench();
      slab.view.setUint32(ESP, 0x1234_5678);
      slab.view.setUint32(ESP + 4, 7);
      const end = ESP + 8 + ivLength + TEXT;
      transform.seal(slab, ESP, end, 7, 0);
      const sealed = slab.bytes.slice();
      const opens = (header: number, told: number): boolean => {
        slab.bytes.set(sealed);
        slab.view.setUint32(ESP + 4, header);
        return transform.open(slab, ESP, end, told, 0);
      };
      expect([opens(7, 7), opens(7, 8), opens(8, 7)]).toEqual([true, false, true]);
    }
  });
});
