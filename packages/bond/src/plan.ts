/** What should be: pure functions over plain facts, and what has to be done about it, as data. execute.ts does it. */
import { Encap, ESP_FEATURES, type EspTraits, Feature, fixFeatures, type Sa } from '@espalier/xfrm';
import type { Partner } from './aggregator.ts';
import { aggregatorId } from './aggregator.ts';
import type { LinkState } from './link.ts';
import type { XmitHashPolicy } from './xmit-hash.ts';

export type BondMode = 'active-backup' | 'balance-xor' | '802.3ad';
export const BOND_MODES: readonly BondMode[] = ['active-backup', 'balance-xor', '802.3ad'];

/**
 * What happens when a slave that joins an enabled bond cannot take an SA: it stays out of usable; `enslave` fails (a slave
 * that comes back by itself stays out); or it carries traffic, and that SA is sealed in software for all slaves.
 */
export type JoinRefused = 'keep-out' | 'refuse' | 'software';
export const JOIN_REFUSED: readonly JoinRefused[] = ['keep-out', 'refuse', 'software'];

/** What matters of a slave. */
export interface SlaveFacts {
  readonly lower: number;
  /** Administratively up, and not being released. */
  readonly running: boolean;
  readonly carrier: boolean;
  readonly link: LinkState;
  /** When the delay of the link is over. */
  readonly due: number;
  /** Offers the state operations. */
  readonly capable: boolean;
  /** Resolves handles per lower (XFRMDEV_OPS_F_LOWER_HANDLE). */
  readonly optedIn: boolean;
  readonly traits: EspTraits;
  /** Feature bits the device could do. */
  readonly hw: number;
  readonly speedMbps: number;
  readonly partner: Partner | null | undefined;
  /** It could not take some SA, or none at all. */
  readonly refused: boolean;
  /** It could take none at all. */
  readonly incapable: boolean;
}

export interface BondFacts {
  readonly mode: BondMode;
  readonly policy: XmitHashPolicy;
  readonly joinRefused: JoinRefused;
  /** HW_ESP is on. */
  readonly enabled: boolean;
  /** Active-backup: lower that carries; -1 = none. */
  readonly active: number;
  /** 802.3ad: aggregator that carries; null = none. */
  readonly aggregator: string | null;
  /** In enslave order. */
  readonly slaves: readonly SlaveFacts[];
}

/** Whether mode and policy are those for which one SA may live on many slaves. */
export function replicates(mode: BondMode, policy: XmitHashPolicy): boolean {
  return mode !== 'active-backup' && policy === 'layer3+4';
}

/** Slaves that count for eligibility: enslaved and running. Neither carrier nor the active aggregator matters. */
export function candidates(slaves: readonly SlaveFacts[]): SlaveFacts[] {
  return slaves.filter((s) => s.running);
}

/** Kernel: bond_slave_can_tx, without the mode's own rule. */
export function canTransmit(slave: SlaveFacts): boolean {
  return slave.running && slave.carrier && slave.link === 'up';
}

/**
 * The slave that carries an active-backup bond: the current one while its link is up or not yet given up, else the first
 * that is up, else the one that will be up soonest; -1 = none. Kernel: bond_find_best_slave.
 */
export function activeSlave(slaves: readonly SlaveFacts[], current: number): number {
  const able = slaves.filter((s) => s.running);
  if (able.some((s) => s.lower === current && (s.link === 'up' || s.link === 'fail'))) return current;
  const up = able.find((s) => s.link === 'up');
  if (up !== undefined) return up.lower;
  const back = able.filter((s) => s.link === 'back' && s.carrier);
  return back.reduce<SlaveFacts | null>((best, s) => (best === null || s.due < best.due ? s : best), null)?.lower ?? -1;
}

/** Whether refusals keep this slave from carrying traffic. Active-backup never keeps a slave out: its SAs just have no handle. */
export function keptOut({ mode, joinRefused }: Pick<BondFacts, 'mode' | 'joinRefused'>, slave: SlaveFacts): boolean {
  return mode !== 'active-backup' && joinRefused !== 'software' && slave.refused;
}

/** Lowers that may carry traffic once they are ready, in enslave order. Kernel: bond_update_slave_arr. */
export function transmitters(facts: BondFacts): number[] {
  const { mode, active, aggregator, slaves } = facts;
  if (mode === 'active-backup') return active < 0 ? [] : [active];
  return slaves
    .filter((s) => canTransmit(s) && !keptOut(facts, s))
    .filter((s) => mode !== '802.3ad' || (aggregatorId(s) === aggregator && s.partner?.active !== false))
    .map((s) => s.lower);
}

