/**
 * The rules of a bond, written down a second time and differently from plan.ts: a plain model that is told what happened
 * and says what must be. It never looks at the bond.
 */
export interface ModelSlave {
  readonly lower: number;
  running: boolean;
  carrier: boolean;
  /** Its link counts as up; false when absent. */
  up?: boolean;
  /** Until when that is left as it is although the carrier says otherwise; absent while they agree. */
  until?: number | undefined;
  hw: number;
  /** Resolves handles per lower; true when absent. */
  optedIn?: boolean;
  /** undefined = no LACP, null = no answer, else the partner's name. */
  partner: string | null | undefined;
  /** Slots it could not take; -1 = none at all. */
  readonly refused: Set<number>;
}

type Mode = 'active-backup' | 'balance-xor' | '802.3ad';

export class Model {
  mode: Mode;
  policy: string;
  select: 'stable' | 'bandwidth' | 'count';
  readonly joinRefused: 'keep-out' | 'refuse' | 'software';
  on = false;
  slaves: ModelSlave[] = [];
  /** Slot -> lowers from which it was withdrawn. */
  readonly known: Map<number, Set<number>> = new Map();
  active = -1;
  group: string | null = null;
  now = 0;
  readonly #delays: { readonly up: number; readonly down: number };

  constructor(
    mode: Mode,
    policy: string,
    select: Model['select'],
    joinRefused: Model['joinRefused'],
    delays: { readonly up: number; readonly down: number } = { up: 0, down: 0 },
  ) {
    this.#delays = delays;
    this.mode = mode;
    this.policy = policy;
    this.select = select;
    this.joinRefused = joinRefused;
  }

  get backup(): boolean {
    return this.mode === 'active-backup';
  }

  find(lower: number): ModelSlave | undefined {
    return this.slaves.find((s) => s.lower === lower);
  }

