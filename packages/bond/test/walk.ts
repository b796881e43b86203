import { Feature, OffloadDevice } from '@espalier/xfrm';
import type { BondMode } from '../src/index.ts';
import { ReplicaTable } from '../src/index.ts';
import { Dice, Field, saOf } from './field.ts';
import { Model } from './oracle.ts';

const { HW_ESP } = Feature;
const LOWERS = 4;
const SLOTS = 5;
/** Milliseconds. */
const UP_DELAY = 200;
const DOWN_DELAY = 100;
const MODES: readonly BondMode[] = ['802.3ad', 'balance-xor', 'active-backup'];
const WORDS = new Map<number, string>([
  [OffloadDevice.NONE, 'none'],
  [OffloadDevice.UPPER, 'upper'],
  [OffloadDevice.SOFTWARE, 'software'],
]);

export interface WalkReport {
  steps: number;
  storms: number;
  lives: number;
  frames: number;
  dropped: number;
  refusals: number;
  lateAnswers: number;
  /** Steps after which some link waited for its delay. */
  waiting: number;
}

type Outcome = 'done' | 'failed';

/** Random lives of a bond under traffic: after every step the lowers hold exactly what the oracle calls for. */
export class Walk {
  readonly report: WalkReport = {
    steps: 0,
    storms: 0,
    lives: 0,
    frames: 0,
    dropped: 0,
    refusals: 0,
    lateAnswers: 0,
    waiting: 0,
  };
  readonly #dice: Dice;
  readonly #field: Field = new Field({ links: LOWERS, workers: 2 });
  #model: Model = new Model('802.3ad', 'layer3+4', 'stable', 'keep-out');
  #table: ReplicaTable;
  #handles: Map<number, number> = new Map();
  #now = 0;
  #history: string[] = [];

