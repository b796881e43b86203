/** What a lower that carries HW_ESP in software is not: `skip` of the conformance suite. */
export const SOFT_SKIPS = [
  { rules: ['add-no-trace', 'close-waits', 'features-refused'], reason: 'software takes every SA and feature at once' },
  { rules: ['esn-told', 'esn-across', 'esn-monotone'], reason: 'it opens under the number that was inferred above it' },
];
