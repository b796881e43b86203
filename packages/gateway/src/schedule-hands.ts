/** What a schedule sees of its gateway, and how what it decides reaches the workers. */
import { type LowerDevice, PortStat, portTotal } from '@espalier/xfrm';
import type { Order } from './messages.ts';
import type { Sas } from './sas.ts';
import type { ScheduleHands } from './schedule.ts';
import type { Workers } from './workers.ts';

export function handsOver(gateway: {
  readonly lowers: readonly LowerDevice[];
  readonly workers: Workers;
  readonly sas: Sas;
}): ScheduleHands {
  const { lowers, workers, sas } = gateway;
  // An order that a worker refuses is for an SA or a lower that is gone meanwhile.
  const order = (worker: number, what: Order): void => void workers.tell(worker, what).catch(() => undefined);
  const workerOf = (slot: number): number => slot % workers.count;
  return {
    packets: (sa) => sas.packets(sa),
    sent: (index) => portTotal(lowers[index]!, PortStat.SENT),
    dummies: (sa, count, length) => {
      const { slot } = sas.get(sa);
      order(workerOf(slot), { type: 'dummies', slot, count, length });
    },
    keepalive: (sa) => {
      const { slot } = sas.get(sa);
      order(workerOf(slot), { type: 'keepalive', slot });
    },
    lowerKeepalive: (lower, count) => {
      const { index } = lowers[lower]!;
      // Source ports of its own are each worker's; the common one is everybody's.
      for (let w = 0; w < (count > 1 ? workers.count : 1); w++) order(w, { type: 'lower-keepalive', index, count });
    },
  };
}
