/** What a gateway tells the world: plain objects on diagnostics channels, one channel per type. Never a key. */
import { type Channel, channel } from 'node:diagnostics_channel';
import type { DropReason } from '@espalier/xfrm';

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

/** An auditable drop, rate-limited (RFC 4303 3.3.3, 3.4; RFC 4301 5.2). */
export interface AuditEvent extends Told {
  readonly type: 'audit';
  readonly reason: keyof typeof DropReason;
  /** Name of the SA; null when none was found. */
  readonly sa: string | null;
  /** Hexadecimal; 0 when the packet ended before it. */
  readonly spi: string;
  /** The whole number where it is known, else its lower half as it was on the wire. */
  readonly seq: number;
  /** Outer addresses, inner ones of a packet on its way out; null when not known. */
  readonly source: string | null;
  readonly destination: string | null;
  readonly flowLabel: number;
}

/** The state could not be saved: traffic goes on as far as what was saved before allows. Told once until it can be again. */
export interface StateEvent extends Told {
  readonly type: 'state';
  readonly error: string;
}

export type GatewayEvent = LifetimeEvent | RekeyEvent | AuditEvent | StateEvent;

/** `espalier:lifetime`, `espalier:rekey`, `espalier:audit`, `espalier:state`. */
export const EVENT_CHANNELS: Readonly<Record<GatewayEvent['type'], Channel>> = {
  lifetime: channel('espalier:lifetime'),
  rekey: channel('espalier:rekey'),
  audit: channel('espalier:audit'),
  state: channel('espalier:state'),
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
