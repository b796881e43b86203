import { UsageError } from './options.ts';
import { progress } from './progress.ts';

/** Runs a command and ends the process with its code; with 2 and the usage when it was called wrongly, with 1 when it threw. */
export function runCommand(main: () => Promise<number>): void {
  main().then(
    (code) => process.exit(code),
    (error: Error) => {
      progress('');
      process.stderr.write(`${error instanceof UsageError ? error.message : error.stack}\n`);
      process.exit(error instanceof UsageError ? 2 : 1);
    },
  );
}
