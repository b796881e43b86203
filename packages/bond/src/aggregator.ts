/** Which slaves of an 802.3ad bond belong together, and which such aggregator carries the traffic. Pure. */

/** A slave's partner as the Link Aggregation Control Protocol has found it (IEEE 802.1AX 6.4); fed from outside. */
export interface Partner {
  /** The partner's system id, any unambiguous text; '' = the port is on its own because nobody answers. */
  readonly system: string;
  readonly key: number;
  /** The partner (or we) cannot aggregate this port. */
  readonly individual?: boolean;
  /** Mux is collecting and distributing; true when absent. */
  readonly active?: boolean;
}

/** ad_select of the kernel: when to choose anew, and by what. */
export type AdSelect = 'stable' | 'bandwidth' | 'count';
export const AD_SELECTS: readonly AdSelect[] = ['stable', 'bandwidth', 'count'];

/** What matters of a slave. */
export interface AggregatorPort {
  readonly lower: number;
  readonly speedMbps: number;
  /** Running, carrier, link up. */
  readonly up: boolean;
  /** null = LACP is spoken and nobody answers; undefined = LACP is not spoken at all. */
  readonly partner: Partner | null | undefined;
}

export interface Aggregator {
  /** Tells aggregators apart and, unlike the kernel's number, outlives each of its ports. */
  readonly id: string;
  /** Lower indices in slave order. */
  readonly ports: readonly number[];
  readonly individual: boolean;
  readonly hasPartner: boolean;
  /** Ports that can carry traffic, and the sum of their speeds. */
  readonly activePorts: number;
  readonly bandwidth: number;
}

/**
 * Slaves grouped by speed, partner system and partner key, in slave order. A port that is individual or has no partner is
 * an aggregator of its own. Where LACP is not spoken all ports of one speed are one aggregator.
 */
export function aggregators(ports: readonly AggregatorPort[]): Aggregator[] {
  const groups = new Map<string, AggregatorPort[]>();
  for (const port of ports) {
    const id = aggregatorId(port);
    const group = groups.get(id);
    if (group === undefined) groups.set(id, [port]);
    else group.push(port);
  }
  return Array.from(groups, ([id, group]) => {
    const active = group.filter((port) => port.up && port.partner?.active !== false);
    const { partner } = group[0]!;
    return {
      id,
      ports: group.map((port) => port.lower),
      individual: partner === null || partner?.individual === true || partner?.system === '',
      hasPartner: partner === undefined || (partner !== null && partner.system !== ''),
      activePorts: active.length,
      bandwidth: active.reduce((sum, port) => sum + port.speedMbps, 0),
    };
  });
}

export function aggregatorId({ lower, speedMbps, partner }: Omit<AggregatorPort, 'up'>): string {
  if (partner === undefined) return `${speedMbps}`;
  if (partner === null || partner.system === '' || partner.individual === true) return `${speedMbps}/alone/${lower}`;
  return `${speedMbps}/${partner.system}/${partner.key}`;
}

/**
 * The aggregator that carries the traffic, or null when none has a port that can. Kernel: ad_agg_selection_logic,
 * ad_agg_selection_test. Ties go to the earlier one.
 */
export function chooseAggregator(select: AdSelect, all: readonly Aggregator[], current: string | null): string | null {
  let best: Aggregator | null = null;
  for (const one of all) if (one.activePorts > 0 && (best === null || better(select, one, best))) best = one;
  if (best === null) return null;
  const now = all.find((one) => one.id === current);
  const holds = now !== undefined && now.activePorts > 0 && (now.hasPartner || !best.hasPartner);
  return select === 'stable' && holds ? now.id : best.id;
}

function better(select: AdSelect, one: Aggregator, than: Aggregator): boolean {
  if (one.individual !== than.individual) return than.individual;
  if (one.hasPartner !== than.hasPartner) return one.hasPartner;
  if (select === 'count' && one.activePorts !== than.activePorts) return one.activePorts > than.activePorts;
  return one.bandwidth > than.bandwidth;
}
