import { Row, RowState } from '@espalier/wire';
import type { Received } from './house.ts';
import { Reference, saOf } from './packet.ts';
import { demand, type Ground, type Rule, turns } from './rule.ts';

const ROUND = 2 ** 32;

/** Tells `b` the left edges in turn, then sends it these numbers; what it made of each. The number's half is not told. */
async function tellAndSend(ground: Ground, bottoms: number[], numbers: number[]): Promise<Received[]> {
  const { a, b } = ground;
  const sa = saOf(b.device, 'in');
  const handle = await b.install(sa);
  for (const bottom of bottoms) b.xfrm.advanceEsn(handle, bottom);
  // A lower may take a moment to be told.
  await turns();
  await ground.rig.deliver();
  const reference = new Reference(a.engine, a.framing);
  const got: Received[] = [];
  for (const seq of numbers) {
    a.sendOne({ seq, state: RowState.SEALED, frame: reference.sealed(seq, sa) });
    const [one] = await b.receive(1);
    demand(one !== undefined, `number ${seq} did not arrive`);
    got.push(one);
  }
  return got;
}

function demandOpened(got: readonly Received[], numbers: readonly number[]): void {
  got.forEach(({ row }, i) => {
    demand(row[Row.STATE] === RowState.OPENED, `number ${numbers[i]} was not opened, its state is ${row[Row.STATE]}`);
  });
}

/** For lowers that open in `poll` with ESN state of their own; others never see a high half they could get wrong. */
export const ESN_RULES: readonly Rule[] = [
  {
    id: 'esn-told',
    sentence: 'a lower with ESN state of its own opens with the high half it was last told',
    check: async (ground) => {
      const numbers = [ROUND + 100, ROUND + 2 ** 31 + 100];
      demandOpened(await tellAndSend(ground, [ROUND], numbers), numbers);
    },
  },
  {
    id: 'esn-across',
    sentence: 'told of an edge below 2^32 it opens numbers on both sides of 2^32',
    check: async (ground) => {
      const numbers = [ROUND - 500, ROUND - 1, ROUND, ROUND + 500, ROUND - 2];
      demandOpened(await tellAndSend(ground, [ROUND - 1000], numbers), numbers);
    },
  },
  {
    id: 'esn-monotone',
    sentence: 'an edge told twice or out of order never goes back',
    check: async (ground) => {
      const numbers = [2 * ROUND + 7];
      demandOpened(await tellAndSend(ground, [2 * ROUND, 2 * ROUND, ROUND, 5], numbers), numbers);
    },
  },
  {
    id: 'esn-reported',
    sentence: 'a row it opened carries the high half it verified with',
    check: async (ground) => {
      const [got] = await tellAndSend(ground, [3 * ROUND], [3 * ROUND + 9]);
      if (got!.row[Row.STATE] !== RowState.OPENED) return;
      demand(got!.row[Row.SEQ_HI] === 3, `it verified with 3 and reports ${got!.row[Row.SEQ_HI]}`);
    },
  },
];
