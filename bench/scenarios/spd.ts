import { type PolicyTicket, Spd } from '@espalier/xfrm';
import { ipv4, ipv6 } from '../frame/packets.ts';
import { product, type Scenario } from '../frame/scenario.ts';

const PACKETS = 256;
const SLOT = 64;

/** One policy per flow, all of /32 (or /128) to anything; `upper` asks for the protocol too. */
function policies(count: number, family: string, upper: boolean): PolicyTicket[] {
  return Array.from({ length: count }, (_, slot) => {
    const packet = packetOf(family, slot);
    const source = family === 'ipv4' ? packet.slice(12, 16) : packet.slice(8, 24);
    return {
      ...{ source, sourceBits: 8 * source.length, destination: new Uint8Array(source.length), destinationBits: 0 },
      ...{ protocol: upper ? 17 : null, action: 'protect', slot },
    };
  });
}

function packetOf(family: string, flow: number): Uint8Array {
  return family === 'ipv4' ? ipv4(SLOT, flow) : ipv6(SLOT, flow);
}

/** Packets of flows dealt at random. */
function packets(count: number, family: string): { readonly view: DataView; readonly flows: readonly number[] } {
  const bytes = new Uint8Array(new SharedArrayBuffer(PACKETS * SLOT));
  const flows = Array.from({ length: PACKETS }, (_, i) => (Math.imul(i, 0x9e3779b1) >>> 8) % count);
  flows.forEach((flow, i) => {
    bytes.set(packetOf(family, flow), i * SLOT);
  });
  return { view: new DataView(bytes.buffer), flows };
}

const VARIANTS = [
  ...product({ family: ['ipv4', 'ipv6'], asks: ['addresses'], policies: [1, 8, 64, 1024, 16384] }),
  ...product({ family: ['ipv4'], asks: ['protocol too'], policies: [1, 64] }),
];

export default {
  name: 'spd',
  about: 'the policy of an inner packet: policies of one pair of prefix lengths, packets of all flows at random',
  variants: VARIANTS,
  anchor: (v) => (v.policies === 1 ? null : { ...v, policies: 1 }),
  prove() {
    for (const v of VARIANTS) {
      const count = v.policies as number;
      const spd = new Spd(policies(count, String(v.family), v.asks !== 'addresses'));
      const { view, flows } = packets(count, String(v.family));
      flows.forEach((flow, i) => {
        const slot = spd.lookup(view, i * SLOT);
        if (slot !== flow) throw new Error(`${count} policies: packet ${i} of flow ${flow} has slot ${slot}`);
      });
    }
  },
  run({ family, asks, policies: count }) {
    const spd = new Spd(policies(count as number, String(family), asks !== 'addresses'));
    const { view } = packets(count as number, String(family));
    let sum = 0;
    return {
      packets: PACKETS,
      step: () => {
        for (let at = 0; at < PACKETS * SLOT; at += SLOT) sum = (sum + spd.lookup(view, at)) | 0;
      },
      close: () => view.setInt32(0, sum),
    };
  },
} satisfies Scenario;
