/**
 * What must outlive a process whose keys do: for every key and direction one number, the last that may have been used. The
 * file names keys by a keyed hash with a salt of its own, and holds nothing else about them.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { XfrmError } from '@espalier/xfrm';
import * as v from 'valibot';
import { lock, unlock } from './lock-file.ts';
import { systemError } from './system-error.ts';

const saved = v.strictObject({
  format: v.literal(1),
  salt: v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/)),
  marks: v.record(v.string(), v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
});

export class StateFile {
  readonly #file: string;
  /** Text of its lock. */
  readonly #lock: string;
  readonly #salt: string;
  readonly #marks: Map<string, number>;

  private constructor(file: string, held: string, salt: string, marks: Map<string, number>) {
    this.#file = file;
    this.#lock = held;
    this.#salt = salt;
    this.#marks = marks;
  }

  /**
   * Reads the file, or begins one. It is this process's alone until `close`. Throws XfrmError CONFIG when there is something
   * else in it, BUSY when another process that lives has it, SYSTEM. Going on without it would use numbers twice.
   */
  static open(file: string): StateFile {
    const held = lock(lockOf(file));
    try {
      const text = readOrNull(file);
      if (text === null) return new StateFile(file, held, randomBytes(16).toString('hex'), new Map());
      const parsed = v.safeParse(saved, parseOrNull(text));
      if (!parsed.success)
        throw new XfrmError({ code: 'CONFIG', file, path: '', expected: 'the state of a gateway, or no file' });
      return new StateFile(file, held, parsed.output.salt, new Map(Object.entries(parsed.output.marks)));
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

  /** Resolves when what was set before the call is durable. One call at a time. Rejects with XfrmError SYSTEM: the old file stands. */
  async save(): Promise<void> {
    const text = JSON.stringify({ format: 1, salt: this.#salt, marks: Object.fromEntries(this.#marks) });
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
