import { describe, expect, it } from 'vitest';
import { Machine, type Program, Violation } from '../../../scripts/explorer.ts';
import { violation } from './explored-table.ts';
import { burstsOf, dealt } from './explored-window.ts';

describe('the explorer', () => {
  /** RFC 6479 put into shared memory with atomics: raise the edge, clear what it skipped, turn the bit on. */
  function shared6479(atomics: typeof Atomics, words: Int32Array, s: number): boolean {
    const [bits, ring] = [2, 3];
    let last: number;
    do last = atomics.load(words, 0);
    while (last < s && atomics.compareExchange(words, 0, last, s) !== last);
    for (let b = Math.floor(last / bits) + 1; b <= Math.floor(s / bits) && b <= last / bits + ring; b++)
      atomics.store(words, 1 + (b % ring), 0);
    if (s + bits * (ring - 1) <= atomics.load(words, 0)) return false;
    const bit = 1 << (s % bits);
    return (atomics.or(words, 1 + (Math.floor(s / bits) % ring), bit) & bit) === 0;
  }

  function twoWorkers(code: (atomics: typeof Atomics, words: Int32Array, s: number) => boolean): Violation | null {
    const machine = new Machine();
    const words = new Int32Array(new SharedArrayBuffer(64));
    machine.share(words.buffer as SharedArrayBuffer, 0);
    machine.start();
    const program = (numbers: number[]): Program<{ accepted: number }> => ({
      name: numbers.join(' '),
      facts: () => ({ accepted: 0 }),
      run(facts) {
        for (const s of numbers) if (code(machine.atomics as typeof Atomics, words, s)) facts.accepted |= 1 << s;
      },
    });
    return violation(() => {
      for (const pair of dealt(burstsOf([1, 5, 8], 2), 2))
        machine.explore(pair.map(program), (facts) => {
          if ((facts[0]!.accepted & facts[1]!.accepted) !== 0) throw new Violation('accepted twice');
        });
    });
  }

  it('sees RFC 6479 accept a number twice when it is put into shared memory', () => {
    const found = twoWorkers(shared6479);
    expect(found?.message).toMatch(/accepted twice/);
  });

  it('sees that a lock makes one worker wait for another', () => {
    const found = twoWorkers((atomics, words, s) => {
      while (atomics.compareExchange(words, 15, 0, 1) !== 0);
      const fresh = shared6479(atomics, words, s);
      atomics.store(words, 15, 0);
      return fresh;
    });
    expect(found?.message).toMatch(/waits/);
  });
});
