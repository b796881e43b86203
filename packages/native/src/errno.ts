import { constants } from 'node:os';

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(constants.errno).map(([name, code]) => [code, name]));

/** The name of a negative result: 'EPERM' for -1. */
export function errnoName(result: number): string {
  return NAMES.get(-result) ?? `errno ${-result}`;
}
