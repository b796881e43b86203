/** One gateway of the main job, in its own namespace: a child process that is told everything over IPC. */
import { Gateway, type GatewayPlan, openDevices, type Rekey, type SaPlan } from 'espalier';
import { OVERLAP_MS } from '../stage.ts';

export type Command =
  | { readonly type: 'start'; readonly plan: GatewayPlan; readonly workerFile: string }
  | { readonly type: 'stats' | 'stop' | 'switch' | 'rekeyed' }
  | { readonly type: 'rekey'; readonly sas: readonly SaPlan[] }
  | { readonly type: 'withdraw' | 'restore'; readonly sa: string; readonly lower: number };

let gateway: Gateway | null = null;
let rekey: Rekey | null = null;

async function obey(command: Command): Promise<unknown> {
  switch (command.type) {
    case 'start': {
      const { plan, workerFile } = command;
      gateway = await Gateway.start({ plan, workerFile, ...(await openDevices(plan)) });
      return;
    }
    case 'stats':
      return gateway?.stats();
    case 'withdraw':
      return gateway?.bond.withdraw(gateway.slotOf(command.sa), command.lower);
    case 'restore':
      return gateway?.bond.restore(gateway.slotOf(command.sa), command.lower);
    case 'rekey': {
      const times = { switchAfterMs: Number.POSITIVE_INFINITY, overlapMs: OVERLAP_MS };
      rekey = (await gateway?.rekey(command.sas, times)) ?? null;
      return;
    }
    case 'switch':
      return rekey?.switchNow();
    case 'rekeyed':
      return rekey?.done;
    case 'stop':
      return gateway?.stop();
  }
}

process.on('message', ({ id, command }: { id: number; command: Command }) => {
  obey(command).then(
    (result) => process.send?.({ id, result }),
    (error: Error) => process.send?.({ id, error: error.message }),
  );
});
process.on('disconnect', () => {
  (gateway?.stop() ?? Promise.resolve()).finally(() => process.exit(0));
});
// The parent decides when to end; Ctrl-C reaches the whole group.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);