  /** A slave of which the enabled bond expects everything. */
  #counts(s: ModelSlave): boolean {
    if (!s.running || s.refused.has(-1)) return false;
    return this.backup || this.joinRefused === 'software' || s.refused.size === 0;
  }

  #fits(): boolean {
    return this.backup || this.policy === 'layer3+4';
  }

  /** Whether a slave could hold SAs for this kind of bond. */
  #can(s: ModelSlave): boolean {
    return (s.hw & 1) === 1 && (this.backup || s.optedIn !== false);
  }

  /** Whether HW_ESP may be asked for. */
  offered(): boolean {
    const up = this.slaves.filter((s) => s.running);
    return this.#fits() && up.length > 0 && up.every((s) => this.#can(s));
  }

  off(): void {
    this.on = false;
    for (const s of this.slaves) s.refused.clear();
  }

  enslave(lower: number, running: boolean, carrier: boolean, hw: number): void {
    this.slaves.push({ lower, running, carrier, hw, partner: undefined, refused: new Set() });
    this.#look();
  }

  link(lower: number, running: boolean, carrier: boolean): void {
    const s = this.find(lower);
    if (s === undefined) return;
    if (s.running && !running) s.refused.clear();
    s.running = running;
    s.carrier = carrier;
    this.#look();
  }

  tick(ms: number): void {
    this.now = ms;
    this.settle();
  }

  linkOf(s: ModelSlave): string {
    if (s.until === undefined) return s.up ? 'up' : 'down';
    return s.up ? 'fail' : 'back';
  }

  /** Carries as far as its link goes. */
  #able(s: ModelSlave): boolean {
    return s.running && s.carrier && s.up === true;
  }

  /** Carriers are believed after their delay, and at once where nobody else carries. */
  #look(): void {
    for (const s of this.slaves) {
      if (!s.running) s.up = false;
      if (!s.running || s.carrier === (s.up ?? false)) {
        s.until = undefined;
        continue;
      }
      const alone = s.carrier && !this.slaves.some((other) => this.#able(other));
      s.until ??= this.now + (s.carrier ? this.#delays.up : this.#delays.down);
      if (!alone && s.until > this.now) continue;
      s.up = s.carrier;
      s.until = undefined;
    }
  }

  hw(lower: number, hw: number): void {
    const s = this.find(lower);
    if (s === undefined || s.hw === hw) return;
    const counted = this.on && this.#counts(s);
    s.hw = hw;
    s.refused.clear();
    if (counted && (hw & 1) === 0) this.off();
  }

  /** After anything: who carries, and who cannot. */
  settle(): void {
    this.#look();
    if (this.on && !this.#fits()) this.off();
    if (this.on) for (const s of this.slaves) if (s.running && !this.#can(s) && s.refused.size === 0) s.refused.add(-1);
    if (this.backup) this.#settleActive();
    else this.active = -1;
    this.group = this.mode === '802.3ad' ? this.#bestGroup() : this.group;
  }

  /** The one that carries stays until its link is given up; then the first that is up, else the one that soonest will be. */
  #settleActive(): void {
    const now = this.find(this.active);
    if (now?.running && now.up) return;
    const running = this.slaves.filter((s) => s.running);
    const coming = running.filter((s) => s.until !== undefined && !s.up).sort((a, b) => a.until! - b.until!);
    const next = running.find((s) => this.#able(s)) ?? coming[0];
    if (next === undefined && this.active < 0) return;
    now?.refused.clear();
    this.active = next?.lower ?? -1;
  }

  groupOf(s: ModelSlave): string {
    return s.partner === undefined ? 'static' : s.partner === null ? `alone${s.lower}` : s.partner;
  }

  /** Groups with somebody up, the best first. Every lower has one speed, so bandwidth is the number of ports up. */
  groups(): { name: string; alone: boolean; up: number }[] {
    const all = new Map<string, { name: string; alone: boolean; up: number }>();
    for (const s of this.slaves) {
      if (!s.running) continue;
      const name = this.groupOf(s);
      const group = all.get(name) ?? { name, alone: s.partner === null, up: 0 };
      if (this.#able(s)) group.up++;
      all.set(name, group);
    }
    return [...all.values()]
      .filter((g) => g.up > 0)
      .map((g, i) => ({ g, i }))
      .sort((a, b) => Number(a.g.alone) - Number(b.g.alone) || b.g.up - a.g.up || a.i - b.i)
      .map(({ g }) => g);
  }

  #bestGroup(): string | null {
    const groups = this.groups();
    const best = groups[0];
    if (best === undefined) return null;
    const mine = groups.find((g) => g.name === this.group);
    if (this.select === 'stable' && mine !== undefined && (!mine.alone || best.alone)) return mine.name;
    return best.name;
  }

  /** Kept from carrying by what it could not take. */
  #out(s: ModelSlave): boolean {
    return !this.backup && this.joinRefused !== 'software' && s.refused.size > 0;
  }

  /** Slots that must be installed on a lower. */
  called(lower: number): number[] {
    const s = this.find(lower);
    if (s === undefined || !this.on || !s.running || s.refused.has(-1) || this.#out(s)) return [];
    if (this.backup && this.active !== lower) return [];
    return [...this.known.keys()]
      .filter((slot) => !this.known.get(slot)!.has(lower) && !s.refused.has(slot))
      .sort((a, b) => a - b);
  }

  /** Lowers that carry traffic. */
  usable(): number[] {
    if (this.backup) return this.active < 0 ? [] : [this.active];
    return this.slaves
      .filter((s) => this.#able(s) && !this.#out(s))
      .filter((s) => this.mode !== '802.3ad' || this.groupOf(s) === this.group)
      .map((s) => s.lower);
  }

  /** What the offload word of a known SA says: a lower, or a word. */
  word(slot: number): number | 'none' | 'upper' | 'software' {
    if (!this.on) return 'none';
    if (this.backup) return this.called(this.active).includes(slot) ? this.active : 'none';
    const software = this.joinRefused === 'software';
    return software && this.slaves.some((s) => s.running && (s.refused.has(slot) || s.refused.has(-1)))
      ? 'software'
      : 'upper';
  }
}
