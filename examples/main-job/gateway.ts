/** One gateway of the main job, in its own namespace: a child process that is told everything over IPC. */
import { Gateway, type GatewayPlan, openDevices } from 'espalier';

export type Command =
  | { readonly id: number; readonly type: 'start'; readonly plan: GatewayPlan; readonly workerFile: string }
  | { readonly id: number; readonly type: 'stats' | 'stop' | 'failover' }
  | { readonly id: number; readonly type: 'withdraw' | 'restore'; readonly sa: string; readonly lower: number };

let gateway: Gateway | null = null;

async function start(plan: GatewayPlan, workerFile: string): Promise<void> {
  gateway = await Gateway.start({ plan, workerFile, ...(await openDevices(plan)) });
}

/** Milliseconds until the set of usable slaves shrinks, looked at every half millisecond or so. */
async function failover(): Promise<number> {
  const count = (): number => gateway!.bond.slaves().filter((s) => s.usable).length;
  const before = count();
  const began = performance.now();
  while (count() === before && performance.now() - began < 5000) await new Promise((resolve) => setImmediate(resolve));
  return performance.timeOrigin + performance.now();
}

async function obey(command: Command): Promise<unknown> {
  switch (command.type) {
    case 'start':
      return start(command.plan, command.workerFile);
    case 'stats':
      return gateway?.stats();
    case 'failover':
      return failover();
    case 'withdraw':
      return gateway?.bond.withdraw(gateway.slotOf(command.sa), command.lower);
    case 'restore':
      return gateway?.bond.restore(gateway.slotOf(command.sa), command.lower);
    case 'stop':
      return gateway?.stop();
  }
}

process.on('message', (command: Command) => {
  obey(command).then(
    (result) => process.send?.({ id: command.id, result }),
    (error: Error) => process.send?.({ id: command.id, error: error.message }),
  );
});
process.on('disconnect', () => {
  (gateway?.stop() ?? Promise.resolve()).finally(() => process.exit(0));
});
// The parent decides when to end; Ctrl-C reaches the whole group.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);
