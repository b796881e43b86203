import { Row, RowState } from '@espalier/wire';
import { DropReason } from '../src/drop-reason.ts';
import { PortStat } from '../src/port-stats.ts';
import { FLOOD, type Outgoing } from './house.ts';
import { frameOf, payloadOf, Reference, same, saOf, seqHiOf } from './packet.ts';
import { demand, type Ground, type Rule } from './rule.ts';

const CLEAR = { state: RowState.CLEAR } as const;
const HIGH = 2 ** 32 + 77;

function reference({ a }: Ground): Reference {
  return new Reference(a.engine, a.framing);
}

/** A frame sealed elsewhere leaves `a` as it is and arrives at `b`, whose lower may open it. */
async function passOn(ground: Ground, seq: number, frame: Uint8Array): Promise<ReturnType<Ground['b']['receive']>> {
  const { a, b } = ground;
  a.sendOne({ seq, state: RowState.SEALED, frame });
  return b.receive(1, { slot: 0, seqHi: seqHiOf(seq) });
}

function flood(): Outgoing[] {
  return Array.from({ length: FLOOD }, (_, i) => ({ seq: i + 1, ...CLEAR }));
}

/** Sends these packets; every row that was refused must be as it was, its FATE aside. */
function demandUntouched({ a }: Ground, packets: readonly Outgoing[]): void {
  const { slab, burst } = a;
  const frameAt = (row: number): Uint8Array => slab.bytes.subarray(row * slab.frameSize, (row + 1) * slab.frameSize);
  const frames: Uint8Array[] = [];
  const rows: Int32Array[] = [];
  a.send(packets, (row, r) => {
    frames.push(frameAt(row).slice());
    rows.push(slab.rows.slice(r, r + Row.WORDS));
  });
  for (let i = 0; i < burst.length; i++) {
    const row = burst.list[i]!;
    const r = row * Row.WORDS;
    const fate = slab.rows[r + Row.FATE]!;
    if (fate === 0) continue;
    demand(same(frameAt(row), frames[i]!), `the bytes of row ${i}, refused with fate ${fate}, changed`);
    for (let column = 0; column < Row.WORDS; column++)
      demand(
        column === Row.FATE || slab.rows[r + column] === rows[i]![column],
        `column ${column} of row ${i}, refused with fate ${fate}, changed`,
      );
  }
  a.settle();
}

