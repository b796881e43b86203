/** Auditable drops of all workers (RFC 4303 3.4, RFC 4301 4.4), taken out of their rings and told with names and dates. */
import { AuditRing } from '@espalier/esp';
import ipaddr from 'ipaddr.js';
import { type AuditEvent, tell } from './events.ts';
import type { AuditPlan } from './plan.ts';

export class Audit {
  readonly #rings: readonly AuditRing[];
  readonly #gateway: string;
  readonly #nameOf: (slot: number) => string | null;

  constructor(gateway: string, workers: number, plan: AuditPlan, nameOf: (slot: number) => string | null) {
    this.#gateway = gateway;
    this.#nameOf = nameOf;
    this.#rings = Array.from({ length: workers }, () => AuditRing.create(plan));
  }

  memory(worker: number): SharedArrayBuffer {
    return this.#rings[worker]!.memory;
  }

  /** Auditable drops that were not told, for they were too many. */
  get suppressed(): number {
    return this.#rings.reduce((sum, ring) => sum + ring.suppressed, 0);
  }

  /** Tells everything there is. `nowMs`: the clock that the workers were told. */
  drain(nowMs: number): void {
    const now = Date.now();
    for (const ring of this.#rings)
      for (const { reason, timeMs, slot, spi, seqLo, seqHi, source, destination, flowLabel } of ring.drain())
        tell({
          type: 'audit',
          gateway: this.#gateway,
          time: new Date(now - (nowMs - timeMs)).toISOString(),
          reason: reason as AuditEvent['reason'],
          sa: slot < 0 ? null : this.#nameOf(slot),
          spi: `0x${spi.toString(16).padStart(8, '0')}`,
          seq: seqHi < 0 ? seqLo : seqHi * 2 ** 32 + seqLo,
          source: textOf(source),
          destination: textOf(destination),
          flowLabel,
        });
  }
}

function textOf(address: Uint8Array): string | null {
  return address.length === 0 ? null : ipaddr.fromByteArray([...address]).toString();
}
