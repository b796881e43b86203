import { describe, expect, it } from 'vitest';
import { attachSlab, createSlab, Row, RowState, resetRow, slabTicket } from '../src/index.ts';

describe('a slab', () => {
  it('attached by its ticket is the same memory: bytes, fields, words and rows', () => {
    const slab = createSlab({ frames: 3, frameSize: 512, headroom: 128, tailroom: 64 });
    const other = attachSlab(structuredClone(slabTicket(slab)));
    const at = 2 * slab.frameSize + slab.headroom;
    slab.bytes.set([1, 2, 3, 4], at);
    resetRow(slab.rows, 2, at, at + 4, RowState.RECEIVED);
    expect(other.view.getUint32(at)).toBe(0x01020304);
    expect(other.words[at >> 2]).toBe(slab.view.getInt32(at, new Uint8Array(Int32Array.of(1).buffer)[0] === 1));
    expect([Row.START, Row.END, Row.STATE].map((column) => other.rows[2 * Row.WORDS + column])).toEqual([
      at,
      at + 4,
      RowState.RECEIVED,
    ]);
    expect([other.frames, other.frameSize, other.headroom, other.tailroom]).toEqual([3, 512, 128, 64]);
  });

  it.each([
    ['no frame', { frames: 0 }],
    ['half a frame', { frames: 1.5 }],
    ['frames that are no whole cache lines', { frames: 1, frameSize: 1000 }],
    ['frames without room for a packet', { frames: 1, frameSize: 512, headroom: 448, tailroom: 64 }],
    ['room in front that is none', { frames: 1, headroom: -1 }],
    ['too little memory', { frames: 2, memory: new SharedArrayBuffer(4096) }],
    ['2 GiB', { frames: 2 ** 20, frameSize: 2048 }],
  ])('is refused with %s', (_, options) => {
    expect(() => createSlab(options)).toThrow(RangeError);
  });
});
