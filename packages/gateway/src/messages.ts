/** What goes between the control thread and a worker; plain data. */
import type { BondTicket } from '@espalier/bond';
import { type InboundTicket, type OutboundTicket, SaStat } from '@espalier/esp';
import {
  DROP_CODES,
  type LinkType,
  type PolicyTicket,
  type PortTicket,
  XfrmError,
  type XfrmErrorDetail,
} from '@espalier/xfrm';
import type { EngineName } from './engine.ts';
import { MAX_SAS } from './plan.ts';

/** Float64 columns of a worker's counters: one per DropReason, then SaStat columns of every slot. */
export const STATS_BYTES: number = (DROP_CODES + MAX_SAS * SaStat.COLUMNS) * 8;

/** First column of the counters of an SA. */
export function saColumn(slot: number): number {
  return DROP_CODES + slot * SaStat.COLUMNS;
}

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
  /** STATS_BYTES of counters. */
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
  /** What was protected with slot `from` is protected with `to`. */
  | { readonly type: 'switch'; readonly from: number; readonly to: number }
  /** Closes the worker's port of a lower that is leaving. */
  | { readonly type: 'close-lower'; readonly index: number }
  | { readonly type: 'stop' };

/** An error as it crosses between threads. */
export type Failure =
  | { readonly kind: 'xfrm'; readonly detail: XfrmErrorDetail }
  | { readonly kind: 'bug'; readonly text: string };

/** Every order is answered once; the start of a worker is order 0. */
export interface Answer {
  readonly id: number;
  readonly failure: Failure | null;
}

export function failureOf(error: unknown): Failure {
  if (error instanceof XfrmError) return { kind: 'xfrm', detail: error.detail };
  return { kind: 'bug', text: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

/** The error on the thread that asked. */
export function errorOf(failure: Failure): Error {
  return failure.kind === 'xfrm' ? new XfrmError(failure.detail) : new Error(failure.text);
}
