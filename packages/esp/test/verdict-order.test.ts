/**
 * The order in which a received packet is judged (RFC 4303 3.4): SA, number and early look, ICV, window, then what is inside.
 * Budget: 1 s.
 */
import { type Burst, Row, RowState } from '@espalier/wire';
import { type CryptoEngine, DropReason, type Port } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { NOBLE_SUITE } from '../src/engines/noble.ts';
import { NODE_SUITE, nodeEngine } from '../src/engines/node.ts';
import { SaStat } from '../src/index.ts';
import { ipv4, toHex } from './bench-rows.ts';
import { HERE } from './every-engine.ts';
import { NAT_T, type Rig, receive, rig, send } from './rig.ts';

const PACKET = ipv4(60);
const THROUGH = toHex(PACKET);

/** An engine with something that happens between the early look and the commit. */
function meanwhile(what: (burst: Burst, engine: CryptoEngine) => number, engine = nodeEngine()): CryptoEngine {
  return {
    name: `${engine.name}, watched`,
    algorithms: engine.algorithms,
    install: (...a) => engine.install(...a),
    remove: (key) => engine.remove(key),
    seal: (burst) => engine.seal(burst),
    open: (burst) => what(burst, engine),
  };
}

/** A rig, and what another worker of its SA does, once, while the next burst is between its ICVs and its commit. */
function interruptible(): { readonly r: Rig; readonly interrupt: (by: (other: Rig) => void) => void } {
  let by: ((other: Rig) => void) | null = null;
  const engine = meanwhile((burst, inner) => {
    const opened = inner.open(burst);
    const once = by;
    by = null;
    once?.(rig({}, { window: { memory: r.window.memory, offset: 0 } }));
    return opened;
  });
  const r = rig({}, {}, { engine });
  return {
    r,
    interrupt: (next) => {
      by = next;
    },
  };
}

/** A frame with the last byte of its ICV changed. */
function forged(frame: Uint8Array): Uint8Array {
  const copy = frame.slice();
  copy[copy.length - 1]! ^= 1;
  return copy;
}

/** Bytes of the window's memory: unchanged means that nothing has been written. */
const written = (r: Rig): string => Buffer.from(new Uint8Array(r.window.memory)).toString('latin1');

describe('the number', () => {
  it('is inferred once: a window that another worker throws ahead meanwhile does not make it another one', () => {
    const { r, interrupt } = interruptible();
    const [old] = send(r, PACKET);
    r.allocator.advanceTo(3000);
    const [ahead] = send(r, PACKET);
    // The old one is at hand while the other worker takes one that is a window and more ahead of it.
    interrupt((other) => {
      expect(receive(other, ahead!)).toEqual([THROUGH]);
      expect(r.window.top()).toBe(3000);
    });
    expect(receive(r, old!)).toEqual(['STALE']);
    expect(r.window.top()).toBe(3000);
  });

  it('is judged again after the ICV: of two workers that both found it fresh one has it', () => {
    const { r, interrupt } = interruptible();
    const [frame] = send(r, PACKET);
    interrupt((other) => expect(receive(other, frame!)).toEqual([THROUGH]));
    expect(receive(r, frame!)).toEqual(['REPLAYED']);
  });

  it('of a forged copy does not keep the true packet out, though both are in one burst', () => {
    const r = rig();
    const [frame] = send(r, PACKET);
    expect(receive(r, forged(frame!), frame!, frame!)).toEqual(['ICV', THROUGH, 'REPLAYED']);
  });

  it('that was accepted before is refused before any decrypt, and so is one left of the window', () => {
    let opened = 0;
    const engine = meanwhile((burst, inner) => {
      for (let i = 0; i < burst.length; i++) {
        const r = burst.list[i]! * Row.WORDS;
        if (burst.rows[r + Row.STATE] === RowState.RECEIVED && burst.rows[r + Row.FATE] === 0) opened++;
      }
      return inner.open(burst);
    });
    const s = rig({ esn: false }, { esn: false }, { engine });
    const frames = send(s, PACKET, PACKET);
    s.allocator.advanceTo(5000);
    const [far] = send(s, PACKET);
    expect(receive(s, frames[0]!, far!)).toEqual([THROUGH, THROUGH]);
    opened = 0;
    expect(receive(s, far!, frames[0]!, frames[1]!)).toEqual(['REPLAYED', 'STALE', 'STALE']);
    expect(opened).toBe(0);
  });

  it('beyond the LIMIT is never taken, ICV or not', () => {
    const r = rig();
    r.window.acceptUpTo(r.window.limit - 10);
    r.allocator.advanceTo(r.allocator.limit);
    const [last] = send(r, PACKET);
    expect(receive(r, last!)).toEqual([THROUGH]);
    send(r, PACKET);
    expect(r.bench.fates()).toEqual([DropReason.EXHAUSTED]);
    expect(r.window.top()).toBe(r.window.limit);
  });
});

