import { type Binding, load } from './binding.ts';

/** A slab as the addon needs it; `@espalier/wire`'s FrameSlab is one. */
export interface SlabShape {
  readonly bytes: Uint8Array;
  readonly rows: Int32Array;
  readonly frames: number;
  readonly frameSize: number;
  readonly headroom: number;
  readonly tailroom: number;
}

const slabs: WeakMap<SlabShape, number> = new WeakMap();
/** The addon holds a slab's arrays, not the slab: when that is gone, they go. */
const gone: FinalizationRegistry<number> = new FinalizationRegistry((id) => load().binding?.unregisterSlab(id));

/** Registers a slab once per thread and returns its id. Throws RangeError when the addon has no place left. */
export function slabId(binding: Binding, slab: SlabShape): number {
  const known = slabs.get(slab);
  if (known !== undefined) return known;
  const id = binding.registerSlab(slab.bytes, slab.rows, slab.frames, slab.frameSize, slab.headroom, slab.tailroom);
  if (id < 0) throw new RangeError('too many slabs on this thread');
  slabs.set(slab, id);
  gone.register(slab, id);
  return id;
}
