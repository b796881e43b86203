import { TWO_32 } from '../src/esn.ts';
import type { Scene } from './explored-worker.ts';

// Numbers are chosen where things happen: the left edge and what a step or a jump makes of it, the next region, the same
// word one and two laps of the ring later. Windows span 32 or 64 numbers, regions 8 or 16, rings 64 numbers and up.
const END = 2 ** 35;
export const SCENES: Scene[] = [
  {
    name: 'ring of 8 words',
    size: 32,
    esn: false,
    limit: 2000,
    before: [90, 100],
    offered: [69, 133, 101, 165, 104, 197],
  },
  {
    name: 'bits of one word',
    size: 64,
    esn: false,
    limit: 2000,
    before: [200],
    offered: [137, 138, 265, 201, 329, 143],
  },
  {
    name: 'across 2^32',
    size: 32,
    esn: true,
    limit: 2 * TWO_32,
    before: [TWO_32 - 20, TWO_32 - 3],
    offered: [TWO_32 - 34, TWO_32 + 1, TWO_32 + 1022, TWO_32 - 2, TWO_32 + 30, TWO_32 + 5],
  },
  {
    name: 'up to LIMIT',
    size: 32,
    esn: true,
    limit: END - 2,
    before: [END - 45, END - 38],
    offered: [END - 69, END - 6, END - 2, END - 1, END - 37, END - 38],
  },
];
