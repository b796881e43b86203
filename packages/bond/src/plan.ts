/** What should be: pure functions over plain facts. The device (bond-device.ts) makes it so. */
import { ESP_FEATURES, Feature } from '@espalier/xfrm';
import type { XmitHashPolicy } from './xmit-hash.ts';

export type BondMode = 'active-backup' | 'balance-xor' | '802.3ad';

/** What matters of a slave. */
export interface SlaveFacts {
  readonly lower: number;
  /** Administratively up. */
  readonly running: boolean;
  readonly carrier: boolean;
  /** Offers the state operations. */
  readonly capable: boolean;
  /** Resolves handles per lower (XFRMDEV_OPS_F_LOWER_HANDLE). */
  readonly optedIn: boolean;
  /** Feature bits the device could do. */
  readonly hw: number;
  /** It refused an SA when it joined: out of usable until that changes. */
  readonly keptOut: boolean;
}

/** Whether mode and policy are those for which one SA may live on many slaves. */
export function replicates(mode: BondMode, policy: XmitHashPolicy): boolean {
  return mode !== 'active-backup' && policy === 'layer3+4';
}

/** Slaves that count for eligibility: enslaved, running, in the mode's set (all of ours are). Carrier does not matter. */
export function candidates(slaves: readonly SlaveFacts[]): SlaveFacts[] {
  return slaves.filter((s) => s.running);
}

/** The slave that carries an active-backup bond: the current one while it can, else the first that can; -1 = none. */
export function activeSlave(slaves: readonly SlaveFacts[], current: number): number {
  const able = slaves.filter((s) => s.running && s.carrier);
  return able.some((s) => s.lower === current) ? current : (able[0]?.lower ?? -1);
}

/**
 * ESP features the bond may offer. Replicated: what every candidate has, provided every one is capable and opted in.
 * Active-backup: what every capable candidate has, since any of them may become the active one.
 */
export function advertised(mode: BondMode, policy: XmitHashPolicy, slaves: readonly SlaveFacts[]): number {
  const all = candidates(slaves);
  if (all.length === 0) return 0;
  if (mode !== 'active-backup' && !replicates(mode, policy)) return 0;
  if (!all.every((s) => s.capable && (mode === 'active-backup' || s.optedIn))) return 0;
  const common = all.reduce((bits, s) => bits & s.hw, ESP_FEATURES);
  return common & Feature.HW_ESP ? common : 0;
}

/** Lowers on which every SA should have a replica. */
export function wantedReplicas(
  mode: BondMode,
  slaves: readonly SlaveFacts[],
  active: number,
  enabled: boolean,
): number[] {
  if (!enabled) return [];
  if (mode === 'active-backup') return active < 0 ? [] : [active];
  return candidates(slaves)
    .filter((s) => !s.keptOut)
    .map((s) => s.lower);
}

/** Lowers that carry traffic, in enslave order. */
export function usable(mode: BondMode, slaves: readonly SlaveFacts[], active: number): number[] {
  if (mode === 'active-backup') return active < 0 ? [] : [active];
  return slaves.filter((s) => s.running && s.carrier && !s.keptOut).map((s) => s.lower);
}
