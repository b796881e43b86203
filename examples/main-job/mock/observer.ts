/**
 * The observer and the attacker on the mock wire: a thread through which every frame must go. Each link is two wires, from A
 * to here and from here to B; what is read off one is looked at, kept, perhaps sent again on another link, and put on the
 * other. Shares no code with the datapath: it reads slots of the wire's memory, and parses with its own few lines.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { MockWire, type MockWireTicket } from '@espalier/mock';
import { KEEP_BYTES, type Seen, type Side } from '../stage.ts';
import { Control } from './controls.ts';

export interface ObserverStart {
  /** This thread is side 1 of the first and side 0 of the second. */
  readonly toA: MockWireTicket;
  readonly toB: MockWireTicket;
  readonly control: SharedArrayBuffer;
  readonly marker: Uint8Array;
  readonly recording: SharedArrayBuffer;
}

export interface ObserverEnd {
  readonly seen: Seen;
  readonly recorded: number;
}

const REPLAY_EVERY = 100;
/** Frames of one ring looked at before the next gets its turn. */
const TURN = 64;
const ESP = 50;

interface SaSeen {
  link: number;
  cut: boolean;
  moved: number;
}

const start = workerData as ObserverStart;
const control = new Int32Array(start.control);
const wires = [MockWire.attach(start.toA), MockWire.attach(start.toB)] as const;
const marker = Buffer.from(start.marker);
const recording = Buffer.from(start.recording);
const sas: Map<number, SaSeen> = new Map();
const toB = new Array<number>(wires[0].links).fill(0);
let recorded = 0;
let keep = KEEP_BYTES;
let kept = 0;
let following = -1;
/** When a link carried a frame last, milliseconds. */
const lastOn = new Array<number>(wires[0].links).fill(0);
let lastOnCut = 0;
let frames = 0;
let esp = 0;
let plaintext = 0;
let marked = 0;
let replayed = 0;
let replayFailed = 0;

function isEsp(f: Uint8Array): boolean {
  if (f.length < 34) return false;
  if (f[12] === 0x08 && f[13] === 0x00) return f[14]! >> 4 === 4 && f[23] === ESP;
  if (f[12] === 0x86 && f[13] === 0xdd) return f.length >= 54 && f[14]! >> 4 === 6 && f[20] === ESP;
  return false;
}

function track(f: Buffer, link: number, now: number): void {
  const spi = f.readUInt32BE(14 + (f[12] === 0x08 ? (f[14]! & 15) * 4 : 40));
  let sa = sas.get(spi);
  if (sa === undefined) {
    sa = { link, cut: false, moved: 0 };
    sas.set(spi, sa);
  }
  lastOn[link] = now;
  if (following >= 0 && link === following) lastOnCut = now;
  else if (following >= 0 && sa.link === following && sa.cut && sa.moved === 0) {
    sa.moved = now;
    Atomics.add(control, Control.MOVED, 1);
  }
  sa.link = link;
}

/** As recording.ts reads them. */
function record(f: Buffer, link: number, atB: number, now: number): void {
  const size = f.length + 36;
  if (size > keep || recorded + f.length + 12 > recording.length) return;
  keep -= size;
  const time = performance.timeOrigin + now;
  recording.writeUInt32LE(Math.floor(time / 1000), recorded);
  recording.writeUInt32LE(Math.floor((time % 1000) * 1e6), recorded + 4);
  recording.writeUInt16LE(f.length, recorded + 8);
  recording.writeUInt16LE(link * 2 + atB, recorded + 10);
  f.copy(recording, recorded + 12);
  recorded += f.length + 12;
}

/** Whether the frame has been put on the far wire, or is lost with its link; false = its ring is full, look again later. */
function pass(f: Buffer, link: number, from: Side): boolean {
  const far = wires[1 - from]!;
  const cut = ((Atomics.load(control, Control.CUT) >> link) & 1) === 1;
  // `inject` on either wire is this thread's alone; on A's it comes from side 1, on B's from side 0.
  if (!cut && !far.inject(link, from, f)) return false;
  const now = performance.now();
  frames++;
  let bad = false;
  if (isEsp(f)) {
    esp++;
    track(f, link, now);
  } else {
    plaintext++;
    bad = true;
  }
  if (f.includes(marker)) {
    marked++;
    bad = true;
  }
  record(f, link, 1 - from, now);
  if (from === 0 && !bad && !cut && Atomics.load(control, Control.REPLAY) === 1 && ++toB[link]! % REPLAY_EVERY === 0) {
    if (far.inject((link + 1) % far.links, from, f)) replayed++;
    else replayFailed++;
  }
  return true;
}

function drain(link: number, from: Side): number {
  const wire = wires[from]!;
  let moved = 0;
  for (let worker = 0; worker < wire.workers; worker++) {
    const ring = wire.ring(link, from, worker);
    let taken = 0;
    for (let i = ring.next(ring.begin(), 0); i !== -1 && taken < TURN; i = ring.next((i + 1) | 0, 0)) {
      const at = ring.at(i);
      const { buffer, byteOffset } = ring.bytes;
      if (!pass(Buffer.from(buffer as unknown as ArrayBuffer, byteOffset + at, ring.length(i)), link, from)) break;
      ring.empty(i);
      taken++;
    }
    if (taken > 0) ring.release();
    moved += taken;
  }
  return moved;
}

function obey(): void {
  const ordered = Atomics.load(control, Control.ORDERED);
  if (ordered === Atomics.load(control, Control.OBEYED)) return;
  const asked = Atomics.load(control, Control.KEEP);
  if (asked !== kept) {
    kept = asked;
    keep = KEEP_BYTES;
  }
  const link = Atomics.load(control, Control.FOLLOW);
  if (link !== following) {
    following = link;
    if (link >= 0) {
      lastOnCut = lastOn[link]!;
      for (const sa of sas.values()) sa.cut = sa.link === link;
    }
  }
  Atomics.store(control, Control.OBEYED, ordered);
}

for (let last = false; ; ) {
  obey();
  let moved = 0;
  for (let link = 0; link < wires[0].links; link++) moved += drain(link, 0) + drain(link, 1);
  if (last && moved === 0) break;
  last = Atomics.load(control, Control.STOP) === 1;
  if (moved === 0 && !last) Atomics.wait(control, Control.STOP, 0, 1);
}
const cut = [...sas.values()].filter((sa) => sa.cut);
const moved = cut.filter((sa) => sa.moved > 0).map((sa) => sa.moved - lastOnCut);
const seen: Seen = { frames, esp, plaintext, marked, replayed, replayFailed, lost: 0, cut: cut.length, moved };
parentPort!.postMessage({ seen, recorded } satisfies ObserverEnd);