describe('the encapsulation', () => {
  it('has to be the one of the SA, before any crypto: ESP in UDP or ESP alone', () => {
    const [plain, udp] = [null, NAT_T].map((encap) => rig({ encap }, { encap })) as [Rig, Rig];
    const frames = { plain: send(plain, PACKET)[0]!, udp: send(udp, PACKET)[0]! };
    for (const [r, frame] of [
      [plain, frames.udp],
      [udp, frames.plain],
    ] as const) {
      expect(receive(r, frame)).toEqual(['BAD_ENCAP']);
      expect(r.bench.at(0, Row.STATE)).toBe(RowState.RECEIVED);
    }
    expect(receive(plain, frames.plain)).toEqual([THROUGH]);
    expect(receive(udp, frames.udp)).toEqual([THROUGH]);
  });
});

describe('the ICV', () => {
  it.each(HERE)('comes before the window and before any plaintext, engine %s', (_, make) => {
    const r = rig({}, {}, { engine: make() });
    const frames = send(r, PACKET, PACKET, PACKET);
    const before = written(r);
    const lengths = frames.map((f) => f.length);
    expect(receive(r, ...frames.map(forged))).toEqual(['ICV', 'ICV', 'ICV']);
    expect(written(r)).toBe(before);
    frames.forEach((_f, i) => {
      const { bytes } = r.bench.slab;
      const [esp, end] = [r.bench.at(i, Row.ESP), r.bench.at(i, Row.END)];
      expect(end - r.bench.at(i, Row.START)).toBe(lengths[i]);
      expect(bytes.subarray(esp + 16, end - 16).every((b) => b === 0)).toBe(true);
    });
    // Nothing was counted as bytes or packets of the SA.
    expect([r.b.stats[3 * SaStat.COLUMNS], r.b.stats[3 * SaStat.COLUMNS + SaStat.BYTES]]).toEqual([0, 0]);
    expect(receive(r, ...frames)).toEqual([THROUGH, THROUGH, THROUGH]);
  });

  it('of a row that no engine has looked at does not hold', () => {
    const r = rig({}, {}, { engine: meanwhile(() => 0) });
    const [frame] = send(r, PACKET);
    const before = written(r);
    expect(receive(r, frame!)).toEqual(['ICV']);
    expect(written(r)).toBe(before);
  });

  it.each(HERE)('that holds is counted, and no other, engine %s', (_, make) => {
    const counts: number[] = [];
    const watch = (burst: Burst, engine: CryptoEngine): number => {
      const opened = engine.open(burst);
      const rows = [...burst.list.subarray(0, burst.length)];
      expect(opened).toBe(rows.filter((row) => burst.rows[row * Row.WORDS + Row.STATE] === RowState.OPENED).length);
      counts.push(opened);
      return opened;
    };
    const r = rig({}, {}, { engine: meanwhile(watch, make()) });
    const frames = send(r, PACKET, PACKET, PACKET, PACKET, PACKET);
    expect(receive(r, frames[0]!)).toEqual([THROUGH]);
    const burst = [frames[0]!, forged(frames[1]!), frames[1]!, frames[2]!, forged(frames[3]!), frames[4]!];
    expect(receive(r, ...burst)).toEqual(['REPLAYED', 'ICV', THROUGH, THROUGH, 'ICV', THROUGH]);
    expect(receive(r, ...frames.slice(3, 4))).toEqual([THROUGH]);
    expect(counts).toEqual([1, 3, 1]);
  });

  it('that an engine only says has held brings nothing to light: the row is believed', () => {
    const r = rig({}, {}, { engine: meanwhile(({ length }) => length) });
    const frames = send(r, PACKET, PACKET);
    expect(receive(r, ...frames)).toEqual(['ICV', 'ICV']);
    expect(r.b.stats[3 * SaStat.COLUMNS]).toBe(0);
    // Nor what a port says.
    const port = { open: ({ length }: Burst) => length } as Port;
    r.bench.clear();
    for (const frame of send(rig(), PACKET, PACKET)) r.bench.put(frame, RowState.RECEIVED);
    r.b.inbound(r.bench.burst, port);
    expect(r.bench.fates()).not.toContain(0);
    // One that counts too few is believed as little, and one that counts nothing at all.
    for (const says of [0, 1, Number.NaN]) {
      const s = rig({}, {}, { engine: meanwhile((burst, engine) => engine.open(burst) * 0 + says) });
      const [first, second] = send(s, PACKET, PACKET);
      expect(receive(s, first!, forged(second!))).toEqual([THROUGH, 'ICV']);
      expect(receive(s, second!)).toEqual([THROUGH]);
    }
  });

  it('that fails leaves the bytes of an AEAD as they were: no library’s early plaintext is copied out', () => {
    for (const suite of [NOBLE_SUITE, NODE_SUITE])
      for (const [name, salt] of [
        ['aes-gcm', 4],
        ['aes-ccm', 3],
        ['chacha20-poly1305', 4],
      ] as const) {
        const aead = suite.aeads[name]!(new Uint8Array(32).fill(3), 16);
        const plain = new Uint8Array(100).fill(0x77);
        const work = new Uint8Array(116);
        const nonce = new Uint8Array(8 + salt).fill(1);
        work.set(plain);
        aead.seal(work, 0, 100, nonce, new Uint8Array(8));
        work[115]! ^= 1;
        const sealed = toHex(work);
        expect(aead.open(work, 0, 100, nonce, new Uint8Array(8))).toBe(false);
        const now = toHex(work);
        // noble deciphers in place only once the tag holds; so does what copies for node.
        expect(now === sealed || /^(00){100}/.test(now), name).toBe(true);
      }
  });
});