  constructor(seed: number) {
    this.#dice = new Dice(seed);
    this.#table = ReplicaTable.attach(this.#field.bond.ticket().replicas);
    for (const nic of this.#field.nics) nic.between = () => this.#traffic(2);
    this.#field.whileIdle = () => {
      this.#traffic(1);
      if (this.#dice.below(3) === 0) this.#field.unpin(1);
      if (this.#dice.below(2) === 0) this.#field.reap();
    };
  }

  async run(steps: number): Promise<WalkReport> {
    const end = this.report.steps + steps;
    while (this.report.steps < end) await this.#life(Math.min(end, this.report.steps + 200));
    this.report.frames = this.#field.frames;
    this.report.dropped = this.#field.fates.reduce((sum, n, fate) => sum + (fate === 0 ? 0 : n), 0);
    return this.report;
  }

  async #life(until: number): Promise<void> {
    const dice = this.#dice;
    this.report.lives++;
    const mode = MODES[dice.below(3)]!;
    const select = dice.one(['stable', 'bandwidth', 'count'] as const);
    const joinRefused = dice.one(['keep-out', 'keep-out', 'refuse', 'software'] as const);
    const [up, down] = [dice.one([0, UP_DELAY]), dice.one([0, DOWN_DELAY])];
    this.#model = new Model(mode, 'layer3+4', select, joinRefused, { up, down });
    this.#handles = new Map();
    this.#now = 0;
    this.#history = [`${mode} ${select} ${joinRefused} updelay ${up} downdelay ${down}`];
    for (const { device } of this.#field.nics) {
      device.setRunning(true);
      device.setCarrier(true);
      device.setHwFeatures(7);
    }
    this.#field.renew({ mode, adSelect: select, joinRefused, upDelay: up, downDelay: down });
    this.#table = ReplicaTable.attach(this.#field.bond.ticket().replicas);
    while (this.report.steps < until) {
      // Most of life is enabled: what is off is soon mended.
      if (!this.#model.on && dice.below(2) === 0) await this.#mend();
      if (dice.below(20) === 0) await this.#storm();
      else await this.#step();
      this.report.steps++;
      this.#traffic(3);
      this.#check();
      if (dice.below(3) === 0) this.#field.pin(1, dice.below(SLOTS), dice.below(LOWERS));
    }
    await this.#end();
  }

  async #mend(): Promise<void> {
    const { bond, nics } = this.#field;
    for (const nic of nics) {
      nic.device.setHwFeatures(7);
      this.#model.hw(nic.device.index, 7);
    }
    await bond.setXmitHashPolicy('layer3+4');
    this.#model.policy = 'layer3+4';
    for (let i = 0; i < 3; i++) await this.#enslave(this.#dice.below(LOWERS));
    await this.#enable();
    for (let i = 0; i < 3; i++) await this.#add(this.#dice.below(SLOTS));
    await bond.settled();
    this.#model.settle();
  }

  /** A new life needs everything of the old one gone: handles, features, and what lingers. */
  async #end(): Promise<void> {
    const { bond } = this.#field;
    this.#field.unpin(1);
    await bond.close();
    for (let i = 0; i < 10 && bond.lingering > 0; i++) await this.#tick(10);
    const features = this.#field.nics.map(({ device }) => device.features.active);
    if (this.#field.installed !== 0 || bond.lingering !== 0)
      this.#fail(`after close ${this.#field.installed} handles are installed, ${bond.lingering} linger`);
    this.#model.off();
    // A slave that is down keeps its bits until it is asked again.
    if (features.some((bits, i) => bits !== 0 && this.#field.nics[i]!.device.running && this.#model.find(i)))
      this.#fail(`after close features are ${features}`);
    for (const { device } of this.#field.nics) await device.setFeatures(0);
  }

  /** One event, waited for; sometimes with a refusal on its way. */
  async #step(): Promise<void> {
    const dice = this.#dice;
    const { nics } = this.#field;
    const faulty = dice.below(2) === 0 ? nics[dice.below(LOWERS)]! : null;
    if (faulty !== null) {
      const kind = dice.below(4);
      if (kind === 0) faulty.failFeatures = 1;
      else if (kind === 1) faulty.failFree = 1;
      else faulty.faults.push(...Array.from({ length: dice.below(3) }, () => undefined), 'refuse');
    }
    await this.#act(dice.below(26), faulty !== null);
    await this.#field.bond.settled();
    for (const nic of nics) {
      nic.faults.length = 0;
      nic.failFeatures = 0;
      nic.failFree = 0;
    }
    await this.#drainLingering();
  }

  async #act(kind: number, faulty: boolean): Promise<void> {
    const dice = this.#dice;
    const { bond, nics } = this.#field;
    const model = this.#model;
    const lower = dice.below(LOWERS);
    const slot = dice.below(SLOTS);
    const { device } = nics[lower]!;
    this.#history.push(`kind ${kind} lower ${lower} slot ${slot}${faulty ? ' faulty' : ''}`);
    if (kind < 4) await this.#enslave(lower);
    else if (kind === 4) {
      const outcome = await outcomeOf(bond.release(device));
      if ((outcome === 'done') !== (model.find(lower) !== undefined)) this.#fail(`release ended in ${outcome}`);
      model.slaves = model.slaves.filter((s) => s.lower !== lower);
      for (const withdrawn of model.known.values()) withdrawn.delete(lower);
      this.#learn();
    } else if (kind < 7) this.#link(lower, device.running, dice.below(3) > 0);
    else if (kind < 9) this.#link(lower, dice.below(4) > 0, device.carrier);
    else if (kind < 12) await this.#enable();
    else if (kind === 12) {
      await bond.setFeatures(0);
      model.off();
    } else if (kind < 17) await this.#add(slot);
    else if (kind === 17) await this.#remove(slot);
    else if (kind === 18) {
      // A rekey: a new SA in another slot, then the old one goes.
      await this.#add((slot + 1) % SLOTS);
      await this.#remove(slot);
    } else if (kind === 19) {
      const policy = dice.below(4) === 0 ? 'layer2' : 'layer3+4';
      await bond.setXmitHashPolicy(policy);
      model.policy = policy;
    } else if (kind === 20) {
      const mode = MODES[dice.below(3)]!;
      await bond.setMode(mode);
      if ((mode === 'active-backup') !== model.backup) model.off();
      model.mode = mode;
    } else if (kind === 21) {
      const hw = dice.one([0, 7, 7, 7, 7, 5]);
      device.setHwFeatures(hw);
      model.hw(lower, hw);
    } else if (kind === 22 && model.find(lower)) {
      const partner = dice.one([undefined, null, 'p', 'q', 'q']);
      bond.setPartner(device, partner == null ? partner : { system: partner, key: 1 });
      model.find(lower)!.partner = partner;
    } else if (kind === 23) {
      if (dice.below(2) === 0) {
        model.select = dice.one(['stable', 'bandwidth', 'count'] as const);
        bond.setAdSelect(model.select);
      } else await this.#withdraw(slot, lower);
    } else if (kind > 23) await this.#tick(dice.below(DOWN_DELAY));
    await bond.settled();
    model.settle();
    this.#learn();
    model.settle();
  }

  async #enslave(lower: number): Promise<void> {
    const { device } = this.#field.nics[lower]!;
    const model = this.#model;
    const outcome = await outcomeOf(this.#field.bond.enslave(device));
    if (model.find(lower) !== undefined) {
      if (outcome === 'done') this.#fail('it was enslaved twice');
      return;
    }
    model.enslave(lower, device.running, device.carrier, device.features.hw);
    model.settle();
    this.#learn();
    const refused = model.find(lower)!.refused.size > 0;
    const mayRefuse = model.joinRefused === 'refuse' && !model.backup;
    if ((outcome === 'failed') !== (refused && mayRefuse)) this.#fail(`enslave ended in ${outcome}`);
    if (outcome === 'failed') model.slaves.pop();
  }

  #link(lower: number, running: boolean, carrier: boolean): void {
    const { device } = this.#field.nics[lower]!;
    const model = this.#model;
    for (const set of [() => device.setRunning(running), () => device.setCarrier(carrier)]) {
      set();
      model.link(lower, device.running, device.carrier);
      // Who carries changes at once, and a new choice forgets what was refused before.
      if (model.backup) model.settle();
    }
  }

  async #enable(): Promise<void> {
    const model = this.#model;
    const { on } = model;
    const may = on || model.offered();
    const outcome = await outcomeOf(this.#field.bond.setFeatures(HW_ESP));
    const refused = this.#takeRefusals().length > 0;
    if ((outcome === 'done') !== (may && !refused)) this.#fail(`HW_ESP ended in ${outcome}`);
    if (outcome === 'done') model.on = true;
  }

  async #add(slot: number): Promise<void> {
    const model = this.#model;
    const direction = slot % 2 === 0 ? 'out' : 'in';
    const adding = this.#field.bond.stateAdd(saOf(slot, { direction }));
    const handle = await adding.then(
      (h) => h,
      () => 0,
    );
    const refused = this.#takeRefusals().length > 0;
    const may = model.on && !model.known.has(slot);
    if (handle > 0 !== (may && !refused)) this.#fail(`an add of slot ${slot} ended in ${handle}`);
    if (handle === 0) return;
    model.known.set(slot, new Set());
    this.#handles.set(slot, handle);
  }

