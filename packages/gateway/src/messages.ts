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
import { type AuditPlan, MAX_SAS, type TooBigPlan } from './plan.ts';

/** Columns of a worker's counters beside those of drops and SAs. */
export const GatewayStat = {
  /** Too-big answers that the inside took. */
  ANSWERS: DROP_CODES,
  DUMMIES: DROP_CODES + 1,
  KEEPALIVES: DROP_CODES + 2,
  /** SaStat columns of every slot from here on. */
  SAS: DROP_CODES + 3,
} as const;

/** Float64 columns of a worker's counters: one per DropReason, then GatewayStat. */
export const STATS_BYTES: number = (GatewayStat.SAS + MAX_SAS * SaStat.COLUMNS) * 8;

/** First column of the counters of an SA. */
export function saColumn(slot: number): number {
  return GatewayStat.SAS + slot * SaStat.COLUMNS;
}

/** A worker reads no clock of its own: word 0 of `WorkerStart.clock` counts times of so many milliseconds. */
export const TICK_MS = 50;

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
  /** One Int32: the gateway's time, in TICK_MS. */
  readonly clock: SharedArrayBuffer;
  /** The PathMtu of all workers. */
  readonly pathMtu: SharedArrayBuffer;
  /** This worker's AuditRing, and how much it may write. */
  readonly audit: { readonly memory: SharedArrayBuffer; readonly plan: AuditPlan } | null;
  readonly tooBig: TooBigPlan;
  /** One Int32 per slot: how far an inbound SA's packets may come out; null when no state is kept. */
  readonly gates: SharedArrayBuffer | null;
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
  | { readonly type: 'dummies'; readonly slot: number; readonly count: number; readonly length: number | 'mtu' }
  | { readonly type: 'keepalive'; readonly slot: number }
  /** From a lower's own sockets, one per source port. */
  | { readonly type: 'lower-keepalive'; readonly index: number; readonly count: number }
  /** An inbound SA has lost its sender's high half (RFC 4303 A3). */
  | { readonly type: 'resync'; readonly slot: number }
  | { readonly type: 'stop' };

/** An error as it crosses between threads. */
export type Failure =
  | { readonly kind: 'xfrm'; readonly detail: XfrmErrorDetail }
  | { readonly kind: 'range'; readonly text: string }
  | { readonly kind: 'bug'; readonly text: string };

/** Every order is answered once; the start of a worker is order 0. */
export interface Answer {
  readonly id: number;
  readonly failure: Failure | null;
}

export function failureOf(error: unknown): Failure {
  if (error instanceof XfrmError) return { kind: 'xfrm', detail: error.detail };
  if (error instanceof RangeError) return { kind: 'range', text: error.message };
  return { kind: 'bug', text: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

/** The error on the thread that asked. */
export function errorOf(failure: Failure): Error {
  if (failure.kind === 'xfrm') return new XfrmError(failure.detail);
  return failure.kind === 'range' ? new RangeError(failure.text) : new Error(failure.text);
}
