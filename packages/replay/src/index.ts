export * from './allocator.ts';
export * from './arena.ts';
export * from './esn.ts';
export { Verdict } from './layout.ts';
export * from './lifetime.ts';
export * from './resync.ts';
export type { WindowOptions } from './shape.ts';
export * from './state.ts';
export * from './window.ts';
