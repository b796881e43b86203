import { parseArgs } from 'node:util';

export interface Options {
  readonly list: boolean;
  /** Prove everything and run every variant once; measure nothing. */
  readonly smoke: boolean;
  readonly rounds: number;
  readonly milliseconds: number;
  readonly filters: readonly string[];
  /** File for the raw rounds. */
  readonly out: string | null;
  readonly rest: readonly string[];
}

/** A command line that makes no sense; its message is the usage. */
export class UsageError extends Error {}

const USAGE = `usage: pnpm bench [--filter TEXT]... [--rounds N] [--ms N] [--out FILE] [--smoke] [--list]
       pnpm bench compare GIT-REF [--filter TEXT]... [--rounds N] [--ms N]`;

export function readOptions(args: readonly string[]): Options {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        filter: { type: 'string', multiple: true, default: [] },
        rounds: { type: 'string', default: '5' },
        ms: { type: 'string', default: '200' },
        out: { type: 'string' },
        smoke: { type: 'boolean', default: false },
        list: { type: 'boolean', default: false },
      },
    });
    return {
      list: values.list,
      smoke: values.smoke,
      rounds: positive('--rounds', values.rounds),
      milliseconds: positive('--ms', values.ms),
      filters: values.filter,
      out: values.out ?? null,
      rest: positionals,
    };
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n${USAGE}`);
  }
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name} wants a positive integer, got "${text}"`);
  return value;
}
