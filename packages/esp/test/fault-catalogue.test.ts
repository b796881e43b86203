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
  I01: ['esp/test/icv-timing.test.ts', 'takes a time that does not depend on where they differ'],
  I02: ['esp/test/engines.test.ts', 'takes no ICV of %s that is shorter than the whole'],
  I04: ['esp/test/engine-vectors.test.ts', 'knows which of the published vectors no engine shall open'],
  S02: ['replay/test/window.test.ts', 'gives the expected verdicts one by one and in bursts'],
  S04: ['replay/test/window.test.ts', 'counts everything up to a mark as seen'],
  S06: ['esp/test/bad-input.test.ts', 'is refused with any bit flipped that means something'],
  S07: ['replay/test/window.test.ts', 'infers the high half as RFC 4303 A2 does in both cases'],
  S08: ['replay/test/window.test.ts', 'keeps a high half that is already in the row'],
  S09: ['replay/test/state.test.ts', 'finds a sender that has gone on for several subspaces'],
  S10: ['replay/test/replay.race.test.ts', 'accept each number once and refuse none that is fresh'],
  S11: ['replay/test/replay.race.test.ts', 'go on when others are killed at any moment, and accept nothing twice'],
  S13: ['replay/test/window.test.ts', 'stops at its limit'],
  S14: ['replay/test/window.test.ts', 'agrees step by step'],
  O01: ['replay/test/replay.race.test.ts', 'give each number once when some are killed'],
  O02: ['replay/test/allocator.test.ts', 'never gives a number again after a restart from the last durable mark'],
  O04: ['replay/test/allocator.test.ts', 'is one counter for all who attach, and refuses other memory'],
  O05: ['replay/test/allocator.test.ts', 'hands out 2^32 - 1 last without ESN and goes on with it'],
  O08: ['esp/test/engines.test.ts', 'draws a new IV for every packet of %s'],
  B01: ['bond/test/all-or-nothing.test.ts', 'leaves no trace when an SA is added, wherever it fails'],
  B02: ['bond/test/execute.test.ts', 'goes on undoing when that fails too, and reports every failure'],
  B03: [
    'bond/test/execute.test.ts',
    'to leave hides everything, lets bursts end, deletes, drains each lower, and only then frees',
  ],
  B04: ['bond/test/bond-port.test.ts', 'is dropped, unless its SA says otherwise'],
  B05: [
    'bond/test/bond-device.test.ts',
    'keep a joining slave that refuses one out of usable, with nothing left on it',
  ],
  B06: ['bond/test/bond-device.test.ts', 'roll back on the first refusal and name the slave'],
  B07: ['bond/test/bond-device.test.ts', 'are flushed when the policy or mode no longer fits'],
  B09: ['bond/test/waits.test.ts', 'does not outlive its SA: killed while a slave joins'],
  B11: ['bond/test/waits.test.ts', 'to a lower that never answers counts as refused after its bound'],
  B15: ['bond/test/xmit-hash.test.ts', 'equals a naive twin for random frames of every kind'],
  L02: ['bond/test/pins.test.ts', 'of a worker that has exited count no more'],
  L05: ['esp/test/keys.test.ts', 'is gone from shared memory once wiped, on every thread'],
  L06: ['esp/test/keys.test.ts', 'is in no print of the key, its memory, an SA, a ticket'],
  L07: ['esp/test/path-lifetime.test.ts', 'end an outbound SA for all workers at the hard limit'],
  C02: ['xfrm/test/sad.test.ts', 'refuses a second entry for a slot or a selector and stays as it was'],
  C04: ['esp/test/engine-vectors.test.ts', 'knows which of the published vectors no engine shall open'],
};

/** The others, and why. */
const OPEN: Readonly<Record<string, string>> = {
  P04: 'the single rules have no test of this name; fuzz meets BAD_OUTER and TRUNCATED',
  P06: 'the way out is tested (path-options); the bound of the inbound walk is not, by name',
  P08: 'our engines refuse it as a bad ICV before any decryption, so the number is not used up; BAD_LENGTH is for lowers that open',
  P15: 'rows point into one slab of our own; memory written during processing is not tested',
  I03: 'zeroed payloads are a rule of the engines; no test watches every observer',
  I05: 'engines work in place in every test; none is about the overlap alone',
  I06: 'the audit is rate-limited (path-options); no flood at line rate',
  S01: 'covered by published sequences only',
  S03: 'no one test of every legal and illegal size',
  S05: 'correct by the twin; the cost of a jump is not timed',
  S12: 'in the explorer and the models, under names of their own',
  O03: 'two workers on one SA are tested; 10^9 packets over several lowers are not',
  O06: 'failovers are tested; the numbers of a batch cut by one are not looked at',
  O07: 'nothing is banked, by construction',
  O09: 'counted by settle; no test follows the burnt number',
  B08: 'failovers are counted, not flaps a second',
  B10: 'the mock NIC gives no handle out again early; a lower that does is not tested',
  B12: 'no lower of the tests reports late by design',
  B13: 'a bond in a bond is refused; two bonds on one lower are not tested',
  B14: 'the drop is tested; the time of recovery is not',
  L01: 'in the models',
  L03: 'no run of 10^6',
  L04: 'no run of a day',
  L08: 'the path reads no clock',
  D01: 'no timed flood',
  D02: 'the table is tested full and colliding, not against chosen SPIs',
  D03: 'timed by a bench, not by a test',
  D04: 'no timed flood',
  D05: 'rings of the mock drop and count; no run under overload',
  C01: 'not all of these values in one test',
  C03: 'lengths are tested; equal and all-zero keys are not refused',
  C05: 'tickets are plain data; changing objects are not tested',
  C06: 'a spread is held against the window of the peer; ESN without replay is not tested',
  C07: 'shown by every vector with a salt, under names of their own',
  C08: 'single bytes are tested (gateway config); size and depth are not',
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
  for (const { id } of catalogue)
    if (Object.hasOwn(SHOWN, id) === Object.hasOwn(OPEN, id)) wrong.push(`${id} is not either shown or open`);
  const open = catalogue.filter((f) => Object.hasOwn(OPEN, f.id));
  const lines = open.map((f) => `  ${f.id} ${f.stimulus}: ${OPEN[f.id]}`);
  console.log(`${Object.keys(SHOWN).length} faults shown, ${open.length} open:\n${lines.join('\n')}`);
  expect(wrong).toEqual([]);
});