describe('what is inside', () => {
  it('is looked at with the number used up: the same packet again is a replay, not a second chance', () => {
    const r = rig(
      {},
      {
        selectors: [
          { source: new Uint8Array(4).fill(9), sourceBits: 32, destination: new Uint8Array(4), destinationBits: 0 },
        ],
      },
    );
    const [frame] = send(r, PACKET);
    expect(receive(r, frame!)).toEqual(['SELECTOR']);
    expect(receive(r, frame!)).toEqual(['REPLAYED']);
  });
});

describe('a number out', () => {
  it('is taken for nothing that has no room, no fitting size or no lifetime left', () => {
    const r = rig();
    send(r, ipv4(1490), PACKET, ipv4(1490), PACKET);
    expect(r.bench.fates()).toEqual([DropReason.TOO_BIG, 0, DropReason.TOO_BIG, 0]);
    expect(r.allocator.next()).toBe(3);
    // A frame filled to its end has no room for the trailer.
    const tight = rig({ mtu: 9000 });
    const { slab, burst, pool } = tight.bench;
    const row = pool.take();
    const packet = ipv4(slab.frameSize - slab.headroom);
    slab.bytes.set(packet, row * slab.frameSize + slab.headroom);
    burst.list[burst.length++] = row;
    slab.rows.fill(0, row * Row.WORDS, (row + 1) * Row.WORDS);
    slab.rows[row * Row.WORDS + Row.START] = row * slab.frameSize + slab.headroom;
    slab.rows[row * Row.WORDS + Row.END] = (row + 1) * slab.frameSize;
    tight.a.outbound(burst);
    expect(tight.bench.fates()).toEqual([DropReason.NO_ROOM]);
    expect(tight.allocator.next()).toBe(1);
  });

  it('belongs to the SA, not to the worker: two paths that take turns never give one twice', () => {
    const r = rig();
    const twin = rig({ allocator: { memory: r.allocator.memory, offset: 0 } });
    const seen = new Set<number>();
    for (let i = 0; i < 50; i++)
      for (const one of [r, twin])
        for (const frame of send(one, PACKET, PACKET, PACKET))
          seen.add(Number(new DataView(frame.buffer).getBigUint64(14 + 20 + 8)));
    expect([seen.size, Math.min(...seen), Math.max(...seen)]).toEqual([300, 1, 300]);
  });
});
