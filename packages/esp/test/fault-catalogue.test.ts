import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

interface Fault {
  readonly id: string;
  readonly stimulus: string;
}

const catalogue = JSON.parse(
  readFileSync(new URL('vectors/fault-catalogue.json', import.meta.url), 'utf8'),
) as readonly Fault[];

/** Fault -> the test that shows it: file below `packages/`, and (the start of) the test's name. */
const SHOWN: Readonly<Record<string, readonly [file: string, title: string]>> = {
  P01: ['esp/test/bad-input.test.ts', 'is refused at every truncation, by number, and leaves the window as it was'],
  P02: ['esp/test/bad-input.test.ts', 'is refused with any bit flipped that means something'],
  P03: ['esp/test/bad-input.test.ts', 'meets the verdict that the corpus of malformed packets expects'],
  P05: ['esp/test/path.test.ts', 'refuses a packet outside its selectors, a fragment, and UDP where the SA has none'],
  P07: ['esp/test/fuzz.test.ts', 'hostile frames by a verdict'],
  P09: ['esp/test/bad-input.test.ts', 'meets the verdict that the corpus of malformed packets expects'],
  P10: ['esp/test/path-options.test.ts', 'makes dummies that look like any other packet'],
  P11: ['esp/test/bad-input.test.ts', 'meets the verdict that the corpus of malformed packets expects'],
  P12: ['esp/test/bad-input.test.ts', 'meets the verdict that the corpus of malformed packets expects'],
  P13: ['esp/test/path.test.ts', 'refuses a packet outside its selectors, a fragment, and UDP where the SA has none'],
  P14: ['esp/test/path-options.test.ts', 'brings ECN back by the table of RFC 6040, all sixteen cells'],
  S02: ['replay/test/window.test.ts', 'gives the expected verdicts one by one and in bursts'],
  S04: ['replay/test/window.test.ts', 'counts everything up to a mark as seen'],
  S07: ['replay/test/window.test.ts', 'infers the high half as RFC 4303 A2 does in both cases'],
  S08: ['replay/test/window.test.ts', 'keeps a high half that is already in the row'],
  S10: ['replay/test/replay.race.test.ts', 'with the bitmap of RFC 6479 accept numbers twice, in fewer offers'],
  S11: ['replay/test/replay.race.test.ts', 'go on when others are killed at any moment, and accept nothing twice'],
  S13: ['replay/test/window.test.ts', 'stops at its limit'],
  S14: ['replay/test/window.test.ts', 'agrees step by step'],
  O01: ['replay/test/replay.race.test.ts', 'give each number once when some are killed'],
  O02: ['replay/test/allocator.test.ts', 'never gives a number again after a restart from the last durable mark'],
  O05: ['replay/test/allocator.test.ts', 'hands out 2^32 - 1 last without ESN and goes on with it'],
  B01: ['bond/test/all-or-nothing.test.ts', 'leaves no trace when an SA is added, wherever it fails'],
  B02: ['bond/test/execute.test.ts', 'goes on undoing when that fails too, and reports every failure'],
  B03: [
    'bond/test/execute.test.ts',
    'to leave hides everything, lets bursts end, deletes, drains each lower, and only then frees',
  ],
  B06: ['bond/test/bond-device.test.ts', 'roll back on the first refusal and name the slave'],
  B09: ['bond/test/waits.test.ts', 'does not outlive its SA: killed while a slave joins'],
  B11: ['bond/test/waits.test.ts', 'to a lower that never answers counts as refused after its bound'],
  B15: ['bond/test/xmit-hash.test.ts', 'equals a naive twin for random frames of every kind'],
  L05: ['esp/test/keys.test.ts', 'is gone from shared memory once wiped, on every thread'],
  L06: ['esp/test/keys.test.ts', 'is in no print of the key, its memory, an SA, a ticket'],
  L07: ['esp/test/path-lifetime.test.ts', 'end an outbound SA for all workers at the hard limit'],
};

it('names for each fault of the catalogue the test that shows it, or lists it as open', () => {
  const ids = new Set(catalogue.map((f) => f.id));
  const wrong: string[] = [];
  for (const [id, [file, title]] of Object.entries(SHOWN)) {
    if (!ids.has(id)) wrong.push(`${id} is not in the catalogue`);
    const text = readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
    if (!text.split('\n').some((line) => line.includes(title) && !line.trim().startsWith('//')))
      wrong.push(`${id}: ${file} has no test named "${title}"`);
  }
  const open = catalogue.filter((f) => !(f.id in SHOWN));
  console.log(
    `${Object.keys(SHOWN).length} faults shown, ${open.length} open:\n${open.map((f) => `  ${f.id} ${f.stimulus}`).join('\n')}`,
  );
  expect(wrong).toEqual([]);
});
