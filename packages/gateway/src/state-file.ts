/**
 * What must outlive a process whose keys do: for every key and direction the last number that may have been used, and how
 * much of its lifetimes. The file names keys by a keyed hash with a salt of its own, and holds nothing else about them.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { XfrmError } from '@espalier/xfrm';
import * as v from 'valibot';
import { lock, unlock } from './lock-file.ts';
import { systemError } from './system-error.ts';

/** What an SA may have lived through. */
export interface Life {
  /** Inner packets, and bytes of them. */
  readonly packets: number;
  readonly bytes: number;
  /** Milliseconds since its key came into use, at `time`; of the time that has passed since then nobody knows more. */
  readonly age: number;
  /** Milliseconds since 1970. */
  readonly time: number;
}

const whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const salt = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/));
const marks = v.record(v.string(), whole);
const lives = v.record(v.string(), v.strictObject({ packets: whole, bytes: whole, age: whole, time: whole }));
const saved = v.variant('format', [
  // Before there were lifetimes in it.
  v.strictObject({ format: v.literal(1), salt, marks }),
  v.strictObject({ format: v.literal(2), salt, marks, lives }),
]);

export class StateFile {
  readonly #file: string;
  /** Text of its lock. */
  readonly #lock: string;
  readonly #salt: string;
  readonly #marks: Map<string, number>;
  readonly #lives: Map<string, Life>;

  private constructor(
    file: string,
    held: string,
    salt: string,
    marks: Readonly<Record<string, number>>,
    lives: Readonly<Record<string, Life>>,
  ) {
    this.#file = file;
    this.#lock = held;
    this.#salt = salt;
    this.#marks = new Map(Object.entries(marks));
    this.#lives = new Map(Object.entries(lives));
  }

  /**
   * Reads the file, or begins one. It is this process's alone until `close`. Throws XfrmError CONFIG when there is something
   * else in it, BUSY when another process that lives has it, SYSTEM. Going on without it would use numbers twice.
   */
  static open(file: string): StateFile {
    const held = lock(lockOf(file));
    try {
      const text = readOrNull(file);
      if (text === null) return new StateFile(file, held, randomBytes(16).toString('hex'), {}, {});
      const parsed = v.safeParse(saved, parseOrNull(text));
      if (!parsed.success)
        throw new XfrmError({ code: 'CONFIG', file, path: '', expected: 'the state of a gateway, or no file' });
      const { output } = parsed;
      return new StateFile(file, held, output.salt, output.marks, output.format === 1 ? {} : output.lives);
    } catch (error) {
      unlock(lockOf(file), held);
      throw error;
    }
  }

  /** The name of a key in this file. A key is one whatever its SA is called: its numbers are what must not be used twice. */
  nameOf(direction: 'in' | 'out', key: Uint8Array): string {
    return createHmac('sha256', Buffer.from(this.#salt, 'hex'))
      .update(direction)
      .update(key)
      .digest('hex')
      .slice(0, 32);
  }

  /** Last number that may have been used under a key; 0 = none. */
  markOf(name: string): number {
    return this.#marks.get(name) ?? 0;
  }

  /** To be saved; higher or lower than before. */
  set(name: string, mark: number): void {
    this.#marks.set(name, mark);
  }

  /** What the SA of a key may have lived through when that was saved; null = there was none. */
  lifeOf(name: string): Life | null {
    return this.#lives.get(name) ?? null;
  }

  /** To be saved; in the place of what was there. */
  setLife(name: string, life: Life): void {
    this.#lives.set(name, life);
  }

  /** Resolves when what was set before the call is durable. One call at a time. Rejects with XfrmError SYSTEM: the old file stands. */
  async save(): Promise<void> {
    const [marks, lives] = [Object.fromEntries(this.#marks), Object.fromEntries(this.#lives)];
    const text = JSON.stringify({ format: 2, salt: this.#salt, marks, lives });
    const next = `${this.#file}.next`;
    try {
      await durably(next, text);
      await rename(next, this.#file);
      const folder = await open(dirname(this.#file), 'r');
      await folder.sync().finally(() => folder.close());
    } catch (error) {
      throw systemError(error, `cannot save the state in ${this.#file}`);
    }
  }

  close(): void {
    unlock(lockOf(this.#file), this.#lock);
  }
}

async function durably(file: string, text: string): Promise<void> {
  const handle = await open(file, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

function readOrNull(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw systemError(error, `cannot read the state in ${file}`);
  }
}

function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const lockOf = (file: string): string => `${file}.pid`;
