import { inspect } from 'node:util';
import { createBurst, createPool, createSlab, Row, RowState, resetRow } from '@espalier/wire';
import {
  ALGORITHM_NAMES,
  ALGORITHMS,
  activeFeatures,
  attachPortStats,
  createPortStats,
  DROP_CODES,
  DROP_TABLE,
  DropReason,
  dropName,
  ESP_FEATURES,
  Feature,
  featureNames,
  fixFeatures,
  LowerHandles,
  OffloadDevice,
  OffloadTable,
  PortStat,
  resolveLowerHandle,
  SaKey,
  settle,
  wantFeatures,
  XfrmError,
  type XfrmErrorDetail,
} from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';

describe('the drop table', () => {
  it('has unique, dense codes, each at its own index', () => {
    const codes = Object.values(DropReason);
    expect(new Set(codes).size).toBe(codes.length);
    expect([...codes].sort((a, b) => a - b)).toEqual(codes.map((_, i) => i));
    expect(DROP_TABLE.map((entry) => entry.code)).toEqual(codes.map((_, i) => i));
    expect(DROP_CODES).toBe(codes.length);
  });

  it('gives every name one sentence, and every counter the kernel has an Xfrm name', () => {
    for (const [name, code] of Object.entries(DropReason)) {
      const entry = DROP_TABLE[code]!;
      expect(entry.name).toBe(name);
      expect(entry.sentence).toMatch(/^[A-Z].*\.$/);
      if (entry.kernel !== null) expect(entry.kernel).toMatch(/^Xfrm(In|Out|Fwd)[A-Z]/);
      expect(dropName(code)).toBe(name);
    }
    expect(dropName(999)).toBe('UNKNOWN_999');
  });
});

describe('features', () => {
  it('drop checksum and segmentation of ESP where HW_ESP is missing', () => {
    expect(fixFeatures(ESP_FEATURES)).toBe(ESP_FEATURES);
    expect(fixFeatures(Feature.HW_ESP_TX_CSUM | Feature.GSO_ESP)).toBe(0);
    expect(activeFeatures(Feature.HW_ESP, ESP_FEATURES)).toBe(Feature.HW_ESP);
    expect(activeFeatures(ESP_FEATURES, Feature.GSO_ESP)).toBe(0);
    for (let hw = 0; hw < 8; hw++)
      for (let wanted = 0; wanted < 8; wanted++) {
        const active = activeFeatures(hw, wanted);
        expect(active & ~(hw & wanted)).toBe(0);
        expect(fixFeatures(active)).toBe(active);
      }
  });

  it('keep what was wanted beside what is active', () => {
    expect(wantFeatures({ hw: 1, wanted: 0, active: 0 }, 5)).toEqual({ hw: 1, wanted: 5, active: 1 });
    expect(featureNames(5)).toEqual(['HW_ESP', 'GSO_ESP']);
  });
});

describe('XfrmError', () => {
  const details: XfrmErrorDetail[] = [
    { code: 'UNSUPPORTED', device: 'nic0', what: 'offload type packet' },
    { code: 'REFUSED', device: 'nic0', spi: 0x1234, what: 'table full' },
    { code: 'REFUSED', device: 'nic0', what: 'table full' },
    { code: 'NO_SPACE', what: 'no slot is free' },
    { code: 'EXISTS', what: 'it is there' },
    { code: 'NOT_FOUND', what: 'it is not there' },
    { code: 'CLOSED', what: 'it is closed' },
    { code: 'BUSY', what: 'it is taken' },
    { code: 'SYSTEM', call: 'TUNSETIFF', errno: 'EBUSY', what: 'opening tun0' },
    { code: 'PERMISSION', what: 'not allowed' },
    { code: 'ROLLED_BACK', slave: 'nic1', what: 'table full', failures: ['nic0: hung'] },
    { code: 'ROLLED_BACK', slave: 'nic1', what: 'table full' },
    { code: 'CONFIG', file: 'a.yaml', path: 'bond.mode', expected: 'a mode', got: '"x"' },
    { code: 'CONFIG', path: '', expected: 'a mapping' },
    { code: 'ABORTED', what: 'aborted' },
  ];

  it('is one sentence with a code that repeats its detail', () => {
    for (const detail of details) {
      const error = new XfrmError(detail, { cause: 'why' });
      expect(error).toBeInstanceOf(Error);
      expect(error.name).toBe('XfrmError');
      expect(error.code).toBe(detail.code);
      expect(error.detail).toBe(detail);
      expect(error.cause).toBe('why');
      expect(error.message).not.toMatch(/undefined|\n|^$/);
      expect(structuredClone(error.detail)).toEqual(detail);
    }
  });

  it('says who, what and where', () => {
    const messages = details.map((detail) => new XfrmError(detail).message);
    expect(messages[1]).toBe('nic0 refused SPI 0x00001234: table full');
    expect(messages[8]).toBe('opening tun0: TUNSETIFF failed with EBUSY');
    expect(messages[10]).toBe('rolled back, nic1 refused: table full (undoing also failed: nic0: hung)');
    expect(messages[12]).toBe('a.yaml: bond.mode: expected a mode, got "x"');
    expect(messages[13]).toBe('(top level): expected a mapping');
  });
});

