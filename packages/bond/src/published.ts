/** What workers see of a bond: handle cells, offload words with their limits, usable slaves. Nothing here waits for a lower. */
import { OffloadDevice, type OffloadTable } from '@espalier/xfrm';
import type { Membership } from './membership.ts';
import { transmitters } from './plan.ts';
import type { SaEntry } from './replica.ts';
import { ReplicaTable } from './replicas.ts';
import { EVERY_SA } from './slave.ts';
import { SnapshotPublisher } from './snapshot.ts';
import { writeVeto } from './veto.ts';

export interface PublishedOptions {
  readonly maxSas: number;
  readonly maxLowers: number;
  readonly workers: number;
  readonly offloads: OffloadTable;
  readonly idle: () => Promise<void>;
}

export class Published {
  readonly table: ReplicaTable;
  readonly snapshot: SnapshotPublisher;
  readonly #membership: Membership;
  readonly #entries: ReadonlyMap<number, SaEntry>;
  readonly #offloads: OffloadTable;
  readonly #idle: () => Promise<void>;

  /** `membership` and `entries` are the bond's own, and looked at whenever something is to be published. */
  constructor(membership: Membership, entries: ReadonlyMap<number, SaEntry>, options: PublishedOptions) {
    const { maxSas, maxLowers, workers, offloads, idle } = options;
    this.#membership = membership;
    this.#entries = entries;
    this.#offloads = offloads;
    this.#idle = idle;
    this.table = ReplicaTable.create(maxSas, maxLowers);
    this.snapshot = new SnapshotPublisher(workers, maxLowers, idle);
  }

  /** READY replicas become resolvable; in active-backup by the offload word alone. */
  show(entry: SaEntry): void {
    if (entry.dead) return;
    for (const [lower, replica] of entry.replicas) {
      if (replica.shown || replica.state !== 'READY') continue;
      replica.shown = true;
      if (this.#membership.mode !== 'active-backup') this.table.write(entry.sa.slot, lower, replica.handle);
    }
    this.veto(entry);
  }

  veto(entry: SaEntry | undefined): void {
    if (entry !== undefined) writeVeto(this.#offloads, entry.sa.slot, entry.replicas.values());
  }

  /** From now on no SA resolves. */
  clear(): void {
    for (const slot of this.#entries.keys()) this.#offloads.clear(slot);
  }

  /** The offload word of every SA: which device, if any, is to be asked for its handle. */
  writeWords(): void {
    for (const entry of this.#entries.values()) this.#writeWord(entry);
  }

  /** A word that named another lower has been cleared, and a grace period has passed: that lower's replica has left. */
  #writeWord(entry: SaEntry): void {
    const { slot } = entry.sa;
    const now = this.#offloads.device(slot);
    if (entry.dead || !this.#membership.enabled) {
      if (now !== OffloadDevice.NONE) this.#offloads.clear(slot);
    } else if (this.#membership.mode === 'active-backup') {
      const replica = entry.replicas.get(this.#membership.active);
      if (replica?.state === 'READY' && now !== this.#membership.active)
        this.#offloads.setDirect(slot, this.#membership.active, replica.handle);
    } else if (this.#inSoftware(entry)) {
      if (now !== OffloadDevice.SOFTWARE) this.#offloads.setSoftware(slot);
    } else if (now !== OffloadDevice.UPPER) this.#offloads.setUpper(slot);
  }

  /** Outbound, and some slave that may carry it could not take it. */
  #inSoftware(entry: SaEntry): boolean {
    if (this.#membership.joinRefused !== 'software' || entry.sa.direction === 'in') return false;
    return this.#membership.candidates().some((s) => s.refusals.has(entry.sa.slot) || s.refusals.has(EVERY_SA));
  }

  /** Lowers that may carry traffic and hold what that needs. `strict`: those that carry it now are looked at as well. */
  #usable(strict: boolean): number[] {
    const facts = this.#membership.facts();
    const able = transmitters(facts);
    if (!this.#membership.enabled || this.#membership.mode === 'active-backup') return able;
    const now = strict ? [] : this.snapshot.usable();
    return able.filter((lower) => now.includes(lower) || this.#ready(lower));
  }

  #ready(lower: number): boolean {
    const software = this.#membership.joinRefused === 'software' ? this.#membership.slave(lower)!.refusals : null;
    for (const entry of this.#entries.values()) {
      if (entry.dead || entry.withheld.has(lower) || entry.replicas.get(lower)?.shown) continue;
      if (!software?.has(entry.sa.slot) && !software?.has(EVERY_SA)) return false;
    }
    return true;
  }

  /** Posts usable if it has changed and there is room for a snapshot; whether it has changed. */
  post(strict: boolean): boolean {
    const next = this.#usable(strict);
    const now = this.snapshot.usable();
    if (next.length === now.length && next.every((lower, i) => lower === now[i])) return false;
    this.snapshot.post(next);
    return true;
  }

  async postWhenRoom(): Promise<void> {
    while (this.post(false)) {
      const now = this.snapshot.usable();
      const next = this.#usable(false);
      if (next.length === now.length && next.every((lower, i) => lower === now[i])) return;
      await this.#idle();
    }
  }
}
