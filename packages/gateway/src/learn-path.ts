/** A lower that knows its path teaches every SA, since a flow may go by any of them. */
import type { PathMtu } from '@espalier/esp';
import { IPV4_HEADER_LENGTH, IPV6_HEADER_LENGTH } from '@espalier/wire';
import type { LinkType, LowerDevice } from '@espalier/xfrm';
import type { Sas } from './sas.ts';

/** `bond`: what SAs are sized by. `now`: milliseconds on the workers' clock. */
export function learnPath(
  bond: { readonly mtu: number; readonly linkType: LinkType | null },
  lowers: readonly LowerDevice[],
  sas: Sas,
  learned: PathMtu,
  now: number,
): void {
  if (bond.linkType !== 'esp-udp') return;
  const least = Math.min(...lowers.map(({ mtu, pathMtu = mtu }) => pathMtu));
  if (least >= bond.mtu) return;
  for (const { slot, allocator, plan } of sas.all()) {
    if (allocator === null) continue;
    // An SA's MTU is that of its outer packet; the IP header of that is the socket's.
    const header = plan.source.length === 4 ? IPV4_HEADER_LENGTH : IPV6_HEADER_LENGTH;
    learned.learn(slot, least + header, now);
  }
}
