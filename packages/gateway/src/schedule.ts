/**
 * When to send what nobody inside has sent: dummy packets (RFC 4303 2.6) at a steady rate, and NAT keepalives (RFC 3948 2.3)
 * where nothing else has gone out for a while. Decides; the workers make and send them.
 */
import type { LowerPlan, SaPlan } from './plan.ts';

/** Dummies that one order asks for at most. */
const MOST_AT_ONCE = 64;

export interface ScheduleHands {
  /** Packets that went out by an SA so far. */
  packets(sa: string): number;
  /** Frames that a lower has sent so far. */
  sent(lower: number): number;
  dummies(sa: string, count: number, length: number | 'mtu'): void;
  keepalive(sa: string): void;
  /** One per source port. */
  lowerKeepalive(lower: number, count: number): void;
}

/** What has been going on, and since when it has not. */
interface Watched {
  count: number;
  since: number;
}

export class Schedule {
  readonly #hands: ScheduleHands;
  readonly #lowers: readonly LowerPlan[];
  readonly #watched: Map<string | number, Watched> = new Map();
  /** By SA: when its last dummy was due. */
  readonly #dummies: Map<string, number> = new Map();

  constructor(hands: ScheduleHands, lowers: readonly LowerPlan[]) {
    this.#hands = hands;
    this.#lowers = lowers;
  }

  /** `sas`: those that policies protect with now. */
  tick(nowMs: number, sas: readonly SaPlan[]): void {
    for (const sa of sas) {
      this.#sendDummies(sa, nowMs);
      const { keepaliveSeconds: seconds, encap = null } = sa;
      // Without UDP around it there is no mapping to keep.
      if (seconds !== undefined && encap !== null && this.#idle(sa.name, this.#hands.packets(sa.name), seconds, nowMs))
        this.#hands.keepalive(sa.name);
    }
    for (const [i, lower] of this.#lowers.entries()) {
      if (lower.kind !== 'udp' || lower.keepaliveSeconds === undefined) continue;
      // Of several source ports one may be idle while another is not.
      const ports = Math.max(1, lower.sourcePorts);
      if (this.#idle(i, ports > 1 ? 0 : this.#hands.sent(i), lower.keepaliveSeconds, nowMs))
        this.#hands.lowerKeepalive(i, ports);
    }
    for (const name of this.#dummies.keys()) if (!sas.some((sa) => sa.name === name)) this.#dummies.delete(name);
  }

  #sendDummies({ name, dummies }: SaPlan, nowMs: number): void {
    if (dummies === undefined) return;
    const every = 1000 / dummies.perSecond;
    const last = this.#dummies.get(name) ?? nowMs;
    const due = Math.floor((nowMs - last) / every);
    // What a stalled clock has missed is not made up for.
    const count = Math.min(due, MOST_AT_ONCE);
    this.#dummies.set(name, count < due ? nowMs : last + due * every);
    if (count > 0) this.#hands.dummies(name, count, dummies.length);
  }

  /** Whether the count has stood still for so long; a keepalive begins the time anew. */
  #idle(what: string | number, count: number, seconds: number, nowMs: number): boolean {
    const seen = this.#watched.get(what);
    if (seen === undefined || seen.count !== count) {
      this.#watched.set(what, { count, since: nowMs });
      return false;
    }
    if (nowMs - seen.since < seconds * 1000) return false;
    seen.since = nowMs;
    return true;
  }
}
