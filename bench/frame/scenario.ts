/** What a scenario file exports by default: one idea, its contenders, the proof that they agree, and the work itself. */
export interface Scenario {
  /** The file's name without `.ts`. */
  readonly name: string;
  /** One sentence: what a packet goes through here. */
  readonly about: string;
  /** Every one gets a process of its own, each round. */
  readonly variants: readonly Variant[];
  /** The variant that this one is quoted against, or null. */
  anchor?(variant: Variant): Variant | null;
  /** Throws where the contenders disagree; runs before anything is timed. */
  prove(): void | Promise<void>;
  /** Sets one variant up. Called once in a process, so that call sites see one kind of object. */
  run(variant: Variant): Trial | Race | Promise<Trial | Race>;
  /** What CI holds the code to, on any machine. Trials only. */
  readonly limits?: readonly Limit[];
  /** One lap of a thread of a race, on that thread: `setup` once, what it returns for every lap. */
  worker?(data: unknown, index: number): () => void;
}

/** Values that tell one variant from the others. */
export type Variant = Readonly<Record<string, string | number>>;

/** `variant` takes at most `most` times what `to` takes in the same process; `goal` says what for. */
export interface Limit {
  readonly variant: Variant;
  readonly to: Variant;
  readonly most: number;
  readonly goal: string;
}

/** Work on this thread. `step` is timed, `prepare` before it is not. */
export interface Trial {
  /** Packets in one step; enough of them that a step takes microseconds. */
  readonly packets: number;
  prepare?(): void;
  step(): void;
  close?(): void;
}

/** Work on several threads at once. */
export interface Race {
  /** Packets in one lap of all threads. */
  readonly packets: number;
  /** Resolves to the nanoseconds of all threads together. */
  lap(): Promise<number>;
  close?(): void;
}

/** Every combination: `product({ a: [1, 2], b: ['x'] })` is `[{ a: 1, b: 'x' }, { a: 2, b: 'x' }]`. */
export function product(axes: Readonly<Record<string, readonly (string | number)[]>>): Variant[] {
  let all: Variant[] = [{}];
  for (const [axis, values] of Object.entries(axes))
    all = all.flatMap((variant) => values.map((value) => ({ ...variant, [axis]: value })));
  return all;
}

/** 'node, aes128gcm16, 64'. */
export function label(variant: Variant): string {
  return Object.values(variant).join(', ') || '-';
}
