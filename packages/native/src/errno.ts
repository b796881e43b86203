import { constants } from 'node:os';

/** By number; of two names for one number (EAGAIN, EWOULDBLOCK) the first. */
const NAMES: Map<number, string> = new Map();
for (const [name, code] of Object.entries(constants.errno)) if (!NAMES.has(code)) NAMES.set(code, name);

/** The name of a negative result: 'EPERM' for -1. */
export function errnoName(result: number): string {
  return NAMES.get(-result) ?? `errno ${-result}`;
}
