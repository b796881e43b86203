import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { XMIT_HASH_POLICIES, xmitHash } from '../src/index.ts';

interface Frame {
  id: number;
  cat: string;
  frame: string;
  hash: Record<string, number>;
}
const { frames } = JSON.parse(readFileSync(new URL('vectors/linux-bond-hash.json', import.meta.url), 'utf8')) as {
  frames: Frame[];
};

describe('the transmit hash', () => {
  it.each(XMIT_HASH_POLICIES)('equals the kernel for every frame, policy %s', (policy) => {
    const wrong: string[] = [];
    for (const { id, cat, frame, hash } of frames) {
      let bytes = Uint8Array.from(Buffer.from(frame, 'hex'));
      let tci = 0;
      // The kernel takes the outermost tag off before the bond sees the frame.
      if (
        bytes.length >= 18 &&
        ((bytes[12] === 0x81 && bytes[13] === 0) || (bytes[12] === 0x88 && bytes[13] === 0xa8))
      ) {
        tci = (bytes[14]! << 8) | bytes[15]!;
        bytes = Uint8Array.from([...bytes.slice(0, 12), ...bytes.slice(16)]);
      }
      const got = xmitHash(policy, new DataView(bytes.buffer), 0, bytes.length, tci);
      if (got !== hash[policy]) wrong.push(`${id} ${cat}: ${got}, kernel ${hash[policy]}`);
    }
    expect(wrong).toEqual([]);
  });

  it('puts SPIs 2k and 2k + 1 on one slave of two, four or eight', () => {
    const bytes = new Uint8Array(60);
    const view = new DataView(bytes.buffer);
    view.setUint16(12, 0x0800);
    bytes[14] = 0x45;
    bytes[23] = 50;
    for (let k = 1; k < 500; k++) {
      view.setUint32(34, 2 * k);
      const a = xmitHash('layer3+4', view, 0, 60);
      view.setUint32(34, 2 * k + 1);
      const b = xmitHash('layer3+4', view, 0, 60);
      for (const n of [2, 4, 8]) expect(a % n).toBe(b % n);
    }
  });

  it('reads nothing outside a truncated frame', () => {
    for (const { frame } of frames.slice(0, 60)) {
      const whole = Uint8Array.from(Buffer.from(frame, 'hex'));
      for (let n = 0; n < whole.length; n++) {
        const cut = whole.slice(0, n);
        for (const policy of XMIT_HASH_POLICIES) xmitHash(policy, new DataView(cut.buffer), 0, n);
      }
    }
  });
});
