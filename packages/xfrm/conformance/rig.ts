import type { FrameSlab } from '@espalier/wire';
import type { LowerDevice, Port, PortContext, PortTicket } from '../src/seam.ts';

/** Two lowers of one kind, joined: what `a` sends arrives at `b`, and the reverse. Made anew for every rule. */
export interface Rig {
  readonly a: LowerDevice;
  readonly b: LowerDevice;
  /** SAs that each lower holds at most; the suite fills it, so small is quick. */
  readonly saSlots: number;
  /** A slab of at least `frames` frames for one end, where the lower wants memory of its own kind. */
  slab?(frames: number): FrameSlab;
  open(device: LowerDevice, ticket: PortTicket, context: PortContext): Port;
  /** Gives frames time to arrive; called between polls. */
  deliver(): Promise<void>;
  readonly powers: Powers;
  close(): Promise<void>;
}

/** What can be made to happen to a lower from outside. A rule whose power is missing must be listed in `skip`. */
export interface Powers {
  /** The next add is refused. */
  refuseAdd?(device: LowerDevice): void;
  /** The next add waits until the returned function is called. */
  holdAdd?(device: LowerDevice): () => void;
  /** The next setFeatures is refused. */
  refuseFeatures?(device: LowerDevice): void;
  setCarrier?(device: LowerDevice, carrier: boolean): void;
}
