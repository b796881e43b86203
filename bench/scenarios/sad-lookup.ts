import { SadIndex } from '@espalier/xfrm';
import { product, type Scenario } from '../frame/scenario.ts';

/** SPI, destination and source of one packet for each of `met` SAs, in an order that no cache foresees; and the slots they are to find. */
function packets(sas: number, met: number): { readonly view: DataView; readonly slots: Int32Array } {
  const view = new DataView(new ArrayBuffer(met * 12));
  const slots = Int32Array.from({ length: met }, (_, i) => (i * 48_271) % sas);
  slots.forEach((slot, i) => {
    view.setUint32(i * 12, 0x1000 + 2 * slot);
    view.setUint32(i * 12 + 4, 0x0a00_0001);
    view.setUint32(i * 12 + 8, 0x0a01_0000 + slot);
  });
  return { view, slots };
}

function index(sas: number): SadIndex {
  const made = new SadIndex(sas);
  for (let slot = 0; slot < sas; slot++)
    made.add(slot, {
      spi: 0x1000 + 2 * slot,
      destination: Uint8Array.of(10, 0, 0, 1),
      source: Uint8Array.of(10, 1 + (slot >> 16), slot >> 8, slot),
    });
  return made;
}

function map(sas: number): Map<number, number> {
  return new Map(Array.from({ length: sas }, (_, slot) => [0x1000 + 2 * slot, slot]));
}

export default {
  name: 'sad-lookup',
  about: 'an SA by (SPI, destination, source), each packet of another one, against a Map by the SPI alone',
  variants: [100, 100_000].flatMap((sas) =>
    (sas === 100 ? [100] : [4096, sas]).flatMap((met) => product({ by: ['index', 'Map'], sas: [sas], met: [met] })),
  ),
  anchor: (v) => (v.by === 'Map' ? null : { ...v, by: 'Map' }),
  limits: [4096, 100_000].map((met) => ({
    variant: { by: 'index', sas: 100_000, met },
    to: { by: 'Map', sas: 100_000, met },
    most: 2,
    goal: 'a lookup among 100,000 SAs in 30 ns',
  })),
  prove() {
    for (const sas of [100, 100_000]) {
      const { view, slots } = packets(sas, sas);
      const made = index(sas);
      slots.forEach((slot, i) => {
        if (made.find(view.getInt32(i * 12), view, i * 12 + 4, i * 12 + 8, false) !== slot)
          throw new Error(`${sas} SAs: packet ${i} does not find slot ${slot}`);
      });
    }
  },
  run({ by, sas, met }) {
    const { view } = packets(sas as number, met as number);
    const end = view.byteLength;
    let sum = 0;
    if (by === 'Map') {
      const made = map(sas as number);
      return {
        packets: met as number,
        step: () => {
          for (let at = 0; at < end; at += 12) sum = (sum + made.get(view.getUint32(at))!) | 0;
        },
        close: () => view.setInt32(0, sum),
      };
    }
    const made = index(sas as number);
    return {
      packets: met as number,
      step: () => {
        for (let at = 0; at < end; at += 12)
          sum = (sum + made.find(view.getInt32(at), view, at + 4, at + 8, false)) | 0;
      },
      close: () => view.setInt32(0, sum),
    };
  },
} satisfies Scenario;
