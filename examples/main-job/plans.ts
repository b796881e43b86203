/** The two gateways' plans: 8 SAs each way, SPI stride 2, since SPIs 2k and 2k + 1 always share a slave. */
import { randomBytes } from 'node:crypto';
import { xmitHash } from '@espalier/bond';
import type { EngineName, GatewayPlan, PolicyPlan, SaPlan } from 'espalier';
import type { Side } from './stage.ts';

export const LINKS = 4;
export const PAIRS = 8;
export const WORKERS = 2;
/** Longest inner packet, bytes. */
export const INNER_MTU = 1400;
const OUTER = [Uint8Array.of(192, 0, 2, 1), Uint8Array.of(192, 0, 2, 2)] as const;
const MACS = [Uint8Array.of(2, 0, 0, 0, 0, 0xa), Uint8Array.of(2, 0, 0, 0, 0, 0xb)] as const;

export const inner = (side: Side, pair: number): string => `10.${side + 1}.0.${pair + 1}`;
export const innerBytes = (side: Side, pair: number): Uint8Array => Uint8Array.of(10, side + 1, 0, pair + 1);

/** The slave that carries an SA while all are usable: as the bond does it, layer3+4 of a frame with its addresses and SPI. */
export function slaveOf(from: Side, spi: number): number {
  const frame = new DataView(new ArrayBuffer(14 + 20 + 8));
  const bytes = new Uint8Array(frame.buffer);
  bytes.set([...MACS[1 - from]!, ...MACS[from], 0x08, 0x00, 0x45]);
  frame.setUint8(14 + 9, 50);
  bytes.set([...OUTER[from], ...OUTER[1 - from]!], 14 + 12);
  frame.setUint32(14 + 20, spi);
  return xmitHash('layer3+4', frame, 0, frame.byteLength) % LINKS;
}

/**
 * Even SPIs from `0x1000` (A to B) or `0x1100` (B to A) on, `0x200` further for the SAs of a rekey, taken so that each slave
 * carries the same number of SAs.
 */
export function spisOf(from: Side, generation = 0): number[] {
  const share = new Array<number>(LINKS).fill(0);
  const spis: number[] = [];
  for (let spi = 0x1000 + 0x100 * from + 0x200 * generation; spis.length < PAIRS; spi += 2) {
    const slave = slaveOf(from, spi);
    if (share[slave]! >= PAIRS / LINKS) continue;
    share[slave]!++;
    spis.push(spi);
  }
  return spis;
}

export interface Plans {
  readonly plans: readonly [GatewayPlan, GatewayPlan];
  /** The SAs of each side that a rekey puts in the place of all the others. */
  readonly successors: readonly [readonly SaPlan[], readonly SaPlan[]];
}

/** What a side has of the SAs of a generation; keys by the sending side, then the pair. */
function sasOf(side: Side, generation: number, keys: readonly Uint8Array[]): SaPlan[] {
  const sas: SaPlan[] = [];
  for (let pair = 0; pair < PAIRS; pair++)
    for (const from of [side, (1 - side) as Side]) {
      const direction = from === side ? 'out' : 'in';
      const name = nameOf(direction, pair, generation);
      sas.push({
        name,
        direction,
        spi: spisOf(from, generation)[pair]!,
        source: OUTER[from],
        destination: OUTER[1 - from]!,
        algorithm: 'aes128gcm16',
        key: keys[from * PAIRS + pair]!,
        esn: true,
        window: 16_384,
        offload: 'crypto',
        noHandle: 'drop',
        ...(direction === 'in' ? { selectors: [selectorOf(from, pair)] } : {}),
        ...(generation === 0 ? {} : { replaces: nameOf(direction, pair, generation - 1) }),
      });
    }
  return sas;
}

const nameOf = (direction: 'in' | 'out', pair: number, generation: number): string =>
  `${direction}${pair}${'+'.repeat(generation)}`;

function selectorOf(from: Side, pair: number) {
  return {
    source: innerBytes(from, pair),
    sourceBits: 32,
    destination: innerBytes((1 - from) as Side, pair),
    destinationBits: 32,
  };
}

export function makePlans(engine: EngineName, kind: 'real' | 'mock'): Plans {
  const keys = [0, 1].map(() => Array.from({ length: 2 * PAIRS }, () => new Uint8Array(randomBytes(20))));
  const plan = (side: Side): GatewayPlan => {
    const other = (1 - side) as Side;
    const policies = Array.from({ length: PAIRS }, (_, pair): PolicyPlan => {
      return { ...selectorOf(side, pair), protocol: null, action: 'protect', sa: nameOf('out', pair, 0) };
    });
    return {
      workers: WORKERS,
      engine,
      bond: {
        name: 'bond0',
        mode: '802.3ad',
        policy: 'layer3+4',
        mac: MACS[side],
        peerMac: MACS[other],
        lowers: Array.from({ length: LINKS }, (_, i) => {
          const name = `${side === 0 ? 'a' : 'b'}${i}`;
          return kind === 'real'
            ? ({ kind: 'af-packet', name } as const)
            : ({ kind: 'mock', name, saSlots: 64 } as const);
        }),
        mtu: 1500,
      },
      inside: { kind: kind === 'real' ? 'tun' : 'mock', name: 'tun0', mtu: INNER_MTU, addresses: [] },
      sas: sasOf(side, 0, keys[0]!),
      policies,
    };
  };
  return { plans: [plan(0), plan(1)], successors: [sasOf(0, 1, keys[1]!), sasOf(1, 1, keys[1]!)] };
}
