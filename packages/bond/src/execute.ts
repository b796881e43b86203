/** Runs steps. A transaction that is refused half-way is undone in reverse; what must only go forward goes forward. */
import type { Step } from './plan.ts';

/** Who does a step. A step that cannot be done rejects, and has done nothing then. */
export interface Hands {
  features(lower: number, wanted: number): Promise<void>;
  /** ABSENT to READY, not resolvable yet. */
  add(slot: number, lower: number): Promise<void>;
  /** READY to DRAINING: nothing resolves it any more. */
  hide(slot: number, lower: number): void;
  /** Every burst that is under way now ends. */
  grace(): Promise<void>;
  /** To DELETED: no new use. */
  delete(slot: number, lower: number): void;
  /** Everything posted on the lower until now has left it. */
  drain(lower: number): Promise<void>;
  /** To FREED. */
  free(slot: number, lower: number): Promise<void>;
}

/** A transaction that was refused and undone. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly step: Step;
  /** What went wrong while undoing. */
  readonly failures: readonly string[];

  constructor(step: Step, failures: readonly string[], cause: unknown) {
    super(messageOf(cause), { cause });
    this.step = step;
    this.failures = failures;
  }
}

/** What takes a step back. Nothing that was added in a transaction was resolvable, so no grace is due. */
export function undoOf(step: Step): readonly Step[] {
  switch (step.op) {
    case 'add':
      return [
        { op: 'delete', slot: step.slot, lower: step.lower },
        { op: 'free', slot: step.slot, lower: step.lower },
      ];
    case 'features':
      return [{ op: 'features', lower: step.lower, wanted: step.before, before: step.wanted }];
    default:
      return [];
  }
}

/** All steps or none: throws Refusal when one is refused, after undoing those before it in reverse. */
export async function execute(steps: readonly Step[], hands: Hands): Promise<void> {
  for (let i = 0; i < steps.length; i++) {
    try {
      await perform(steps[i]!, hands);
    } catch (cause) {
      const back = steps.slice(0, i).reverse().flatMap(undoOf);
      throw new Refusal(steps[i]!, await carryOut(back, hands), cause);
    }
  }
}

/** Every step, whatever becomes of the others; what went wrong, in words. */
export async function carryOut(steps: readonly Step[], hands: Hands): Promise<string[]> {
  const failures: string[] = [];
  for (const step of steps) {
    try {
      // Most steps are done at once, and there may be thousands.
      const done = perform(step, hands);
      if (done !== undefined) await done;
    } catch (error) {
      failures.push(`${describe(step)}: ${messageOf(error)}`);
    }
  }
  return failures;
}

function perform(step: Step, hands: Hands): Promise<void> | void {
  switch (step.op) {
    case 'features':
      return hands.features(step.lower, step.wanted);
    case 'add':
      return hands.add(step.slot, step.lower);
    case 'hide':
      return hands.hide(step.slot, step.lower);
    case 'grace':
      return hands.grace();
    case 'delete':
      return hands.delete(step.slot, step.lower);
    case 'drain':
      return hands.drain(step.lower);
    case 'free':
      return hands.free(step.slot, step.lower);
  }
}

function describe(step: Step): string {
  if (step.op === 'grace') return 'grace';
  return 'slot' in step
    ? `${step.op} of slot ${step.slot} on lower ${step.lower}`
    : `${step.op} on lower ${step.lower}`;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
