import { BondPort, ReplicaTable, SnapshotPublisher, XMIT_HASH_POLICIES, xmitHash } from '@espalier/bond';
import { EspPath } from '@espalier/esp';
import { createBurst, RowState } from '@espalier/wire';
import { DROP_CODES, LowerHandles, type NoHandleName, OffloadTable, settle } from '@espalier/xfrm';
import { Desk, saPair } from '../frame/desk.ts';
import { nullEngine } from '../frame/null-engine.ts';
import { NullPort } from '../frame/null-port.ts';
import { ipv4 } from '../frame/packets.ts';
import { product, type Scenario, type Trial } from '../frame/scenario.ts';

const SAS = 64;
const BATCH = 32;
const BATCHES = 16;
const SIZE = 64;
const ONE = { slaves: 1, noHandle: 'drop' };

interface Slaves extends Trial {
  readonly ports: readonly NullPort[];
  readonly drops: Float64Array;
}

/** Inner packets of 64 SAs, each with a replica on every slave: policy, numbers, headers, split, handle, gone. */
async function send(slaves: number, noHandle: NoHandleName): Promise<Slaves> {
  const desk = new Desk(BATCH * BATCHES, BATCH);
  const { slab, pool } = desk;
  const offloads = OffloadTable.create(SAS);
  const replicas = ReplicaTable.create(SAS, slaves);
  const handles = new LowerHandles(offloads, replicas);
  const frameHash = (view: DataView, start: number, end: number): number => xmitHash('layer3+4', view, start, end);
  const path = new EspPath({
    ...{ slab, engine: nullEngine(), maxSas: SAS, linkType: 'ethernet', offloads, capacity: BATCH, frameHash },
  });
  const lowers = Array.from({ length: slaves }, (_, i) => i);
  for (let slot = 0; slot < SAS; slot++) {
    path.addOutbound({ ...saPair('aes128gcm16', { slot, spi: 0x1000 + 2 * slot, offload: true }).out, noHandle });
    offloads.setUpper(slot);
    for (const lower of lowers) replicas.write(slot, lower, 1 + slot * slaves + lower);
  }
  const inner = Array.from({ length: SAS }, (_, flow) => ipv4(SIZE, flow));
  const any = { destination: new Uint8Array(4), destinationBits: 0, protocol: null, action: 'protect' as const };
  path.setPolicies(inner.map((p, slot) => ({ ...any, source: p.slice(12, 16), sourceBits: 32, slot })));
  const publisher = new SnapshotPublisher(1, slaves, () => Promise.resolve());
  await publisher.publish(lowers);
  const policy = new Int32Array(new SharedArrayBuffer(4)).fill(XMIT_HASH_POLICIES.indexOf('layer3+4'));
  const ports = lowers.map((lower) => new NullPort(lower, handles, pool));
  const bond = BondPort.attach(
    { snapshot: publisher.ticket, replicas: replicas.ticket, policy: policy.buffer as SharedArrayBuffer },
    { worker: 0, ports: new Map(ports.map((p, i) => [i, p])), slab, capacity: BATCH, handles, path },
  );
  const drops = new Float64Array(DROP_CODES);
  const bursts = Array.from({ length: BATCHES }, () => createBurst(slab, BATCH));
  let n = 0;
  return {
    ports,
    drops,
    packets: BATCH * BATCHES,
    prepare: () => {
      for (const burst of bursts)
        while (burst.length < BATCH) desk.put(inner[Math.imul(n++, 0x9e3779b1) >>> 26]!, RowState.UNSET, burst);
    },
    step: () => {
      for (let b = 0; b < BATCHES; b++) {
        const burst = bursts[b]!;
        bond.pin();
        path.outbound(burst);
        bond.xmit(burst);
        settle(burst, pool, drops);
        bond.unpin();
      }
    },
    close: () => {
      if (drops.some((count) => count > 0)) throw new Error(`packets were dropped: ${drops.join()}`);
    },
  };
}

export default {
  name: 'bond-slaves',
  about: 'what replication costs: 64 SAs without a cipher over null slaves that each hold all of them',
  variants: [
    ...product({ slaves: [1, 2, 4, 8], noHandle: ['drop'] }),
    ...product({ slaves: [4], noHandle: ['software', 'steer'] }),
  ],
  limits: [2, 4, 8].map((slaves) => ({
    ...{ variant: { slaves, noHandle: 'drop' }, to: ONE, most: 1.05 },
    goal: 'slaves within 5 % of one another',
  })),
  anchor: (v) => (v.slaves === 1 ? null : ONE),
  async prove() {
    for (const slaves of [1, 2, 4, 8]) {
      const trial = await send(slaves, 'drop');
      trial.prepare!();
      trial.step();
      trial.close!();
      const taken = trial.ports.map((p) => p.taken);
      const all = taken.reduce((a, b) => a + b, 0);
      if (all !== trial.packets || taken.some((t) => t < all / slaves / 3))
        throw new Error(`${slaves} slaves took ${taken.join()} of ${trial.packets}`);
    }
  },
  run: ({ slaves, noHandle }) => send(slaves as number, noHandle as NoHandleName),
} satisfies Scenario;
