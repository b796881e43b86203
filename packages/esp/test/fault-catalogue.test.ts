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
  P04: [
    'esp/test/faults.test.ts',
    'of IPv4 is taken with every length of options, and refused with one that cannot be',
  ],
  P05: ['esp/test/path.test.ts', 'refuses a packet outside its selectors, a fragment, and UDP where the SA has none'],
  P06: [
    'esp/test/faults.test.ts',
    'of IPv6 is walked past hop-by-hop, routing and destination options, and not for ever',
  ],
  P07: ['esp/test/path-udp.test.ts', 'tells keepalives and IKE from ESP by the rules of RFC 3948'],
  P08: ['esp/test/bad-input.test.ts', 'is BAD_LENGTH once its ICV holds, which uses its number up'],
  P09: ['esp/test/bad-input.test.ts', 'meets the verdict that the corpus of malformed packets expects'],
  P10: ['esp/test/path-options.test.ts', 'makes dummies that look like any other packet'],
  P11: ['esp/test/bad-input.test.ts', 'meets the verdict that the corpus of malformed packets expects'],
  P12: ['esp/test/bad-input.test.ts', 'meets the verdict that the corpus of malformed packets expects'],
  P13: ['esp/test/path.test.ts', 'refuses a packet outside its selectors, a fragment, and UDP where the SA has none'],
  P14: ['esp/test/path-options.test.ts', 'brings ECN back by the table of RFC 6040, all sixteen cells'],
  P15: ['esp/test/engine-agreement.test.ts', 'lets %s open a packet under the number of its row only'],
  I01: ['esp/test/icv-timing.test.ts', 'takes a time that does not depend on where they differ'],
  I02: ['esp/test/engines.test.ts', 'takes no ICV of %s that is shorter than the whole'],
  I03: ['esp/test/verdict-order.test.ts', 'comes before the window and before any plaintext'],
  I04: ['esp/test/engine-vectors.test.ts', 'knows which of the published vectors no engine shall open'],
  I05: ['esp/test/faults.test.ts', 'leaves SPI and number where they were, ESN or not'],
  I06: [
    'esp/test/faults.test.ts',
    'of forgeries moves no window, writes as many audit events as it may, and is counted to the last packet',
  ],
  S01: ['esp/test/faults.test.ts', 'of 0 are refused, without ESN and in the first subspace with it'],
  S02: ['replay/test/window.test.ts', 'gives the expected verdicts one by one and in bursts'],
  S03: [
    'esp/test/faults.test.ts',
    'have a window of exactly its size, any legal one, and no other size makes a window',
  ],
  S04: ['replay/test/window.test.ts', 'counts everything up to a mark as seen'],
  S05: ['esp/test/faults.test.ts', 'that jump cost what numbers in order cost, however far they jump'],
  S06: ['esp/test/bad-input.test.ts', 'is refused with any bit flipped that means something'],
  S07: ['replay/test/window.test.ts', 'infers the high half as RFC 4303 A2 does in both cases'],
  S08: ['replay/test/window.test.ts', 'keeps a high half that is already in the row'],
  S09: ['replay/test/state.test.ts', 'finds a sender that has gone on for several subspaces'],
  S10: ['replay/test/replay.race.test.ts', 'accept each number once and refuse none that is fresh'],
  S11: ['replay/test/replay.race.test.ts', 'go on when others are killed at any moment, and accept nothing twice'],
  S12: ['esp/test/verdict-order.test.ts', 'is inferred once: a window that another worker throws ahead meanwhile'],
  S13: ['replay/test/window.test.ts', 'stops at its limit'],
  S14: ['replay/test/window.test.ts', 'agrees step by step'],
  O01: ['replay/test/replay.race.test.ts', 'give each number once when some are killed'],
  O02: ['replay/test/allocator.test.ts', 'never gives a number again after a restart from the last durable mark'],
  O04: ['replay/test/allocator.test.ts', 'is one counter for all who attach, and refuses other memory'],
  O05: ['replay/test/allocator.test.ts', 'hands out 2^32 - 1 last without ESN and goes on with it'],
  O07: ['esp/test/faults.test.ts', 'are not banked by a worker that idles'],
  O08: ['esp/test/engines.test.ts', 'draws a new IV for every packet of %s'],
  O09: ['esp/test/faults.test.ts', 'are burnt and counted when nobody takes the sealed packet'],
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
  B10: ['esp/test/faults.test.ts', 'that its lower has given to another SA since is none'],
  B11: ['bond/test/waits.test.ts', 'to a lower that never answers counts as refused after its bound'],
  B13: ['bond/test/bond-device.test.ts', 'refuse a slave of another bond until that one has let it go'],
  B14: [
    'bond/test/failover.test.ts',
    'of all slaves drop every packet with its reason, and end the moment that one is back',
  ],
  B15: ['bond/test/xmit-hash.test.ts', 'equals a naive twin for random frames of every kind'],
  L02: ['bond/test/pins.test.ts', 'of a worker that has exited count no more'],
  L03: ['esp/test/faults.test.ts', 'keeps memory flat while SAs come and go'],
  L05: ['esp/test/keys.test.ts', 'is gone from shared memory once wiped, on every thread'],
  L06: ['esp/test/keys.test.ts', 'is in no print of the key, its memory, an SA, a ticket'],
  L07: ['esp/test/path-lifetime.test.ts', 'end an outbound SA for all workers at the hard limit'],
  L08: ['esp/test/faults.test.ts', 'has clocks that may step back and forward'],
  D03: ['esp/test/faults.test.ts', 'of replays costs less than a fifth of as many decrypts'],
  D04: [
    'esp/test/resync.test.ts',
    'does nothing unless asked: a forger, and a sender far ahead, cost one open each for ever',
  ],
  C01: ['gateway/test/config.test.ts', 'an SPI that is a fraction'],
  C02: ['xfrm/test/sad.test.ts', 'refuses a second entry for a slot or a selector and stays as it was'],
  C03: ['gateway/test/config.test.ts', 'one key for cipher and integrity'],
  C04: ['esp/test/engine-vectors.test.ts', 'knows which of the published vectors no engine shall open'],
  C05: ['esp/test/read-once.test.ts', 'is read once: a ticket that says something else the second time'],
  C06: ['gateway/test/config.test.ts', 'a window that the workers overrun by themselves'],
  C07: ['esp/test/engine-vectors.test.ts', 'opens %s, 64-bit halves and all'],
  C08: ['gateway/test/config.test.ts', 'is refused in good time when it is cut, huge, deep, or aliases of aliases'],
};

/** The others, and why. */
const OPEN: Readonly<Record<string, string>> = {
  O03: 'two workers on one SA are tested, and 10^9 numbers in a race of allocators; 10^9 packets over several lowers are not',
  O06: 'failovers are tested; the numbers of a batch cut by one are not looked at',
  B08: 'failovers are counted, not flaps a second',
  B12: 'no lower of the tests reports late by design',
  L01: 'in the models',
  L04: 'no run of a day',
  D01: 'no state, no line per packet and the count are tested (faults.test.ts); the delay of other traffic under the flood is not',
  D02: 'inbound SPIs are chosen by this side, so nobody outside chooses what collides; the table is tested full and colliding',
  D05: 'rings of the mock drop and count; no run under overload',
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
