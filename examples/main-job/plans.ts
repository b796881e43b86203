/** The two gateways' plans: 8 SAs each way, SPI stride 2, since SPIs 2k and 2k + 1 always share a slave. */
import { randomBytes } from 'node:crypto';
import type { EngineName, GatewayPlan, PolicyPlan, SaPlan } from 'espalier';

export const LINKS = 4;
export const PAIRS = 8;
const OUTER = [Uint8Array.of(192, 0, 2, 1), Uint8Array.of(192, 0, 2, 2)] as const;
const MACS = [Uint8Array.of(2, 0, 0, 0, 0, 0xa), Uint8Array.of(2, 0, 0, 0, 0, 0xb)] as const;

export const inner = (side: 0 | 1, pair: number): string => `10.${side + 1}.0.${pair + 1}`;
const bytes = (side: 0 | 1, pair: number): Uint8Array => Uint8Array.of(10, side + 1, 0, pair + 1);

export function makePlans(engine: EngineName): [GatewayPlan, GatewayPlan] {
  const keys = Array.from({ length: 2 * PAIRS }, () => new Uint8Array(randomBytes(20)));
  const plan = (side: 0 | 1): GatewayPlan => {
    const other = (1 - side) as 0 | 1;
    const sas: SaPlan[] = [];
    const policies: PolicyPlan[] = [];
    for (let pair = 0; pair < PAIRS; pair++)
      for (const from of [side, other]) {
        const direction = from === side ? 'out' : 'in';
        sas.push({
          name: `${direction}${pair}`,
          direction,
          spi: 0x1000 + 0x100 * from + 2 * pair,
          source: OUTER[from],
          destination: OUTER[1 - from]!,
          algorithm: 'aes128gcm16',
          key: keys[from * PAIRS + pair]!,
          esn: true,
          window: 16_384,
          offload: 'crypto',
          noHandle: 'drop',
        });
        if (direction === 'out')
          policies.push({
            source: bytes(side, pair),
            sourceBits: 32,
            destination: bytes(other, pair),
            destinationBits: 32,
            protocol: null,
            action: 'protect',
            sa: `out${pair}`,
          });
      }
    return {
      workers: 2,
      engine,
      bond: {
        name: 'bond0',
        mode: '802.3ad',
        policy: 'layer3+4',
        mac: MACS[side],
        peerMac: MACS[other]!,
        lowers: Array.from(
          { length: LINKS },
          (_, i) => ({ kind: 'af-packet', name: `${side === 0 ? 'a' : 'b'}${i}` }) as const,
        ),
        mtu: 1500,
      },
      inside: { kind: 'tun', name: 'tun0', mtu: 1400, addresses: [] },
      sas,
      policies,
    };
  };
  return [plan(0), plan(1)];
}
