/** Features as a transaction: what to ask of which slave, in order. Pure. */
import { ESP_FEATURES, Feature, fixFeatures } from '@espalier/xfrm';
import type { Step } from './plan.ts';

/** What matters of a slave. */
export interface FeatureFacts {
  readonly lower: number;
  /** What was asked of it last. */
  readonly wanted: number;
  readonly active: number;
  readonly hw: number;
}

/** Dependencies of the bits themselves; null = `wanted` makes sense. Kernel: xfrm_api_check. */
export function featureNonsense(wanted: number): string | null {
  if ((wanted & ~ESP_FEATURES) !== 0) return 'a feature that is not one of ESP';
  return fixFeatures(wanted) === wanted ? null : 'checksum or segmentation of ESP without HW_ESP';
}

/** Makes every slave do exactly `want` of the ESP features, in slave order; slaves that do so already are left alone. */
export function planFeatures(slaves: readonly FeatureFacts[], want: number): Step[] {
  return slaves
    .filter((s) => (s.active & ESP_FEATURES) !== want)
    .map((s) => ({ op: 'features', lower: s.lower, wanted: (s.wanted & ~ESP_FEATURES) | want, before: s.wanted }));
}

/** What is on after the slaves have changed: optional bits come and go with them, HW_ESP never comes back by itself. */
export function followFeatures(hw: number, wanted: number, active: number): number {
  return (active & Feature.HW_ESP) === 0 ? 0 : fixFeatures(hw & wanted);
}
