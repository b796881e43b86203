import type { FeatureSet } from './seam.ts';

/** Offload features, meanings as in the kernel. */
export const Feature = {
  /** The device seals and opens ESP. Kernel: NETIF_F_HW_ESP. */
  HW_ESP: 1,
  /** It also fills inner checksums. Kernel: NETIF_F_HW_ESP_TX_CSUM. */
  HW_ESP_TX_CSUM: 2,
  /** It segments super-packets after ESP headers are in place. Kernel: NETIF_F_GSO_ESP. */
  GSO_ESP: 4,
} as const;

export const ESP_FEATURES: number = Feature.HW_ESP | Feature.HW_ESP_TX_CSUM | Feature.GSO_ESP;

/** Drops what cannot stand alone: checksum and segmentation of ESP need HW_ESP. Kernel: netdev_fix_features, xfrm_api_check. */
export function fixFeatures(features: number): number {
  return features & Feature.HW_ESP ? features : features & ~(Feature.HW_ESP_TX_CSUM | Feature.GSO_ESP);
}

/** What becomes active when `wanted` is asked of a device that can do `hw`. */
export function activeFeatures(hw: number, wanted: number): number {
  return fixFeatures(hw & wanted);
}

/** The set after asking for `wanted`. */
export function wantFeatures(set: FeatureSet, wanted: number): FeatureSet {
  return { hw: set.hw, wanted, active: activeFeatures(set.hw, wanted) };
}

/** The names in a set, for people. */
export function featureNames(features: number): string[] {
  return Object.entries(Feature)
    .filter(([, bit]) => (features & bit) !== 0)
    .map(([name]) => name);
}
