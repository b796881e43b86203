export {
  AD_SELECTS,
  type AdSelect,
  type Aggregator,
  type AggregatorPort,
  aggregators,
  chooseAggregator,
  type Partner,
} from './aggregator.ts';
export { BondDevice } from './bond-device.ts';
export type { BondOptions } from './bond-options.ts';
export { BondPort, type BondPortOptions, type BondTicket, type WithoutHandle } from './bond-port.ts';
export { carryOut, execute, type Hands, Refusal, undoOf } from './execute.ts';
export { featureNonsense, followFeatures, planFeatures } from './features.ts';
export { type Link, type LinkDelays, type LinkState, stepLink } from './link.ts';
export {
  activeSlave,
  type BondFacts,
  type BondMode,
  candidates,
  eligibility,
  JOIN_REFUSED,
  type JoinRefused,
  keptOut,
  type Place,
  planAdd,
  planFree,
  planLeave,
  replicates,
  type SlaveFacts,
  type Step,
  transmitters,
  unfit,
  unfitFor,
  wantedReplicas,
} from './plan.ts';
export { demandReorderBudget, type ReorderFacts, reorderBudget } from './reorder-budget.ts';
export type { ReplicaState, ReplicaStats } from './replica.ts';
export { ReplicaTable, type ReplicaTicket } from './replicas.ts';
export type { SlaveState } from './replication.ts';
export { resilientChoice } from './resilient.ts';
export { SnapshotPublisher, SnapshotReader, type SnapshotTicket } from './snapshot.ts';
export { longestPacket } from './veto.ts';
export { XMIT_HASH_POLICIES, type XmitHashPolicy, xmitHash, xmitHashEsp, xmitHashIp } from './xmit-hash.ts';
