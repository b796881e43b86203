export { BondDevice, type BondOptions, type SlaveState } from './bond-device.ts';
export { BondPort, type BondPortOptions, type BondTicket } from './bond-port.ts';
export {
  activeSlave,
  advertised,
  type BondMode,
  candidates,
  replicates,
  type SlaveFacts,
  usable,
  wantedReplicas,
} from './plan.ts';
export { ReplicaTable, type ReplicaTicket } from './replicas.ts';
export { SnapshotPublisher, SnapshotReader, type SnapshotTicket } from './snapshot.ts';
export { XMIT_HASH_POLICIES, type XmitHashPolicy, xmitHash, xmitHashIp } from './xmit-hash.ts';