  async #remove(slot: number): Promise<void> {
    const handle = this.#handles.get(slot);
    if (handle === undefined) return;
    const { bond } = this.#field;
    bond.stateDelete(handle);
    this.#traffic(2);
    const freed = bond.stateFree(handle);
    this.#forget(slot);
    await freed;
  }

  #forget(slot: number): void {
    this.#handles.delete(slot);
    this.#model.known.delete(slot);
    for (const s of this.#model.slaves) s.refused.delete(slot);
  }

  async #withdraw(slot: number, lower: number): Promise<void> {
    const { bond } = this.#field;
    const withdrawn = this.#model.known.get(slot);
    if (withdrawn?.has(lower)) {
      await bond.restore(slot, lower);
      withdrawn.delete(lower);
    } else if (this.#model.called(lower).includes(slot)) {
      await bond.withdraw(slot, lower);
      withdrawn!.add(lower);
    }
  }

  /** What lowers refused outside of a transaction stays refused. */
  #learn(): void {
    for (const [lower, slot] of this.#takeRefusals()) {
      const s = this.#model.find(lower);
      if (s?.running && this.#model.on) s.refused.add(slot);
    }
  }

  #takeRefusals(): [number, number][] {
    const all: [number, number][] = [];
    for (const nic of this.#field.nics) for (const slot of nic.refused.splice(0)) all.push([nic.device.index, slot]);
    this.report.refusals += all.length;
    return all;
  }

  /** Several events at once, over adds that are slow, answer after they were given up, or never while it lasts. */
  async #storm(): Promise<void> {
    const dice = this.#dice;
    const field = this.#field;
    const { bond, nics } = field;
    const model = this.#model;
    this.report.storms++;
    this.#history.push('storm');
    for (const nic of nics)
      for (let n = dice.below(3); n > 0; n--) nic.faults.push(dice.below(2) === 0 ? field.gate() : undefined);
    const waiting: Promise<unknown>[] = [];
    const dying: number[] = [];
    for (let n = 2 + dice.below(4); n > 0; n--) {
      const lower = dice.below(LOWERS);
      const slot = dice.below(SLOTS);
      const { device } = nics[lower]!;
      const kind = dice.below(8);
      this.#history.push(`  storm kind ${kind} lower ${lower} slot ${slot}`);
      if (kind < 2) this.#link(lower, device.running, !device.carrier);
      else if (kind < 4) this.#link(lower, !device.running, device.carrier);
      else if (kind === 4) {
        const known = this.#handles.get(slot);
        if (known !== undefined && !dying.includes(slot)) {
          bond.stateDelete(known);
          waiting.push(bond.stateFree(known));
          dying.push(slot);
        }
      } else if (kind < 7) {
        const abort = dice.below(3) === 0 ? new AbortController() : null;
        const adding = bond.stateAdd(saOf(slot, { direction: slot % 2 === 0 ? 'out' : 'in' }), abort?.signal);
        waiting.push(
          adding.then(
            (handle) => this.#handles.set(slot, handle),
            () => undefined,
          ),
        );
        if (abort !== null) waiting.push(turns(dice.below(20)).then(() => abort.abort()));
      } else if (model.find(lower) === undefined) {
        waiting.push(
          bond.enslave(device).then(
            () => model.find(lower) ?? model.enslave(lower, device.running, device.carrier, device.features.hw),
            () => undefined,
          ),
        );
      }
      if (dice.below(2) === 0) await turns(dice.below(12));
      this.#traffic(2);
    }
    // Some adds are given up before they are answered: those that still wait at a gate when all else has come to rest.
    if (dice.below(3) === 0) {
      await turns(300);
      await this.#tick(3000);
    }
    await turns(10);
    this.report.lateAnswers += field.gates;
    while (field.gates > 0) {
      field.open(dice.below(field.gates));
      await turns(dice.below(8));
      this.#traffic(1);
      // An add that is asked for meanwhile may wait at a gate of its own.
    }
    for (const nic of nics) nic.faults.length = 0;
    await Promise.all(waiting);
    // Who came when is the bond's to say: beyond all delays it makes no difference.
    await this.#tick(UP_DELAY + DOWN_DELAY);
    for (let i = 0; i < 4; i++) {
      await bond.settled();
      await turns(20);
    }
    await this.#drainLingering();
    this.#takeRefusals();
    // A slot that died and was added again in one storm begins anew under its last handle.
    for (const slot of dying) {
      const again = this.#alive(slot) ? this.#handles.get(slot)! : 0;
      this.#forget(slot);
      if (again !== 0) this.#handles.set(slot, again);
    }
    for (const slot of this.#handles.keys()) if (!model.known.has(slot)) model.known.set(slot, new Set());
    this.#adoptChoice();
    model.settle();
  }

  /** Whether the bond still answers for a slot. */
  #alive(slot: number): boolean {
    try {
      this.#field.bond.updateStats(slot + 1, { packets: 0, bytes: 0, icvFailures: 0 });
      return true;
    } catch {
      return false;
    }
  }

  /** In a storm the order of events is the bond's; its choice among equals stands if it is a right one. */
  #adoptChoice(): void {
    const model = this.#model;
    const { bond } = this.#field;
    const usable = bond.slaves().filter((s) => s.usable);
    const chosen = model.find(usable[0]?.index ?? -1);
    for (const s of model.slaves) if (model.backup && s.lower !== model.active) s.refused.clear();
    if (chosen === undefined) return;
    if (model.backup && chosen.running && chosen.up) model.active = chosen.lower;
    else if (model.mode === '802.3ad' && model.select === 'stable') {
      const group = model.groupOf(chosen);
      if (model.groups().some((g) => g.name === group)) model.group = group;
    }
  }

  async #tick(ms: number): Promise<void> {
    this.#now += ms;
    this.#field.bond.tick(this.#now);
    this.#model.tick(this.#now);
    await turns(6);
  }

  async #drainLingering(): Promise<void> {
    const { bond, nics } = this.#field;
    if (bond.lingering === 0) return;
    // Room on a lower gives it another chance with what it refused, unless it refused everything.
    const chances = nics.filter((nic) => nic.dead.size > 0).map((nic) => this.#model.find(nic.device.index)?.refused);
    for (let i = 0; i < 6 && bond.lingering > 0; i++) {
      this.#field.reap();
      await this.#tick(1);
      await bond.settled();
    }
    for (const refused of chances) if (refused !== undefined && !refused.has(-1)) refused.clear();
    if (bond.lingering > 0) this.#fail(`${bond.lingering} handles linger`);
  }

  #traffic(packets: number): void {
    const dice = this.#dice;
    const slots = Array.from({ length: packets }, () => dice.below(SLOTS));
    this.#field.send(dice.below(2), slots, dice.below(2) === 0);
  }

  #check(): void {
    const field = this.#field;
    const { bond } = field;
    const model = this.#model;
    if (((bond.features.active & HW_ESP) !== 0) !== model.on) this.#fail(`HW_ESP is ${bond.features.active}`);
    for (const nic of field.nics) {
      const lower = nic.device.index;
      const want = model.called(lower);
      const have = nic.slots();
      if (have.join() !== want.join()) this.#fail(`lower ${lower} holds [${have}], the rules call for [${want}]`);
      if (nic.dead.size > 0 || nic.device.nic!.installed !== want.length)
        this.#fail(`lower ${lower} has ${nic.device.nic!.installed} places taken for ${want.length} SAs`);
      for (let slot = 0; slot < SLOTS; slot++) {
        const cell = this.#table.read(slot, lower);
        const right = !model.backup && want.includes(slot) ? slot : -1;
        if ((nic.live.get(cell) ?? -1) !== right) this.#fail(`cell of slot ${slot} on lower ${lower} is ${cell}`);
      }
    }
    const links = bond.slaves().map((s) => s.link);
    if (links.join() !== model.slaves.map((s) => model.linkOf(s)).join()) this.#fail(`links are ${links}`);
    if (links.some((link) => link === 'fail' || link === 'back')) this.report.waiting++;
    const usable = bond
      .slaves()
      .filter((s) => s.usable)
      .map((s) => s.index);
    if (usable.join() !== model.usable().join())
      this.#fail(`usable is [${usable}], the rules call for [${model.usable()}]`);
    for (let slot = 0; slot < SLOTS; slot++) {
      const device = field.offloads.device(slot);
      const word = WORDS.get(device) ?? device;
      const right = model.known.has(slot) ? this.#wordOf(slot) : 'none';
      if (word !== right) this.#fail(`the word of slot ${slot} is ${word}, the rules call for ${right}`);
    }
    const { plaintext, homeless, pulled, violations } = field;
    if (plaintext + homeless + pulled + violations > 0)
      this.#fail(`plaintext ${plaintext}, homeless ${homeless}, pulled ${pulled}, violations ${violations}`);
  }

  #wordOf(slot: number): number | string {
    const word = this.#model.word(slot);
    // Inbound SAs are opened in software where they are missing; nothing has to be decided beforehand.
    return word === 'software' && slot % 2 === 1 ? 'upper' : word;
  }

  #fail(what: string): never {
    const { bond, troubles } = this.#field;
    const model = { ...this.#model, slaves: this.#model.slaves.map((s) => ({ ...s, refused: [...s.refused] })) };
    const lines = [
      `step ${this.report.steps}: ${what}`,
      this.#history[0],
      ...this.#history.slice(1).slice(-12),
      `bond ${bond.mode} ${bond.activeAggregator} ${JSON.stringify(bond.slaves())}`,
      `model ${JSON.stringify(model)}`,
      ...troubles.slice(-5).map(String),
    ];
    throw new Error(lines.join('\n'));
  }
}

function outcomeOf(promise: Promise<unknown>): Promise<Outcome> {
  return promise.then(
    () => 'done',
    () => 'failed',
  );
}

async function turns(n: number): Promise<void> {
  for (let i = 0; i < n; i++) await Promise.resolve();
}
