/** What goes between the control thread and a worker; plain data. */
import type { BondTicket } from '@espalier/bond';
import type { InboundTicket, OutboundTicket } from '@espalier/esp';
import type { LinkType, PolicyTicket, PortTicket } from '@espalier/xfrm';
import type { EngineName } from './engine.ts';

export interface WorkerStart {
  readonly worker: number;
  readonly workers: number;
  readonly engine: EngineName;
  readonly maxSas: number;
  readonly frames: number;
  readonly bond: BondTicket;
  readonly offloads: SharedArrayBuffer;
  readonly lowers: readonly PortTicket[];
  readonly linkType: LinkType;
  readonly link: Uint8Array | null;
  readonly inside: PortTicket;
  /** Float64: DROP_CODES drop counters, then SaStat columns of every slot. */
  readonly stats: SharedArrayBuffer;
  /** Word 0: messages posted so far; the worker looks at its mailbox when it changes. */
  readonly mail: SharedArrayBuffer;
  /** eventfd that ends the worker's wait, or -1. */
  readonly wake: number;
}

export type Order =
  | { readonly type: 'add-in'; readonly ticket: InboundTicket }
  | { readonly type: 'add-out'; readonly ticket: OutboundTicket }
  | { readonly type: 'remove'; readonly slot: number }
  | { readonly type: 'policies'; readonly policies: readonly PolicyTicket[] }
  | { readonly type: 'stop' };

/** Every order is answered once. */
export interface Answer {
  readonly id: number;
  readonly error: string | null;
}