describe('SaKey', () => {
  const material = Uint8Array.from({ length: 20 }, (_, i) => 0xc0 + i);
  const looksLikeKey = /c0|192|193|\xc0/i;

  it('is never printed: not by String, template, JSON, inspect or an error', () => {
    const key = SaKey.import('aes128gcm16', material);
    const sa = { spi: 1, key };
    const printed = [
      String(key),
      `${key}`,
      JSON.stringify(sa),
      inspect(key),
      inspect(sa, { depth: 9, showHidden: true }),
      inspect(new Error('boom', { cause: key })),
      JSON.stringify(Object.entries(key)),
      JSON.stringify(Object.getOwnPropertyNames(key)),
    ];
    for (const text of printed) expect(text).not.toMatch(looksLikeKey);
    try {
      SaKey.import('aes256gcm16', material);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(RangeError);
      expect(inspect(error)).not.toMatch(/c0c1|192, ?193/i);
      expect((error as Error).message).toBe('a key for aes256gcm16 has 36 bytes (cipher 32, salt 4), got 20');
    }
  });

  it('copies its material once, shares it, and wipes it for everybody', () => {
    const mine = Uint8Array.from(material);
    const key = SaKey.import('aes128gcm16', mine);
    mine.fill(0);
    const other = SaKey.attach(key.share());
    expect(other.reveal()).toEqual(material);
    other.wipe();
    expect(key.reveal().every((byte) => byte === 0)).toBe(true);
  });

  it('has the length that its algorithm asks for', () => {
    for (const name of ALGORITHM_NAMES) {
      const { keyLength } = ALGORITHMS[name];
      expect(SaKey.import(name, new Uint8Array(keyLength)).reveal()).toHaveLength(keyLength);
      for (const wrong of [0, keyLength - 4, keyLength - 1, keyLength + 1])
        expect(() => SaKey.import(name, new Uint8Array(wrong))).toThrow(RangeError);
    }
  });
});

describe('resolveLowerHandle', () => {
  const upper = { stateLowerHandle: (slot: number, lower: number): number => (slot << 8) | lower };

  it('takes a single lower at once and asks no upper', () => {
    const offloads = OffloadTable.create(4);
    const strict = {
      stateLowerHandle: (): number => {
        throw new Error('asked');
      },
    };
    offloads.setDirect(1, 2, 77);
    expect(resolveLowerHandle(offloads, strict, 1, 2)).toBe(77);
    expect(resolveLowerHandle(offloads, strict, 1, 3)).toBe(0);
    expect(resolveLowerHandle(offloads, strict, 0, 2)).toBe(0);
    offloads.clear(1);
    expect(resolveLowerHandle(offloads, strict, 1, 2)).toBe(0);
    expect([offloads.device(1), offloads.handle(1)]).toEqual([OffloadDevice.NONE, 0]);
  });

  it('asks the upper where an upper holds one handle per lower', () => {
    const offloads = OffloadTable.create(4);
    offloads.setUpper(2);
    expect(resolveLowerHandle(offloads, upper, 2, 3)).toBe(0x203);
    expect(resolveLowerHandle(offloads, null, 2, 3)).toBe(0);
    expect(new LowerHandles(OffloadTable.attach(offloads.memory), upper).resolve(2, 1)).toBe(0x201);
  });

  it('resolves slots outside the table to nothing', () => {
    const offloads = OffloadTable.create(2);
    for (const slot of [-1, 2, 1 << 30]) expect(resolveLowerHandle(offloads, upper, slot, 0)).toBe(0);
    expect(() => OffloadTable.create(0)).toThrow(RangeError);
  });
});

describe('settle', () => {
  it('counts every row with a FATE, gives its frame back, and leaves those that a port took', () => {
    const slab = createSlab({ frames: 4 });
    const pool = createPool(slab);
    const burst = createBurst(slab, 4);
    for (const fate of [0, DropReason.POLICY, 0, DropReason.ICV]) {
      const row = pool.take();
      resetRow(slab.rows, row, 0, 0, RowState.UNSET);
      slab.rows[row * Row.WORDS + Row.FATE] = fate;
      burst.list[burst.length++] = row;
    }
    const drops = new Float64Array(DROP_CODES);
    expect(settle(burst, pool, drops)).toBe(2);
    expect([drops[DropReason.POLICY], drops[DropReason.ICV], drops[0]]).toEqual([1, 1, 0]);
    expect(pool.free).toBe(2);
    expect(burst.length).toBe(0);
    expect(settle(burst, pool, drops)).toBe(0);
  });
});

describe('port counters', () => {
  it('are rows of one shared array, seen from every thread that attaches it', () => {
    const stats = createPortStats(2);
    stats.port(1)[PortStat.SENT] = 5;
    expect(attachPortStats(stats.memory).port(1)[PortStat.SENT]).toBe(5);
    expect(stats.port(0)[PortStat.SENT]).toBe(0);
    const columns = Object.entries(PortStat).filter(([name]) => name !== 'COLUMNS');
    expect(new Set(columns.map(([, column]) => column)).size).toBe(columns.length);
    for (const [, column] of columns) expect(column).toBeLessThan(PortStat.COLUMNS);
  });
});
