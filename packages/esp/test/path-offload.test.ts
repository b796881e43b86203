import { SequenceAllocator } from '@espalier/replay';
import { Row, RowState } from '@espalier/wire';
import { OffloadTable, SaKey } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { EspPath, nobleEngine } from '../src/index.ts';
import { Bench, hex, ipv4 } from './bench-rows.ts';
import { protect } from './rig.ts';

function field(noHandle: 'drop' | 'software'): { send(lengths: number[]): number[]; offloads: OffloadTable } {
  const bench = new Bench();
  const offloads = OffloadTable.create(4);
  const path = new EspPath({ slab: bench.slab, engine: nobleEngine(), maxSas: 4, linkType: 'ethernet', offloads });
  const allocator = SequenceAllocator.create({ esn: true });
  path.addOutbound({
    slot: 0,
    spi: 0x1001,
    source: hex('c0000201'),
    destination: hex('c0000202'),
    mode: 'tunnel',
    algorithm: 'aes128gcm16',
    icvLength: 16,
    esn: true,
    key: SaKey.import('aes128gcm16', new Uint8Array(20)).share(),
    encap: null,
    allocator: { memory: allocator.memory, offset: 0 },
    offload: true,
    noHandle,
    link: hex('02000000000b02000000000a0000'),
    mtu: 1500,
  });
  path.setPolicies(protect(0));
  return {
    offloads,
    send: (lengths) => {
      bench.clear();
      for (const length of lengths) bench.put(ipv4(length));
      path.outbound(bench.burst);
      return lengths.map((_, i) => bench.at(i, Row.STATE));
    },
  };
}

const { TO_SEAL, SEALED } = RowState;

describe('an offloaded SA on its way out', () => {
  it('is left to the lower while one holds it, and else to its own word', () => {
    for (const noHandle of ['drop', 'software'] as const) {
      const { offloads, send } = field(noHandle);
      expect(send([100])).toEqual([noHandle === 'drop' ? TO_SEAL : SEALED]);
      offloads.setDirect(0, 2, 77);
      expect(send([100])).toEqual([TO_SEAL]);
      offloads.setUpper(0);
      expect(send([100])).toEqual([TO_SEAL]);
    }
  });

  it('is sealed here, whatever its word, when the upper says so', () => {
    const { offloads, send } = field('drop');
    offloads.setSoftware(0);
    expect(send([100, 200])).toEqual([SEALED, SEALED]);
  });

  it('is sealed here packet by packet where a lower vetoes the length', () => {
    const { offloads, send } = field('drop');
    offloads.setUpper(0);
    // Outer header 20, ESP header 8, IV 8, inner 100, padding and trailer 4, ICV 16.
    offloads.setLimit(0, 0, 156);
    expect(send([100, 104, 60])).toEqual([TO_SEAL, SEALED, TO_SEAL]);
    offloads.setLimit(0, 0, -1);
    expect(send([60])).toEqual([SEALED]);
  });
});
