import { inspect } from 'node:util';
import { ReplayWindow, SequenceAllocator } from '@espalier/replay';
import { createBurst, createSlab, Row, RowState, resetRow } from '@espalier/wire';
import { ALGORITHMS, createPortStats, Sad, SaKey, XfrmError } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { EspInbound, EspOutbound, EspPath, SoftOffload, SoftOffloadPort } from '../src/index.ts';
import { HERE } from './every-engine.ts';

const MARK = 0xd9;
const shown = /d9|217|\xd9/i;
const ends = { source: Uint8Array.of(192, 0, 2, 1), destination: Uint8Array.of(192, 0, 2, 2) };
const everything = { depth: 99, showHidden: true, maxArrayLength: null, maxStringLength: null } as const;

function key(algorithm: keyof typeof ALGORITHMS): SaKey {
  return SaKey.import(algorithm, new Uint8Array(ALGORITHMS[algorithm].keyLength).fill(MARK));
}

describe('a key', () => {
  const saKey = key('aes256cbc-sha512');
  const ticket = {
    slot: 0,
    spi: 1,
    ...ends,
    mode: 'tunnel' as const,
    algorithm: 'aes256cbc-sha512' as const,
    icvLength: 32,
    esn: false,
    key: saKey.share(),
    encap: null,
  };

  it('is in no print of the key, its memory, an SA, a ticket, or an error about any of them', () => {
    const error = new XfrmError({ code: 'EXISTS', what: 'an SA' }, { cause: { saKey, ticket } });
    for (const thing of [
      saKey,
      ticket,
      ticket.key,
      { deep: [{ saKey }] },
      [ticket],
      error,
      new Map([[saKey, ticket]]),
    ]) {
      expect(inspect(thing, everything)).not.toMatch(shown);
      expect(String(thing)).not.toMatch(shown);
      expect(JSON.stringify(thing instanceof Map ? [...thing] : thing) ?? '').not.toMatch(shown);
    }
  });

  it('is not in the message of a failed import', () => {
    for (const material of [new Uint8Array(7).fill(MARK), new Uint8Array(500).fill(MARK)]) {
      let error: unknown;
      try {
        SaKey.import('aes128gcm16', material);
      } catch (e) {
        error = e;
      }
      expect(error).toBeInstanceOf(RangeError);
      expect(inspect(error, everything)).not.toMatch(/d9d9|217, 217/);
    }
  });

  it('does not survive a structured clone by accident, only by share()', () => {
    const clone: object = structuredClone(saKey);
    expect(clone instanceof SaKey).toBe(false);
    expect(inspect(clone, everything)).not.toMatch(shown);
    expect(Reflect.ownKeys(clone)).toEqual([]);
    expect(SaKey.attach(saKey.share()).reveal()).toEqual(saKey.reveal());
  });

  it.each(HERE)('is in no print of anything that holds it, nor of what that throws, engine %s', async (_, make) => {
    const engine = make();
    const aead = key('aes256gcm16');
    const sa = { ...ticket, algorithm: 'aes256gcm16', icvLength: 16, key: aead.share() } as const;
    const window = { memory: ReplayWindow.create({ size: 64, esn: false }).memory, offset: 0 };
    const allocator = { memory: SequenceAllocator.create({ esn: false }).memory, offset: 0 };
    const out = { ...sa, allocator, offload: false, noHandle: 'drop', link: null, mtu: 1500 } as const;
    const slab = createSlab({ frames: 1 });
    const path = new EspPath({ slab, engine, maxSas: 4, linkType: 'ip', offloads: null });
    path.addOutbound(out);
    path.addInbound({ ...sa, slot: 1, window });
    const lower = new SoftOffload({ device: 'nic0', capacity: 4 });
    const offload = { type: 'crypto', device: null as never } as const;
    const handle = await lower.stateAdd({ ...sa, direction: 'out', key: aead, offload });
    const stats = createPortStats(1).port(0);
    const handles = { resolve: () => handle };
    const port = new SoftOffloadPort({ memory: lower.memory, engine: make(), handles, lowerIndex: 0, stats });
    // The port takes the key over at the first packet.
    const burst = createBurst(slab, 1);
    resetRow(slab.rows, 0, 256, 400, RowState.TO_SEAL);
    slab.rows[Row.SA] = 0;
    slab.rows[Row.ESP] = 256;
    burst.list[burst.length++] = 0;
    port.seal(burst);
    expect(slab.rows[Row.STATE]).toBe(RowState.SEALED);
    const sad = new Sad(4);
    const { slot: __, ...request } = { ...sa, direction: 'in', key: aead, offload: null } as const;
    sad.add(request);
    const number = engine.install('aes256gcm16', aead, { esn: true });
    const thrown = [
      () => path.addOutbound(out),
      () => path.addInbound({ ...sa, slot: 9, window }),
      () => sad.add(request),
      () => new EspOutbound({ ...out, mtu: 1 }, number),
      () => new EspInbound({ ...sa, window, original: { source: new Uint8Array(1), destination: sa.source } }, number),
      () => engine.install('aes256gcm16', aead, { esn: true, icvLength: 3 }),
    ].map((call) => {
      try {
        return call();
      } catch (error) {
        return error;
      }
    });
    expect(thrown.every((error) => error instanceof Error)).toBe(true);
    const holders = [
      path,
      lower,
      port,
      sad,
      engine,
      new EspOutbound(out, number),
      new EspInbound({ ...sa, window }, number),
    ];
    for (const thing of [...holders, ...thrown]) {
      expect(inspect(thing, everything)).not.toMatch(shown);
      expect(String(thing)).not.toMatch(shown);
      expect(`${JSON.stringify(thing)}`).not.toMatch(shown);
    }
  });

  it('is gone from shared memory once wiped, on every thread', () => {
    const mine = key('aes128gcm16');
    const other = SaKey.attach(mine.share());
    mine.wipe();
    expect(other.reveal().every((b) => b === 0)).toBe(true);
  });

  it('is gone from a lower once its SA is freed', async () => {
    const lower = new SoftOffload({ device: 'nic0', capacity: 4 });
    const offload = { type: 'crypto', device: null as never } as const;
    const handle = await lower.stateAdd({ ...ticket, direction: 'out', key: key('aes256cbc-sha512'), offload });
    const count = (): number => new Uint8Array(lower.memory).filter((b) => b === MARK).length;
    expect(count()).toBe(96);
    lower.stateDelete(handle);
    await lower.stateFree(handle);
    expect(count()).toBe(0);
  });
});
