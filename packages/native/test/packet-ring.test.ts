import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { createSlab, Row } from '@espalier/wire';
import { afterAll, describe, expect, it } from 'vitest';
import { linkInfo, load, slabId } from '../src/index.ts';
import { vethPair } from './veth.ts';

const { binding } = load();
const pair = vethPair('espq');
const reason = typeof pair === 'string' ? pair : null;
afterAll(() => typeof pair !== 'string' && pair.close());
const SLOTS = 32;
const SLOT = 2048;
const TP_STATUS_USER = 1;

/** Where the kernel's receive ring is mapped in this process: the one mapping of a socket that has come. */
function mappings(): Set<number> {
  const lines = readFileSync('/proc/self/maps', 'utf8').split('\n');
  return new Set(lines.filter((l) => l.includes('socket:')).map((l) => Number.parseInt(l.split('-')[0]!, 16)));
}

const indexOf = (name: string): number => {
  const info = linkInfo(binding!, name);
  if (typeof info === 'number') throw new Error(`${name}: ${info}`);
  return info.index;
};

describe.skipIf(reason !== null)(`an AF_PACKET ring that lies${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  it('gives no byte from outside a slot: what does not fit slot and frame is passed over, and the ring goes on', () => {
    if (typeof pair === 'string') return;
    const before = mappings();
    const receiver = binding!.packetOpen(indexOf(pair.b), SLOTS);
    const sender = binding!.packetOpen(indexOf(pair.a), 0);
    expect([receiver >= 0, sender >= 0]).toEqual([true, true]);
    const ring = [...mappings()].find((at) => !before.has(at))!;
    const memory = openSync('/proc/self/mem', 'r+');
    const slab = createSlab({ frames: SLOTS });
    const list = new Int32Array(new SharedArrayBuffer(4 * SLOTS));
    for (let i = 0; i < SLOTS; i++) list[i] = i;
    const [id, rows] = [slabId(binding!, slab), binding!.registerList(list)];
    const room = slab.frameSize - slab.headroom - slab.tailroom;
    const lies: { mac: number; snap: number; length: number }[] = [
      { mac: 80, snap: 0xffff_ffff, length: 0xffff_ffff },
      { mac: 80, snap: room + 1, length: room + 1 },
      { mac: 0xffff, snap: 60, length: 60 },
      { mac: SLOT - 59, snap: 60, length: 60 },
      { mac: 80, snap: 60, length: 61 },
      { mac: 0xffff, snap: 0x8000_0000, length: 0x8000_0000 },
    ];
    try {
      lies.forEach(({ mac, snap, length }, slot) => {
        const header = Buffer.alloc(16);
        header.writeUInt32LE(TP_STATUS_USER, 0);
        header.writeUInt32LE(length, 4);
        header.writeUInt32LE(snap, 8);
        header.writeUInt16LE(mac, 12);
        expect(writeSync(memory, header, 0, 14, ring + slot * SLOT)).toBe(14);
      });
      const untouched = slab.bytes.slice();
      expect(binding!.packetReceive(receiver, id, rows, 0, SLOTS)).toBe(0);
      expect(Buffer.compare(untouched, slab.bytes)).toBe(0);
      // The kernel has them back.
      const status = Buffer.alloc(4);
      for (let slot = 0; slot < lies.length; slot++) {
        readSync(memory, status, 0, 4, ring + slot * SLOT);
        expect(status.readUInt32LE(0)).toBe(0);
      }
      // Its own next frame still lies where it always would have, at the front: we are beyond, and come around to it.
      const frame = slab.headroom;
      slab.bytes.fill(0xff, frame, frame + 60);
      slab.rows[Row.START] = frame;
      slab.rows[Row.END] = frame + 60;
      let got = 0;
      for (let i = 0; i < 2 * SLOTS; i++) {
        expect(binding!.packetSend(sender, id, rows, 0, 1)).toBe(1);
        got += binding!.packetReceive(receiver, id, rows, 1, SLOTS - 1);
      }
      expect(got).toBeGreaterThanOrEqual(SLOTS);
      const r = Row.WORDS;
      expect(slab.rows[r + Row.END]! - slab.rows[r + Row.START]!).toBe(60);
    } finally {
      closeSync(memory);
      binding!.packetClose(receiver);
      binding!.packetClose(sender);
      binding!.unregisterList(rows);
    }
  });
});
