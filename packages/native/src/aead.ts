import { type Binding, load } from './binding.ts';
import { type SlabShape, slabId } from './slab.ts';

/** The addon's crypto, as `nativeEngine` of `@espalier/esp` takes it; null without the addon. */
export interface Aead {
  slabId(slab: SlabShape): number;
  readonly ready: Binding['aeadReady'];
  readonly install: Binding['aeadInstall'];
  readonly remove: Binding['aeadRemove'];
  readonly seal: Binding['aeadSeal'];
  readonly open: Binding['aeadOpen'];
}

export function aead(): Aead | null {
  const { binding } = load();
  if (binding === null) return null;
  return {
    slabId: (slab) => slabId(binding, slab),
    ready: binding.aeadReady,
    install: binding.aeadInstall,
    remove: binding.aeadRemove,
    seal: binding.aeadSeal,
    open: binding.aeadOpen,
  };
}
