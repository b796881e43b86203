export * from './algorithm.ts';
export * from './drop-reason.ts';
export * from './errors.ts';
export * from './features.ts';
export * from './key.ts';
export * from './offload.ts';
export * from './resolve.ts';
export * from './seam.ts';
