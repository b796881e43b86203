import { describe, expect, it } from 'vitest';
import { hold } from './frame/limits.ts';
import { limitLine } from './frame/table.ts';

const TIMES = { warmUp: 20, round: 60, patience: 100 };

/** Work that takes `microseconds`, whatever the machine. */
function spin(microseconds: number): void {
  for (const end = performance.now() + microseconds / 1000; performance.now() < end; );
}

describe('a limit of a scenario', () => {
  it('is what one variant takes over what another takes, broken when that is more than was said', async () => {
    const limit = { variant: { work: 300 }, to: { work: 100 }, goal: 'three times the work' };
    let closed = 0;
    const held = await hold(
      {
        name: 'spin',
        about: '',
        variants: [limit.to, limit.variant],
        prove: () => {},
        limits: [
          { ...limit, most: 3.5 },
          { ...limit, most: 2.5 },
        ],
        run: ({ work }) => ({ packets: 10, step: () => spin(work as number), close: () => closed++ }),
      },
      TIMES,
    );
    expect(closed).toBe(2);
    const [kept, broken] = held.map((h) => limitLine(h));
    expect(kept).toMatch(/^300: [\d.]+ ns, \d\.\d+ x the [\d.]+ ns of 100, at most 3.5 x: three times the work$/);
    expect(broken).toMatch(/^BROKEN: 300: .* at most 2.5 x/);
  });
});