export const DATAPATH_RULES: readonly Rule[] = [
  {
    id: 'no-handle',
    sentence: 'a packet whose SA has no handle here is refused with NO_LOWER_HANDLE and does not leave',
    check: async ({ a, b }) => {
      const fate = a.sendOne({ seq: 1, state: RowState.TO_SEAL, slot: 0 });
      demand(fate === DropReason.NO_LOWER_HANDLE, `it met fate ${fate}`);
      demand((await b.receive(0)).length === 0, 'it left');
    },
  },
  {
    id: 'own-index',
    sentence: 'a handle that belongs to another lower is not used',
    check: async ({ a, b }) => {
      const handle = await a.add(saOf(a.device, 'out'));
      a.offloads.setDirect(0, a.device.index + 1, handle);
      const fate = a.sendOne({ seq: 1, state: RowState.TO_SEAL, slot: 0 });
      demand(fate === DropReason.NO_LOWER_HANDLE, `it met fate ${fate}`);
      demand((await b.receive(0)).length === 0, 'it left');
    },
  },
  {
    id: 'unset',
    sentence: 'an UNSET row never leaves',
    check: async ({ a, b }) => {
      const fate = a.sendOne({ seq: 1, state: RowState.UNSET });
      demand(fate === DropReason.UNSET, `it met fate ${fate}`);
      demand((await b.receive(0)).length === 0, 'it left');
    },
  },
  {
    id: 'clear-leaves',
    sentence: 'a CLEAR row leaves as it is',
    check: async ({ a, b }) => {
      const fate = a.sendOne({ seq: 1, ...CLEAR });
      demand(fate === 0, `it met fate ${fate}`);
      const [got] = await b.receive(1);
      demand(got !== undefined && same(got.bytes, frameOf(a.framing, 1)), 'it did not arrive as it was');
    },
  },
  {
    id: 'clear-counted',
    sentence: 'every row that leaves in the clear is counted',
    check: async ({ a }) => {
      const stats = a.device.stats.port(0);
      const before = stats[PortStat.CLEAR]!;
      a.send([1, 2, 3].map((seq) => ({ seq, ...CLEAR })));
      const left = a.fates().filter((fate) => fate === 0).length;
      a.settle();
      const counted = stats[PortStat.CLEAR]! - before;
      demand(counted === left, `${left} left, ${counted} were counted`);
    },
  },
  {
    id: 'seal-opens-elsewhere',
    sentence: 'what one lower seals opens elsewhere to the same bytes, the high half of the number included',
    check: async (ground) => {
      const { a, b } = ground;
      const sa = saOf(a.device, 'out');
      await a.install(sa);
      const fate = a.sendOne({ seq: HIGH, state: RowState.TO_SEAL, slot: 0 });
      demand(fate === 0, `it met fate ${fate}`);
      const [got] = await b.receive(1);
      demand(got !== undefined, 'it did not arrive');
      const opened = reference(ground).opened(got.bytes, HIGH, sa);
      demand(opened !== null, 'its ICV does not hold');
      const { payload, payloadEnd } = a.framing;
      demand(same(opened.subarray(payload, payloadEnd), payloadOf(HIGH)), 'it opens to other bytes');
    },
  },
  {
    id: 'iv-is-number',
    sentence: 'the IV is the number, so nonces are unique across all lowers of an SA',
    check: async ({ a, b }) => {
      await a.install(saOf(a.device, 'out', 0, false));
      for (const seq of [1, 0x01020304, 0xfffffffe]) {
        a.sendOne({ seq, state: RowState.TO_SEAL, slot: 0 });
        const [got] = await b.receive(1);
        demand(got !== undefined, 'it did not arrive');
        const view = new DataView(got.bytes.buffer, got.bytes.byteOffset + a.framing.esp + 8);
        demand(
          view.getUint32(0) === 0 && view.getUint32(4) === seq,
          `number ${seq} got the IV ${view.getBigUint64(0).toString(16)}`,
        );
      }
    },
  },
  {
    id: 'opens-elsewhere',
    sentence: 'what was sealed elsewhere is opened under the handle, to the same bytes',
    check: async (ground) => {
      const { b } = ground;
      const sa = saOf(b.device, 'in');
      await b.install(sa);
      const [got] = await passOn(ground, 9, reference(ground).sealed(9, sa));
      demand(got !== undefined, 'it did not arrive');
      demand(got.row[Row.STATE] === RowState.OPENED, `its state is ${got.row[Row.STATE]}`);
      const { payload, payloadEnd } = b.framing;
      demand(same(got.bytes.subarray(payload, payloadEnd), payloadOf(9)), 'it opened to other bytes');
    },
  },
  {
    id: 'icv-bad',
    sentence: 'a row whose ICV does not hold is ICV_BAD, and nothing of its payload is to be seen',
    check: async (ground) => {
      const { b } = ground;
      const sa = saOf(b.device, 'in');
      await b.install(sa);
      const frame = reference(ground).sealed(9, sa);
      const { payload, payloadEnd } = b.framing;
      frame[payload + 5] = frame[payload + 5]! ^ 1;
      const [got] = await passOn(ground, 9, frame);
      demand(got !== undefined, 'it did not arrive');
      demand(got.row[Row.STATE] === RowState.ICV_BAD, `its state is ${got.row[Row.STATE]}`);
      demand(
        got.bytes.subarray(payload, payloadEnd).every((byte) => byte === 0),
        'its payload is not zeroed',
      );
    },
  },
  {
    id: 'sealed-once',
    sentence: 'a SEALED row leaves as it is: sealing twice with one nonce gives plaintext away',
    check: async (ground) => {
      const { a, b } = ground;
      const sa = saOf(a.device, 'out');
      await a.install(sa);
      const frame = reference(ground).sealed(3, sa);
      a.sendOne({ seq: 3, state: RowState.SEALED, slot: 0, frame });
      const [got] = await b.receive(1);
      demand(got !== undefined && same(got.bytes, frame), 'its bytes changed');
    },
  },
  {
    id: 'refused-untouched',
    sentence: 'a refused row is bit-identical to what was handed in, but for its FATE',
    check: async (ground) => {
      const { a } = ground;
      demandUntouched(ground, [
        { seq: 1, state: RowState.UNSET },
        { seq: 2, state: RowState.TO_SEAL, slot: 0 },
        { seq: 3, state: RowState.TO_SEAL, slot: -1 },
      ]);
      // Rows that could be sealed and have no room: a lower that seals first gives a second number's plaintext away.
      await a.install(saOf(a.device, 'out'));
      demandUntouched(
        ground,
        flood().map(({ seq }) => ({ seq, state: RowState.TO_SEAL, slot: 0 })),
      );
    },
  },
  {
    id: 'full-ring',
    sentence: 'when there is no room the rest of the burst is refused with NO_ROOM, and all that was taken arrives',
    check: async (ground) => {
      const { a, b } = ground;
      a.send(flood());
      const fates = a.fates();
      a.settle();
      const taken = fates.filter((fate) => fate === 0).length;
      demand(taken > 0, 'nothing was taken');
      demand(
        fates.every((fate) => fate === 0 || fate === DropReason.NO_ROOM),
        'something was refused for another reason',
      );
      const got = await b.receive(fates.length);
      demand(got.length === taken, `${taken} were taken, ${got.length} arrived`);
    },
  },
  {
    id: 'frames-conserved',
    sentence:
      'every frame comes back to its pool: those taken when they are reaped, those polled from whoever holds them',
    check: async (ground) => {
      const { a, b } = ground;
      for (let round = 0; round < 3; round++) {
        a.send(flood());
        a.settle();
        await b.receive(a.frames);
      }
      a.port.reap();
      for (const house of [a, b])
        demand(
          house.accounted === house.frames,
          `${house.frames - house.accounted} of ${house.frames} frames are gone`,
        );
    },
  },
  {
    id: 'fate-skipped',
    sentence: 'a row that comes with a FATE is skipped and keeps it',
    check: async ({ a, b }) => {
      const fate = a.sendOne({ seq: 1, ...CLEAR, fate: DropReason.POLICY });
      demand(fate === DropReason.POLICY, `it met fate ${fate}`);
      demand((await b.receive(0)).length === 0, 'it left');
    },
  },
  {
    id: 'xmit-count',
    sentence: 'xmit returns how many rows it took',
    check: async ({ a }) => {
      const taken = a.send([
        { seq: 1, ...CLEAR },
        { seq: 2, state: RowState.UNSET },
        { seq: 3, ...CLEAR },
        { seq: 4, ...CLEAR, fate: DropReason.POLICY },
      ]);
      const free = a.fates().filter((fate) => fate === 0).length;
      a.settle();
      demand(taken === free, `it returned ${taken}, ${free} rows have no FATE`);
    },
  },
  {
    id: 'room',
    sentence: 'xmit takes as many rows as room() said',
    check: async (ground) => {
      const { a } = ground;
      const room = Math.min(a.port.room(), FLOOD);
      a.send(flood().slice(0, room));
      const taken = a.fates().filter((fate) => fate === 0).length;
      a.settle();
      demand(taken === room, `there was room for ${room}, ${taken} were taken`);
    },
  },
  {
    id: 'poll-rows',
    sentence: 'a polled row has no FATE, names the lower, and spans the frame with headroom before it',
    check: async ({ a, b }) => {
      a.sendOne({ seq: 5, ...CLEAR });
      const [got] = await b.receive(1);
      demand(got !== undefined, 'it did not arrive');
      demand(got.row[Row.FATE] === 0, `its FATE is ${got.row[Row.FATE]}`);
      demand(got.row[Row.LOWER] === b.device.index, `its LOWER is ${got.row[Row.LOWER]}`);
      demand(got.row[Row.END]! - got.row[Row.START]! === a.framing.length, `it has ${got.bytes.length} bytes`);
      const headroom = got.row[Row.START]! % b.slab.frameSize;
      demand(headroom >= b.slab.headroom, `it has ${headroom} bytes of headroom`);
    },
  },
];
