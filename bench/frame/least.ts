import { Row } from '@espalier/wire';
import type { Desk } from './desk.ts';

/**
 * The least that a packet through ESP takes, to hold the whole of it against on any machine: every header word and every
 * column of its row touched once, without a look at any.
 */
export function leastWork({ slab, burst }: Desk, words: number): () => void {
  const { rows, view } = slab;
  return () => {
    for (let i = 0; i < burst.length; i++) {
      const r = burst.list[i]! * 16;
      const at = rows[r]! - 4 * words;
      const word = view.getInt32(at);
      for (let w = 0; w < words; w++) view.setInt32(at + 4 * w, word + w);
      for (let column = 0; column < Row.WORDS; column++) rows[r + column] = rows[r + column]!;
    }
  };
}
