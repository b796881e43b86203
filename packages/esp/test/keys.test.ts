import { inspect } from 'node:util';
import { createSlab } from '@espalier/wire';
import { ALGORITHMS, SaKey, XfrmError } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { EspPath, nobleEngine, SoftOffload } from '../src/index.ts';

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

  it('is in no print of an engine, a path or a lower that holds it', async () => {
    const engine = nobleEngine();
    const path = new EspPath({ slab: createSlab({ frames: 1 }), engine, maxSas: 4, linkType: 'ip', offloads: null });
    const lower = new SoftOffload({ device: 'nic0', capacity: 4 });
    const offload = { type: 'crypto', device: null as never } as const;
    await lower.stateAdd({ ...ticket, direction: 'out', key: key('aes256cbc-sha512'), offload });
    engine.install('aes256gcm16', key('aes256gcm16'), { esn: true });
    for (const holder of [engine, path, lower]) expect(inspect(holder, everything)).not.toMatch(shown);
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
