/** What a bond is made of. */
import type { LowerDevice, OffloadTable, XfrmError } from '@espalier/xfrm';
import { AD_SELECTS, type AdSelect } from './aggregator.ts';
import { BOND_MODES, type BondMode, JOIN_REFUSED, type JoinRefused } from './plan.ts';
import { XMIT_HASH_POLICIES, type XmitHashPolicy } from './xmit-hash.ts';

export interface BondOptions {
  readonly name: string;
  readonly index: number;
  readonly mode: BondMode;
  readonly xmitHashPolicy?: XmitHashPolicy;
  /** 802.3ad: when to choose another aggregator, and which; `stable` when absent. */
  readonly adSelect?: AdSelect;
  /** Milliseconds that a link must have been up, or down, before it counts; 0 when absent. */
  readonly upDelay?: number;
  readonly downDelay?: number;
  /** What becomes of a joining slave that cannot take an SA; `keep-out` when absent. */
  readonly joinRefused?: JoinRefused;
  /** Milliseconds, in the time of `tick`, after which a lower that does not answer counts as refusing; 2000 when absent. */
  readonly addTimeout?: number;
  /** Milliseconds after which frames posted count as stuck; 2000 when absent. */
  readonly drainTimeout?: number;
  /** A change of members moves only that member's flows (see resilientChoice), unlike Linux's; false when absent. */
  readonly resilient?: boolean;
  /** SA slots are below this. */
  readonly maxSas: number;
  /** Lower indices are below this. */
  readonly maxLowers: number;
  readonly workers: number;
  readonly offloads: OffloadTable;
  /** How to let workers move while the actor waits for grace or for frames in flight; a turn of the event loop when absent. */
  readonly idle?: () => Promise<void>;
  /** Closes a lower's sockets in every worker, which completes what is stuck in them. Asked of a slave that leaves only. */
  readonly closeSockets?: (lower: LowerDevice) => Promise<void>;
  /** What went wrong with nobody waiting for it: in link events, late answers, frees. Nothing needs to be done about it. */
  readonly report?: (trouble: XfrmError) => void;
}

export interface CompleteBondOptions extends Required<Omit<BondOptions, 'closeSockets'>> {
  readonly closeSockets: ((lower: LowerDevice) => Promise<void>) | null;
}

/** With what is absent filled in. Throws TypeError or RangeError on options that make no sense. */
export function completeOptions(options: BondOptions): CompleteBondOptions {
  const full: CompleteBondOptions = {
    xmitHashPolicy: 'layer2',
    adSelect: 'stable',
    joinRefused: 'keep-out',
    upDelay: 0,
    downDelay: 0,
    addTimeout: 2000,
    drainTimeout: 2000,
    resilient: false,
    idle: () => new Promise((resolve) => setTimeout(resolve, 0)),
    report: () => {},
    ...options,
    closeSockets: options.closeSockets ?? null,
  };
  demandOneOf('mode', BOND_MODES, full.mode);
  demandOneOf('xmitHashPolicy', XMIT_HASH_POLICIES, full.xmitHashPolicy);
  demandOneOf('adSelect', AD_SELECTS, full.adSelect);
  demandOneOf('joinRefused', JOIN_REFUSED, full.joinRefused);
  for (const what of ['upDelay', 'downDelay', 'addTimeout', 'drainTimeout'] as const)
    if (!(full[what] >= 0)) throw new RangeError(`"${what}" must be milliseconds, got ${full[what]}`);
  return full;
}

/** Throws TypeError. */
export function demandOneOf<T>(what: string, all: readonly T[], one: T): void {
  if (!all.includes(one)) throw new TypeError(`"${what}" must be one of ${all.join(', ')}, got ${String(one)}`);
}
