/** What a gateway tells the world: plain objects on diagnostics channels, one channel per type. Never a key. */
import { type Channel, channel } from 'node:diagnostics_channel';

interface Told {
  /** Name of the gateway's bond. */
  readonly gateway: string;
  /** ISO 8601. */
  readonly time: string;
}

/** `soft` asks for a rekey, `hard` has ended the SA; each is told once. */
export interface LifetimeEvent extends Told {
  readonly type: 'lifetime';
  readonly sa: string;
  readonly limit: 'soft' | 'hard';
}

/** `installed`: the new SAs are in; `switched`: they carry what goes out; `done`: the old ones are gone. */
export interface RekeyEvent extends Told {
  readonly type: 'rekey';
  readonly phase: 'installed' | 'switched' | 'done' | 'failed';
  /** Names of the old SAs, and of those in their place. */
  readonly from: readonly string[];
  readonly to: readonly string[];
  /** Why it failed. */
  readonly error?: string;
}

export type GatewayEvent = LifetimeEvent | RekeyEvent;

/** `espalier:lifetime`, `espalier:rekey`. */
export const EVENT_CHANNELS: Readonly<Record<GatewayEvent['type'], Channel>> = {
  lifetime: channel('espalier:lifetime'),
  rekey: channel('espalier:rekey'),
};

export function tell(event: GatewayEvent): void {
  EVENT_CHANNELS[event.type].publish(event);
}

/** Calls `listener` with every event of every gateway in this process; returns what ends that. */
export function onEvents(listener: (event: GatewayEvent) => void): () => void {
  const each = (event: unknown): void => listener(event as GatewayEvent);
  for (const one of Object.values(EVENT_CHANNELS)) one.subscribe(each);
  return () => {
    for (const one of Object.values(EVENT_CHANNELS)) one.unsubscribe(each);
  };
}
