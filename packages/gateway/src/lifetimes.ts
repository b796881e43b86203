/** The lifetimes of an SA, which may have begun in an earlier process under the same key. */
import type { SharedPlace } from '@espalier/esp';
import { Lifetime, LifetimeEvent } from '@espalier/replay';
import type { LifetimePlan } from './plan.ts';

/** What an SA had lived through when this process took it over, at most. */
export interface Before {
  readonly packets: number;
  readonly bytes: number;
  /** Milliseconds. */
  readonly age: number;
}

export const NEWBORN: Before = { packets: 0, bytes: 0, age: 0 };

/** An SA's lifetimes while it lives here: `lifetime` counts from 0, and its limits are what `before` has left. */
export interface Living {
  readonly lifetime: Lifetime;
  readonly before: Before;
  /** Milliseconds on the gateway's clock when `age` was 0. */
  readonly since: number;
}

/**
 * Makes an SA's lifetime in `place`, `Lifetime.byteLength()` bytes of it. Limits of packets and bytes; time is kept by whoever
 * has a clock. What is over already is told and ends at once.
 */
export function beginLifetime(plan: LifetimePlan, before: Before, place: SharedPlace): Lifetime {
  const left = {
    softPackets: (plan.softPackets ?? Infinity) - before.packets,
    hardPackets: (plan.hardPackets ?? Infinity) - before.packets,
    softBytes: (plan.softBytes ?? Infinity) - before.bytes,
    hardBytes: (plan.hardBytes ?? Infinity) - before.bytes,
  };
  const limits = Object.fromEntries(Object.entries(left).map(([name, value]) => [name, Math.max(1, value)]));
  const lifetime = Lifetime.create({ ...limits, ...place });
  if (Math.min(left.softPackets, left.softBytes) <= 0) lifetime.expire(LifetimeEvent.SOFT);
  if (Math.min(left.hardPackets, left.hardBytes) <= 0) lifetime.expire(LifetimeEvent.HARD);
  return lifetime;
}
