/** What of the bond and of the seam is explored together, as one module. */
export { PostedCount, PostedTable } from '@espalier/xfrm';
export { planFree, planLeave } from '../src/plan.ts';
export { ReplicaTable } from '../src/replicas.ts';
export { SnapshotPublisher, SnapshotReader } from '../src/snapshot.ts';