/** Lowers on which every SA should have a replica, in enslave order; also those outside the active aggregator. */
export function wantedReplicas(facts: BondFacts): number[] {
  return facts.enabled ? facts.slaves.filter((s) => wantsReplicas(facts, s)).map((s) => s.lower) : [];
}

/** Whether that holds for one slave, were HW_ESP on. */
export function wantsReplicas(facts: Pick<BondFacts, 'mode' | 'joinRefused' | 'active'>, slave: SlaveFacts): boolean {
  if (!slave.running || slave.incapable || keptOut(facts, slave)) return false;
  return facts.mode !== 'active-backup' || slave.lower === facts.active;
}

/** Why one slave cannot hold SAs for a bond in this mode; null = it can. */
export function unfit(mode: BondMode, slave: SlaveFacts): string | null {
  if (!slave.capable) return 'offers no ESP offload';
  if (mode !== 'active-backup' && !slave.optedIn) return 'does not resolve handles per lower';
  if (slave.traits.ivRule !== 'number') return 'makes IVs of its own, which another lower could make too';
  if ((slave.hw & Feature.HW_ESP) === 0) return 'cannot do HW_ESP now';
  return null;
}

/**
 * ESP features the bond may offer over these slaves, or 0 and why: mode and policy fit, there is a slave, every one is fit,
 * and there is an encapsulation that all of them do. Optional bits are those that all have.
 */
export function eligibility(
  mode: BondMode,
  policy: XmitHashPolicy,
  slaves: readonly SlaveFacts[],
): { readonly features: number; readonly why: string } {
  const no = (why: string): { features: number; why: string } => ({ features: 0, why });
  if (mode !== 'active-backup' && !replicates(mode, policy)) return no(`the policy is ${policy}, not layer3+4`);
  if (slaves.length === 0) return no('no slave is up');
  for (const slave of slaves) {
    const why = unfit(mode, slave);
    if (why !== null) return no(`lower ${slave.lower} ${why}`);
  }
  if (commonEncaps(slaves) === 0) return no('no encapsulation is common to all slaves');
  return { features: fixFeatures(slaves.reduce((bits, s) => bits & s.hw, ESP_FEATURES)), why: '' };
}

/** Why a fit slave cannot hold this SA; null = it can. */
export function unfitFor(sa: Sa, { encaps, reportsSeqHi }: EspTraits): string | null {
  if ((encaps & (sa.encap === null ? Encap.RAW : Encap.UDP)) === 0)
    return sa.encap === null ? 'ESP without UDP' : 'ESP in UDP';
  return sa.direction === 'in' && sa.esn && !reportsSeqHi
    ? 'to say which high half of a number it verified with'
    : null;
}

/** Set of Encap that all of them do. */
function commonEncaps(slaves: readonly SlaveFacts[]): number {
  return slaves.reduce((bits, s) => bits & s.traits.encaps, -1);
}

/** One thing to be done. `add` and `features` can be refused and are undone then; the others only go forward. */
export type Step =
  | { readonly op: 'features'; readonly lower: number; readonly wanted: number; readonly before: number }
  | { readonly op: 'add' | 'hide' | 'delete' | 'free'; readonly slot: number; readonly lower: number }
  | { readonly op: 'drain'; readonly lower: number }
  | { readonly op: 'grace' };

/** One SA on one lower. */
export interface Place {
  readonly slot: number;
  readonly lower: number;
}

/** Installs these SAs on these lowers, lower by lower. */
export function planAdd(slots: Iterable<number>, lowers: readonly number[]): Step[] {
  const all = [...slots];
  return lowers.flatMap((lower) => all.map((slot): Step => ({ op: 'add', slot, lower })));
}

/** From READY to DELETED: nothing resolves, grace, no new use. */
export function planLeave(all: readonly Place[]): Step[] {
  if (all.length === 0) return [];
  const each = (op: 'hide' | 'delete'): Step[] => all.map(({ slot, lower }) => ({ op, slot, lower }));
  return [...each('hide'), { op: 'grace' }, ...each('delete')];
}

/** From deleted to freed: the last frame out of each lower, then its handles. */
export function planFree(all: readonly Place[]): Step[] {
  const lowers = [...new Set(all.map((place) => place.lower))];
  return [
    ...lowers.map((lower): Step => ({ op: 'drain', lower })),
    ...all.map(({ slot, lower }): Step => ({ op: 'free', slot, lower })),
  ];
}
