export * from './allocator.ts';
export * from './arena.ts';
export * from './esn.ts';
export { Verdict } from './layout.ts';
export * from './window.ts';
