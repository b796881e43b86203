import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { XMIT_HASH_POLICIES, xmitHash } from '../src/index.ts';
import { makeFrame, random, tagsOnTags, untag } from './frames.ts';
import { naiveXmitHash } from './naive-hash.ts';

const LONG = process.env.ESPALIER_LONG === '1';

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
      const { bytes, tag } = untag(Uint8Array.from(Buffer.from(frame, 'hex')));
      const got = xmitHash(policy, new DataView(bytes.buffer), 0, bytes.length, tag);
      if (got !== hash[policy]) wrong.push(`${id} ${cat}: ${got}, kernel ${hash[policy]}`);
    }
    expect(wrong).toEqual([]);
  });

  it('equals a naive twin for random frames of every kind, cut and mutated ones included', () => {
    const r = random(20260524);
    const differing = new Set<string>();
    for (let i = 0; i < (LONG ? 1_000_000 : 20_000); i++) {
      const frame = makeFrame(r);
      const tag = r(3) === 0 ? 0x10000 | r(0x10000) : 0;
      const before = r(40);
      const room = new Uint8Array(before + frame.length + 40).fill(0xee);
      room.set(frame, before);
      const view = new DataView(room.buffer);
      const hashes = XMIT_HASH_POLICIES.map((policy) => {
        const got = xmitHash(policy, view, before, before + frame.length, tag);
        if (got !== naiveXmitHash(policy, frame, tag))
          throw new Error(`${policy}, tag ${tag}: ${Buffer.from(frame).toString('hex')}`);
        return got;
      });
      for (const [a, b] of [
        [1, 4],
        [2, 3],
      ])
        differing.add(`${XMIT_HASH_POLICIES[a!]} ${hashes[a!] === hashes[b!]}`);
    }
    // The frames are worth something: tunnels make the encap policies differ, and not always.
    expect(differing.size).toBe(4);
  });

  it('equals the twin for up to 20 tags in a row, beyond the last that the kernel looks behind', () => {
    const r = random(5);
    const found = new Set<number>();
    for (let tags = 0; tags <= 20; tags++)
      for (const tag of [0, 0x1_0001]) {
        const frame = tagsOnTags(r, tags);
        const hash = xmitHash('encap3+4', new DataView(frame.buffer), 0, frame.length, tag);
        expect(hash).toBe(naiveXmitHash('encap3+4', frame, tag));
        if (hash === 0) found.add(tags + (tag === 0 ? 0 : 1));
      }
    // Fifteen headers behind the first; what is found then has no addresses, which hashes to 0.
    expect(Math.min(...found)).toBe(16);
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
