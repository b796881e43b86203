import { BondPort, ReplicaTable, SnapshotPublisher, XMIT_HASH_POLICIES, xmitHash } from '@espalier/bond';
import { type Burst, createBurst, Row, RowState } from '@espalier/wire';
import { Desk } from '../frame/desk.ts';
import { NullPort } from '../frame/null-port.ts';
import { product, type Scenario, type Trial } from '../frame/scenario.ts';

const SAS = 64;
const BATCH = 32;
const BATCHES = 16;

/** An ESP frame over IPv4 and Ethernet. */
function frame(spi: number): Uint8Array {
  const bytes = new Uint8Array(114);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 100, 0, 0, 0x40, 0, 64, 50, 0, 0]);
  bytes.set([192, 0, 2, 1, 192, 0, 2, 2], 26);
  new DataView(bytes.buffer).setUint32(34, spi);
  return bytes;
}

/** No bond at all: every burst goes to one port. */
const BARE = { slaves: 0, hash: '-', choice: '-' };

interface Split extends Trial {
  readonly bursts: readonly Burst[];
  readonly ports: readonly NullPort[];
}

/** Bursts of sealed frames of 64 SAs, dealt at random, through a bond's port to slaves that take everything. */
async function split(slaves: number, hash: string, choice: string): Promise<Split> {
  const desk = new Desk(BATCH * BATCHES, BATCH);
  const { slab } = desk;
  const bursts = Array.from({ length: BATCHES }, (_, b) => {
    const burst = createBurst(slab, BATCH);
    for (let i = 0; i < BATCH; i++) {
      const sa = Math.imul(b * BATCH + i, 0x9e3779b1) >>> 26;
      desk.put(frame(0x1000 + 2 * sa), RowState.SEALED);
      const row = desk.burst.list[--desk.burst.length]!;
      const r = row * Row.WORDS;
      // What EspOutbound writes for spread `sa`.
      const known = xmitHash('layer3+4', slab.view, slab.rows[r + Row.START]!, slab.rows[r + Row.END]!);
      slab.rows[r + Row.HASH] = hash === 'kept' ? known : -1;
      burst.list[burst.length++] = row;
    }
    return burst;
  });
  const lowers = Array.from({ length: Math.max(1, slaves) }, (_, i) => i);
  const ports = lowers.map((lower) => new NullPort(lower, null, null));
  if (slaves === 0)
    return {
      bursts,
      ports,
      packets: BATCH * BATCHES,
      step: () => {
        for (let b = 0; b < BATCHES; b++) ports[0]!.xmit(bursts[b]!);
      },
    };
  const publisher = new SnapshotPublisher(1, slaves, () => Promise.resolve());
  await publisher.publish(lowers);
  const policy = new Int32Array(new SharedArrayBuffer(4));
  policy[0] = XMIT_HASH_POLICIES.indexOf('layer3+4');
  const bond = BondPort.attach(
    {
      snapshot: publisher.ticket,
      replicas: ReplicaTable.create(SAS, slaves).ticket,
      policy: policy.buffer as SharedArrayBuffer,
      resilient: choice === 'resilient',
    },
    { worker: 0, ports: new Map(ports.map((p, i) => [i, p])), slab, capacity: BATCH },
  );
  return {
    bursts,
    ports,
    packets: BATCH * BATCHES,
    step: () => {
      for (let b = 0; b < BATCHES; b++) {
        bond.pin();
        bond.xmit(bursts[b]!);
        bond.unpin();
      }
    },
    close: () => {
      if (ports.some((p) => p.taken === 0)) throw new Error('a slave carried nothing');
    },
  };
}

/** The slave of every row after one step. */
async function choices(slaves: number, hash: string, choice: string): Promise<string> {
  const trial = await split(slaves, hash, choice);
  trial.step();
  trial.close!();
  return trial.bursts.flatMap(({ rows, list }) => [...list].map((row) => rows[row * Row.WORDS + Row.LOWER])).join();
}

export default {
  name: 'bond-split',
  about: 'a burst of 32 hashed, split by slave and handed over to null slaves: 64 SAs, one pin a burst',
  variants: [
    ...product({ slaves: [1, 2, 4, 8], hash: ['kept'], choice: ['modulo'] }),
    ...product({ slaves: [4], hash: ['kept', 'bytes'], choice: ['resilient'] }),
    { slaves: 4, hash: 'bytes', choice: 'modulo' },
    BARE,
  ],
  anchor: (v) => (v.slaves === 0 ? null : BARE),
  limits: [
    {
      variant: { slaves: 4, hash: 'kept', choice: 'modulo' },
      to: BARE,
      most: 12,
      goal: 'a burst of 32 split and handed over to 4 slaves in 25 ns a packet',
    },
  ],
  async prove() {
    for (const slaves of [2, 4, 8])
      for (const choice of ['modulo', 'resilient'])
        if ((await choices(slaves, 'kept', choice)) !== (await choices(slaves, 'bytes', choice)))
          throw new Error(`${slaves} slaves, ${choice}: the hash that is kept chooses otherwise than the bytes`);
  },
  run: ({ slaves, hash, choice }) => split(slaves as number, hash as string, choice as string),
} satisfies Scenario;
