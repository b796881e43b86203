// Calls whatever the addon exports with arguments of every kind, in a process of its own: node fuzz-child.mjs ADDON SEED CALLS REPORT.
// Nothing here knows what a function wants, except the seeds, which let the deep ones be reached: calls that were accepted
// are kept and changed in one place. Writes to REPORT what was wrong and how often each function was reached. Descriptors 0
// to 99 are the parent's /dev/null, so that small integers are no danger to Node itself.
import { closeSync, constants, openSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [addonFile, seedText, callsText, report] = process.argv.slice(2);
const addon = createRequire(import.meta.url)(addonFile);
const names = Object.keys(addon);
const out = openSync(report, 'w');
const SAFE = 100;
const tapeFile = `${report}.tape`;
const ours = Math.max(...readdirSync('/proc/self/fd').map(Number)) + 1;

let x = Number(seedText) | 1;
const next = (below) => {
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  return (x >>> 0) % below;
};
const pick = (list) => list[next(list.length)] ?? list[0];

/** None where a sanitizer watches: memory must end where it ends. */
const GUARD = process.env.ASAN_OPTIONS ? 0 : 4096;
const guarded = [];
/** Shared bytes with a guard on both sides that nobody may touch. */
function shared(length) {
  const all = new Uint8Array(new SharedArrayBuffer(GUARD + length + GUARD)).fill(0xa5);
  guarded.push({ all, length });
  return new Uint8Array(all.buffer, GUARD, length);
}
const sharedWords = (length) => new Int32Array(shared(length * 4).buffer, GUARD, length);
function guardsHold() {
  return guarded.every(({ all, length }) => all.every((b, i) => b === 0xa5 || (i >= GUARD && i < GUARD + length)));
}

const slabs = [
  { bytes: shared(64 * 2048), rows: sharedWords(64 * 16), shape: [64, 2048, 256, 64] },
  { bytes: shared(16 * 64), rows: sharedWords(16 * 16), shape: [16, 64, 0, 0] },
  // Exactly as large as the memory, for a sanitizer to see one byte beyond.
  {
    bytes: new Uint8Array(new SharedArrayBuffer(4 * 256)),
    rows: new Int32Array(new SharedArrayBuffer(4 * 64)),
    shape: [4, 256, 16, 16],
  },
];
const lists = [sharedWords(64), sharedWords(1), new Int32Array(new SharedArrayBuffer(300 * 4))];
const { buffer: pages } = new WebAssembly.Memory({ initial: 8, maximum: 8, shared: true });
const memory = new Uint8Array(pages);

function detached() {
  const buffer = new ArrayBuffer(256);
  const array = pick([new Uint8Array(buffer), new Int32Array(buffer, 16, 8)]);
  structuredClone(buffer, { transfer: [buffer] });
  return array;
}
function shrunk() {
  const buffer = new ArrayBuffer(4096, { maxByteLength: 8192 });
  const array = pick([new Uint8Array(buffer), new Int32Array(buffer), new Int32Array(buffer, 2048, 16)]);
  buffer.resize(pick([0, 8, 8192]));
  return array;
}
function grown() {
  const buffer = new SharedArrayBuffer(64, { maxByteLength: 65_536 });
  const array = pick([new Uint8Array(buffer), new Int32Array(buffer)]);
  buffer.grow(pick([64, 4096, 65_536]));
  return array;
}

/** What calls returned, for other calls to take: ids, keys, descriptors. */
const results = Array.from({ length: 48 }, (_, i) => i % 3);
const numbers = [0, 1, 2, -1, -2, 4, 8, 16, 32, 64, 256, 2048, 4500];
const strange = [Number.NaN, Infinity, -Infinity, 1.5, -0.5, 2 ** 31, -(2 ** 31), 2 ** 31 - 1, 2 ** 32, 2 ** 53, 1e300];
const things = [
  ...[undefined, null, true, '', '0', 'lo', 'espf%d', 'a\0b', 'x'.repeat(300), Symbol('s'), 1n, {}, [], [1, 2, 3]],
  ...[() => 1, new Proxy({}, {}), new Date(0), new DataView(new ArrayBuffer(8)), new ArrayBuffer(64), pages],
  { valueOf: () => 1, [Symbol.toPrimitive]: () => 1 },
];
const TYPES = [
  Uint8Array,
  Int8Array,
  Uint8ClampedArray,
  Uint16Array,
  Uint32Array,
  Int32Array,
  Float64Array,
  BigInt64Array,
];

const sources = [
  () => pick(numbers),
  () => pick(results),
  () => pick(results),
  () => pick(strange),
  () => pick(things),
  () => next(2 ** 32) | 0 | 0x40000000,
  () => pick(slabs)[pick(['bytes', 'rows'])],
  () => pick(lists),
  () => memory,
  () => new (pick(TYPES))(pick([0, 1, 4, 16, 20, 64, 4096])),
  () => new (pick([Uint8Array, Int32Array]))(new SharedArrayBuffer(pick([0, 4, 16, 64, 4096]))),
  detached,
  shrunk,
  grown,
];
const anything = () => pick(sources)();

const made = new Map(names.map((name) => [name, [0]]));
/** One of the last results of a function: an id that may well be good. */
const of = (name) => pick(made.get(name) ?? [0]);
const RINGS_AT = 131_072;
const RING_BYTES = 36_864;
const onRows = (opener) => () => [of(opener), of('registerSlab'), of('registerList'), 0, next(next(4) === 0 ? 64 : 8)];
const bound = (opener) => () => [of(opener)];

const tapes = [];
/** A descriptor that reads like a TUN device: an offload header and a packet, both nearly right, in a file. */
function tape() {
  if (tapes.length === 8) closeSync(tapes.shift());
  const bytes = Buffer.alloc(10 + pick([0, 19, 20, 40, 41, 60, 61, 200, 1400, 65_536]), 0x11);
  const l4 = pick([20, 20, 24, 40, 40, 60]);
  bytes.set([pick([0, 1, 1]), pick([0, 1, 4, 5, 0x81, next(256)])]);
  bytes.writeUInt16LE(pick([l4, next(65_536)]), 2);
  bytes.writeUInt16LE(pick([1, 100, 1000, next(65_536)]), 4);
  bytes.writeUInt16LE(pick([l4, l4, next(65_536)]), 6);
  bytes.writeUInt16LE(pick([6, 16, next(65_536)]), 8);
  if (bytes.length > 10) bytes[10] = pick([0x45, 0x46, 0x4f, 0x60, 0x60, next(256)]);
  if (bytes.length > 22 + l4) bytes[22 + l4] = pick([0x50, 0x80, next(256)]);
  writeFileSync(tapeFile, bytes);
  try {
    tapes.push(openSync(tapeFile, constants.O_RDWR | constants.O_NONBLOCK));
  } catch (error) {
    // What the addon opened has taken them all.
    if (error.code !== 'EMFILE') throw error;
  }
  return tapes.at(-1) ?? 0;
}

/** Well-formed calls, by function. One that is not here is reached by chance and by what it accepted before. */
const seeds = {
  registerSlab: () => {
    const { bytes, rows, shape } = pick(slabs);
    return [bytes, rows, ...shape];
  },
  registerList: () => [pick(lists)],
  aeadInstall: () =>
    pick([
      [new Uint8Array(20), 1 + next(2), 1, next(2), 8, 16, 4, 0],
      [new Uint8Array(36), 1 + next(2), 1, 2 + next(2), 0, pick([8, 12, 16]), 4, 0],
      [new Uint8Array(36), 1 + next(2), 2, next(2), pick([8, 8, 0]), pick([16, 16, 4]), 4, 0],
      [new Uint8Array(48), 1 + next(2), 3, next(2), 16, 16, 0, 32],
    ]),
  aeadSeal: () => [of('registerSlab'), pick(lists), next(65)],
  aeadOpen: () => [of('registerSlab'), pick(lists), next(65)],
  tunOpen: () => ['espf%d', next(4), next(2)],
  tunAttach: () => [next(3) > 0 ? of('tunOpen') : tape()],
  tunFile: () => [next(3) > 0 ? tape() : of('tunOpen')],
  tunRead: onRows('tunFile'),
  tunWrite: onRows('tunFile'),
  udpOpen: () => [new Uint8Array(4), 4500 + next(2), Uint8Array.of(127, 0, 0, 1), 4500 + next(2)],
  udpPathMtu: () => [new Uint8Array(4), Uint8Array.of(127, 0, 0, 1), 4500 + next(2)],
  udpSend: onRows('udpOpen'),
  udpReceive: onRows('udpOpen'),
  packetOpen: () => [1, pick([0, 32])],
  packetFd: bound('packetOpen'),
  packetDrops: bound('packetOpen'),
  packetSend: onRows('packetOpen'),
  packetReceive: onRows('packetOpen'),
  linkGet: () => ['lo', new Int32Array(6)],
  linkSet: () =>
    pick([
      ['lo', 0, 1, 0],
      ['lo', 1, 1500, 0],
      ['lo', 2, 0x7f000001, 8],
    ]),
  xskAttach: () => [1, 1 + next(2), new Int32Array(3)],
  xskOpen: () => [
    memory,
    new Int32Array(16),
    Int32Array.of(1, 0, RINGS_AT, 2048, RINGS_AT, RING_BYTES, 2048, 8, -1, -1),
  ],
  xskClose: () => [of('xskOpen'), memory, RINGS_AT, 4 * RING_BYTES],
  netlinkOpen: () => [next(16), () => 1],
  netlinkSend: () => [of('netlinkOpen'), new Uint8Array(next(64))],
  netlinkReceive: () => [of('netlinkOpen'), new Uint8Array(4096)],
  netlinkPort: () => [of('netlinkOpen')],
  netlinkClose: bound('netlinkOpen'),
  wait: () => [of('registerList'), next(8), 0],
  // Whatever the addon has opened, also what is not its caller's to close.
  close: () => [ours + 1 + next(200)],
};
/** What works on rows. */
const deep = names.filter((name) => /Read$|Write$|Send$|Receive$|Seal$|Open$/.test(name) && seeds[name]?.().length > 2);
const ENDS = /^un|^close$|Close$|Detach$|Remove$/;
const unknown = Object.keys(seeds).filter((name) => !names.includes(name));

function scramble() {
  const hostile = next(2) === 0;
  const bad = (n) => hostile && next(n) === 0;
  for (const { rows, bytes, shape } of slabs)
    for (let row = 0; row < shape[0]; row++) {
      const at = row * 16;
      const start = row * shape[1] + next(shape[1]);
      const most = bytes.length - start;
      const edge = () => pick([next(2 ** 32) | 0, bytes.length + next(33) - 16, -next(17), 2 ** 31 - 1 - next(17)]);
      const end = start + next(Math.min(most, shape[1]) + 1);
      rows[at] = bad(4) ? edge() : start;
      rows[at + 1] = bad(3) ? edge() : next(4) === 0 && most <= shape[1] ? bytes.length : end;
      rows[at + 3] = bad(4) ? edge() : start;
      rows[at + 5] = bad(3) ? next(2 ** 32) | 0 : of('aeadInstall');
      rows[at + 8] = pick([1, 4, next(8)]);
      rows[at + 9] = next(8) === 0 ? 1 : 0;
      // Sometimes what begins as TCP over IPv4 or IPv6 does, of any length.
      if (start + 60 < bytes.length) bytes.set(next(2) === 0 ? [0x45, 0, next(256), next(256)] : [0x60], start);
    }
  // As descriptors to wait for: none of Node's own.
  for (const list of lists)
    for (let i = 0; i < list.length; i++)
      list[i] = bad(9) ? next(2 ** 32) | 0x40000000 : next(list === lists[1] ? 4 : 16);
}

const accepted = new Map(names.map((name) => [name, []]));
const counts = Object.fromEntries(names.map((name) => [name, { returned: 0, refused: 0 }]));
const wrong = unknown.map((name) => `${name} is a seed of the fuzz but no function`);

try {
  addon.linkSet('lo', 0, 1, 0);
} catch (error) {
  wrong.push(`linkSet threw ${error}`);
}
for (let call = 0; call < Number(callsText) && wrong.length === 0; call++) {
  if (call % 64 === 0) scramble();
  if (call % 4096 === 0) globalThis.gc?.();
  const name = next(3) === 0 ? pick(deep) : pick(names);
  // What is closed at once is never worked with.
  if (ENDS.test(name) && next(4) > 0) continue;
  const corpus = accepted.get(name);
  let args;
  const how = next(8);
  if (how === 0) args = Array.from({ length: next(10) }, anything);
  else if (how < 6 && seeds[name]) args = seeds[name]();
  else args = [...(corpus.length > 0 && how < 7 ? pick(corpus) : Array.from({ length: 1 + next(6) }, anything))];
  if (how > 3 && args.length > 0) args[next(args.length)] = anything();
  if (next(32) === 0) args.pop();
  try {
    const result = addon[name](...args);
    counts[name].returned++;
    if (!Number.isInteger(result)) wrong.push(`${name} returned ${String(result)}`);
    if (result >= 0 && (result < SAFE || result > ours)) {
      results[next(48)] = result;
      made.get(name)[next(6)] = result;
    }
    if (corpus.length < 64) corpus.push(args);
    else corpus[next(64)] = args;
  } catch (error) {
    counts[name].refused++;
    if (!(error instanceof TypeError || error instanceof RangeError)) wrong.push(`${name} threw ${error}`);
  }
}
if (!guardsHold()) wrong.push('bytes beside the registered memory were written');
writeFileSync(out, JSON.stringify({ wrong, counts }));
process.exit(wrong.length === 0 ? 0 : 1);
