// Every state that workers of the shipped code can reach together, one atomic access a step: scripts/explorer.ts.
// ESPALIER_RACES=1, as CI does, offers one number more, about 40 s in all; ESPALIER_LONG=1 two, about two minutes.
import { describe, expect, it } from 'vitest';
import { MISTAKES } from './explored-mistakes.ts';
import { SCENES } from './explored-scenes.ts';
import { foundOut, line, violation } from './explored-table.ts';
import { burstsOf, dealt, ExploredWindow, OLDEST } from './explored-window.ts';

const MORE = process.env.ESPALIER_LONG === '1' ? 2 : process.env.ESPALIER_RACES === '1' ? 1 : 0;

describe('the window, in every state that workers can reach together', () => {
  for (const scene of SCENES) {
    it(`takes each number once, none left of the window, and refuses no fresh one: ${scene.name}`, {
      timeout: 600_000,
    }, async () => {
      // Shape, workers, bursts of each, numbers of a burst, how many different numbers are offered at least.
      const shapes: [string, number, number, number, number][] = [
        ['2 workers, a burst of 3', 2, 1, 3, 4],
        ['3 workers, a burst of 2', 3, 1, 2, 3],
        ['2 workers, 3 bursts of 1', 2, 3, 1, 2],
      ];
      for (const [shape, workers, bursts, length, choice] of shapes) {
        const window = await ExploredWindow.create(scene);
        const numbers = scene.offered.slice(0, choice + MORE);
        const one = burstsOf(numbers, bursts * length).map((s) =>
          Array.from({ length: bursts }, (_, b) => s.slice(b * length, (b + 1) * length)),
        );
        for (const all of dealt(one, workers)) window.explore(all);
        line(`window, ${scene.name}: ${shape}`, window.scenarios, window.states, window.schedules);
        expect(window.schedules).toBeGreaterThan(1e6);
      }
    });
  }

  it('does so when every plain read of a word is as old as it can be', async () => {
    for (const scene of SCENES) {
      const window = await ExploredWindow.create(scene, [], OLDEST);
      for (const bursts of dealt(burstsOf(scene.offered.slice(0, 4), 3), 2)) window.explore(bursts.map((b) => [b]));
      line(`oldest reads, ${scene.name}: 2 workers, a burst of 3`, window.scenarios, window.states, window.schedules);
    }
  });

  for (const { name, scene, edits } of MISTAKES)
    it(`finds out a build with: ${name}`, async () => {
      const window = await ExploredWindow.create(SCENES.find((s) => s.name === scene)!, edits);
      const { offered } = window.scene;
      const broken = violation(() => {
        for (const bursts of dealt(burstsOf(offered.slice(0, 5), 3), 2)) window.explore(bursts.map((b) => [b]));
      });
      expect(broken).not.toBeNull();
      foundOut(name, `${scene}: ${broken!.message.split('\n')[0]}`);
    });
});
