// Every state that workers of the shipped code can reach together, one atomic access a step: scripts/explorer.ts.
// CI about 20 s; ESPALIER_LONG=1 offers more numbers, about a minute.
import { describe, expect, it } from 'vitest';
import { MISTAKES } from './explored-mistakes.ts';
import { SCENES } from './explored-scenes.ts';
import { foundOut, line, violation } from './explored-table.ts';
import { burstsOf, dealt, ExploredWindow, OLDEST } from './explored-window.ts';

const LONG = process.env.ESPALIER_LONG === '1';

describe('the window, in every state that workers can reach together', () => {
  for (const scene of SCENES) {
    it(`takes each number once, none left of the window, and refuses no fresh one: ${scene.name}`, {
      timeout: 600_000,
    }, async () => {
      // Shape, workers, bursts of each, numbers of a burst, how many different numbers are offered.
      const shapes: [string, number, number, number, number][] = [
        ['2 workers, a burst of 3', 2, 1, 3, 5],
        ['3 workers, a burst of 2', 3, 1, 2, 4],
        ['2 workers, 3 bursts of 1', 2, 3, 1, 3],
      ];
      for (const [shape, workers, bursts, length, choice] of shapes) {
        const window = await ExploredWindow.create(scene);
        const numbers = scene.offered.slice(0, LONG ? choice + 1 : choice);
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
