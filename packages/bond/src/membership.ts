/** Which slaves there are, what each may do, which carry the traffic, and whether HW_ESP is offered or on. Nothing here waits. */
import { Feature, type FeatureSet, XfrmError } from '@espalier/xfrm';
import { type AdSelect, aggregators, chooseAggregator } from './aggregator.ts';
import { followFeatures } from './features.ts';
import { type LinkDelays, stepLink } from './link.ts';
import {
  activeSlave,
  type BondFacts,
  type BondMode,
  canTransmit,
  eligibility,
  type JoinRefused,
  replicates,
  unfit,
  wantedReplicas,
} from './plan.ts';
import { EVERY_SA, type Slave } from './slave.ts';
import type { XmitHashPolicy } from './xmit-hash.ts';

export interface MembershipOptions {
  readonly mode: BondMode;
  readonly policy: XmitHashPolicy;
  readonly adSelect: AdSelect;
  readonly joinRefused: JoinRefused;
  readonly delays: LinkDelays;
  readonly report: (trouble: XfrmError) => void;
}

/** What membership asks of the rest of the bond. */
export interface MembershipNeeds {
  /** From now on no SA resolves. */
  readonly clear: () => void;
  /** The time of `tick`. */
  readonly now: () => number;
}

export class Membership {
  readonly slaves: Slave[] = [];
  readonly joinRefused: JoinRefused;
  mode: BondMode;
  policy: XmitHashPolicy;
  adSelect: AdSelect;
  features: FeatureSet = { hw: 0, wanted: 0, active: 0 };
  /** 802.3ad: the active aggregator. */
  aggregator: string | null = null;
  /** Active-backup: the lower that carries, -1 = none. */
  active = -1;
  /** Rises with everything that can change what should be. */
  revision = 0;
  readonly #needs: MembershipNeeds;
  readonly #delays: LinkDelays;
  readonly #report: (trouble: XfrmError) => void;
  /** Slaves that belong to the enabled bond: losing one of their abilities ends it. */
  readonly #members: Set<Slave> = new Set();

  constructor(options: MembershipOptions, needs: MembershipNeeds) {
    this.#needs = needs;
    this.mode = options.mode;
    this.policy = options.policy;
    this.adSelect = options.adSelect;
    this.joinRefused = options.joinRefused;
    this.#delays = options.delays;
    this.#report = options.report;
  }

  /** HW_ESP is on. */
  get enabled(): boolean {
    return (this.features.active & Feature.HW_ESP) !== 0;
  }

  members(): Slave[] {
    return this.slaves.filter((slave) => this.#members.has(slave));
  }

  candidates(): Slave[] {
    return this.slaves.filter((slave) => slave.lower.running && !slave.leaving);
  }

  /** Lowers for every SA, were HW_ESP on. */
  wantedIfEnabled(): number[] {
    return wantedReplicas({ ...this.facts(), enabled: true });
  }

  /** Why HW_ESP is not offered; '' when it is. */
  whyNot(): string {
    const { slaves } = this.facts();
    return eligibility(
      this.mode,
      this.policy,
      slaves.filter((s) => s.running),
    ).why;
  }

  /** Looks at every slave again and draws the conclusions that need no waiting. */
  look(): void {
    for (const slave of this.slaves) {
      slave.look();
      if (!slave.lower.running || slave.leaving) this.#members.delete(slave);
    }
    this.#lookAtLinks();
    this.#lookAtFeatures();
    const facts = this.facts();
    if (this.mode === '802.3ad') {
      const ports = facts.slaves
        .filter((s) => s.running)
        .map((s) => ({ lower: s.lower, speedMbps: s.speedMbps, up: canTransmit(s), partner: s.partner }));
      this.aggregator = chooseAggregator(this.adSelect, aggregators(ports), this.aggregator);
    }
    const next = this.mode === 'active-backup' ? activeSlave(facts.slaves, this.active) : -1;
    if (next === this.active) return;
    // Coming back here later is a new chance.
    this.slave(this.active)?.refusals.clear();
    this.active = next;
    this.#needs.clear();
  }

  #lookAtLinks(): void {
    for (const slave of this.slaves) {
      const impatient = !this.slaves.some((s) => !s.leaving && canTransmit(s.facts()));
      slave.link = stepLink(slave.link, slave.lower, this.#needs.now(), this.#delays, impatient);
    }
  }

  /** An enabled bond ends when a member loses what it takes; a slave that comes and has not got it is refused instead. */
  #lookAtFeatures(): void {
    if (!this.enabled) {
      this.features = { ...this.features, hw: this.#offered() };
      return;
    }
    for (const slave of this.candidates()) {
      if (this.#members.has(slave) || slave.refusals.size > 0) continue;
      const why = unfit(this.mode, slave.facts());
      if (why !== null) this.refuse(slave, EVERY_SA, why);
      else if (this.mode === 'active-backup') this.#members.add(slave);
    }
    const members = this.members().map((slave) => slave.facts());
    if (members.length === 0 && (this.mode === 'active-backup' || replicates(this.mode, this.policy))) return;
    const hw = eligibility(this.mode, this.policy, members).features;
    if (hw === 0) this.turnOff();
    else
      this.features = { ...this.features, hw, active: followFeatures(hw, this.features.wanted, this.features.active) };
  }

  #offered(): number {
    const running = this.facts().slaves.filter((s) => s.running);
    return eligibility(this.mode, this.policy, running).features;
  }

  /** HW_ESP goes off at once: nothing resolves any more, what was refused is forgotten. */
  turnOff(): void {
    this.revision++;
    this.#members.clear();
    for (const slave of this.slaves) slave.refusals.clear();
    this.#needs.clear();
    this.features = { hw: 0, wanted: 0, active: 0 };
    this.features = { hw: this.#offered(), wanted: 0, active: 0 };
  }

  /** HW_ESP is on: every candidate has every SA. */
  turnOn(wanted: number): void {
    this.features = { hw: this.features.hw, wanted, active: wanted };
    for (const slave of this.candidates()) this.#members.add(slave);
  }

  /** A slave has been given what it should have. */
  accept(slave: Slave): void {
    if (!slave.refusals.has(EVERY_SA) && !(this.joinsWhole() && slave.refusals.size > 0)) this.#members.add(slave);
  }

  /** A slave could not take an SA, or none at all (EVERY_SA). */
  refuse(slave: Slave, slot: number, why: string): void {
    slave.refusals.set(slot, why);
    if (slot === EVERY_SA || this.joinsWhole()) this.#members.delete(slave);
    this.#report(new XfrmError({ code: 'REFUSED', device: slave.lower.name, what: why }));
  }

  /** A slave that joins takes every SA or is kept out. */
  joinsWhole(): boolean {
    return this.mode !== 'active-backup' && this.joinRefused !== 'software';
  }

  facts(): BondFacts {
    return {
      mode: this.mode,
      policy: this.policy,
      joinRefused: this.joinRefused,
      enabled: this.enabled,
      active: this.active,
      aggregator: this.aggregator,
      slaves: this.slaves.map((slave) => slave.facts()),
    };
  }

  slave(lower: number): Slave | undefined {
    return this.slaves.find((slave) => slave.index === lower);
  }
}
