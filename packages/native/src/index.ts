export { type Aead, aead } from './aead.ts';
export { type Binding, type Loaded, load } from './binding.ts';
export { errnoName } from './errno.ts';
export { type FoundLink, findLink, type LinkTrouble, withoutAddon } from './find-link.ts';
export { type LinkInfo, LinkSet, linkInfo, TunOpen } from './link.ts';
export { LinkWatch } from './link-watch.ts';
export { type HopTable, Neighbours } from './neighbours.ts';
export { type Probe, probe } from './probe.ts';
export { type SlabShape, slabId } from './slab.ts';
