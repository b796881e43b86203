// RFC 4303 Appendix A3, as an operation of the caller. Budget: 1 s.
import { type Burst, Row, RowState } from '@espalier/wire';
import type { CryptoEngine } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { nodeEngine } from '../src/engines/node.ts';
import { type EspPathOptions, SaStat } from '../src/index.ts';
import { ipv4, toHex } from './bench-rows.ts';
import { type Rig, receive, rig, send } from './rig.ts';

const TWO_32 = 2 ** 32;
const PACKET = ipv4(60);
const THROUGH = toHex(PACKET);

/** node's engine, and how many rows it was given to open. */
function counting(): { engine: CryptoEngine; opened: () => number } {
  const engine = nodeEngine();
  let count = 0;
  return {
    opened: () => count,
    engine: {
      name: engine.name,
      algorithms: engine.algorithms,
      install: (...a) => engine.install(...a),
      remove: (key) => engine.remove(key),
      seal: (burst) => engine.seal(burst),
      open(burst: Burst) {
        for (let i = 0; i < burst.length; i++) {
          const r = burst.list[i]! * Row.WORDS;
          if (burst.rows[r + Row.STATE] === RowState.RECEIVED && burst.rows[r + Row.FATE] === 0) count++;
        }
        return engine.open(burst);
      },
    },
  };
}

/** A receiver at about 1000 whose sender has gone on, unheard, to `number`. */
function lost(number: number, options: Partial<EspPathOptions> = {}): Rig {
  const r = rig({}, {}, options);
  r.allocator.advanceTo(1000);
  expect(receive(r, ...send(r, PACKET))).toEqual([THROUGH]);
  r.allocator.advanceTo(number);
  return r;
}

describe('resynchronisation after more than 2^32 lost numbers', () => {
  it('finds the sender again, on the word of the caller, and goes on from there', () => {
    const r = lost(5 * TWO_32 + 77);
    expect(receive(r, ...send(r, PACKET, PACKET))).toEqual(['ICV', 'ICV']);
    r.b.resync(3);
    expect(receive(r, ...send(r, PACKET))).toEqual([THROUGH]);
    expect(r.window.top()).toBe(5 * TWO_32 + 79);
    const [next] = send(r, PACKET);
    expect(receive(r, next!)).toEqual([THROUGH]);
    expect(receive(r, next!)).toEqual(['REPLAYED']);
  });

  it('does nothing unless asked: a forger, and a sender far ahead, cost one open each for ever', () => {
    const { engine, opened } = counting();
    const r = lost(3 * TWO_32 + 5000, { engine });
    const before = opened();
    for (let i = 0; i < 3000; i++) receive(r, ...send(r, PACKET));
    expect(opened() - before).toBe(3000);
    expect(r.b.stats[3 * SaStat.COLUMNS + SaStat.DROPS + 7]).toBe(3000);
    expect(r.window.top()).toBe(1000);
  });

  it('costs at most frames times attempts once asked, and forgeries move nothing', () => {
    const { engine, opened } = counting();
    const r = lost(TWO_32 + 5000, { engine });
    const forge = (): Uint8Array => {
      const [frame] = send(r, PACKET);
      frame![frame!.length - 1]! ^= 1;
      return frame!;
    };
    r.b.resync(3, { frames: 4, attempts: 6 });
    const before = opened();
    for (let i = 0; i < 100; i++) expect(receive(r, forge())).toEqual(['ICV']);
    expect(opened() - before).toBe(100 + 4 * 6);
    expect(r.window.top()).toBe(1000);
    // A failed one leaves no payload behind either.
    r.b.resync(3);
    receive(r, forge());
    const at = r.bench.at(0, Row.ESP) + 16;
    expect(r.bench.slab.bytes.subarray(at, r.bench.at(0, Row.END) - 16).every((b) => b === 0)).toBe(true);
  });

  it('ends with the first ICV that holds, be it under the half that was inferred', () => {
    const { engine, opened } = counting();
    const r = lost(1001, { engine });
    r.b.resync(3, { frames: 1000 });
    expect(receive(r, ...send(r, PACKET, PACKET))).toEqual([THROUGH, THROUGH]);
    const before = opened();
    const [frame] = send(r, PACKET);
    frame![frame!.length - 1]! ^= 1;
    expect(receive(r, frame!)).toEqual(['ICV']);
    expect(opened() - before).toBe(1);
  });

  it('does not reach beyond its attempts, the LIMIT, or an SA that is gone', () => {
    const r = lost(9 * TWO_32 + 5000);
    r.b.resync(3, { attempts: 8 });
    expect(receive(r, ...send(r, PACKET))).toEqual(['ICV']);
    r.b.resync(3, { attempts: 9 });
    expect(receive(r, ...send(r, PACKET))).toEqual([THROUGH]);
    expect(() => r.b.resync(3, { attempts: 65 })).toThrow(RangeError);
    expect(() => r.b.resync(3, { frames: 0 })).toThrow(RangeError);
    r.b.remove(3);
    expect(() => r.b.resync(3)).toThrow('no inbound SA');
  });

  it('is refused without ESN, where there is no other half to try', () => {
    const plain = rig({}, { esn: false });
    expect(() => plain.b.resync(3)).toThrow('without ESN');
  });
});
