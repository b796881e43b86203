import { afterAll } from 'vitest';
import { Violation } from '../../../scripts/explorer.ts';

const table: string[] = [];

/** A line of the table that is printed at the end. */
export function line(what: string, scenarios: number, states: number, schedules: number): void {
  const counts = [String(scenarios).padStart(6), String(states).padStart(10), schedules.toExponential(2).padStart(9)];
  table.push(`${what.padEnd(52)} ${counts.join(' ')}`);
}

/** What a broken build was found out by. */
export function foundOut(mistake: string, by: string): void {
  table.push(`broken, ${mistake}: ${by}`);
}

afterAll(() => {
  process.stdout.write(`${'explored'.padEnd(52)} ${'cases'.padStart(6)} ${'states'.padStart(10)} schedules\n`);
  process.stdout.write(`${table.join('\n')}\n`);
});

/** The violation that code leads to, null if it keeps the rules. */
export function violation(explore: () => void): Violation | null {
  try {
    explore();
    return null;
  } catch (error) {
    if (error instanceof Violation) return error;
    throw error;
  }
}
