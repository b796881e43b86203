/** Takes a lock, says so with its text, and gives it back when its input ends; says the code of why it cannot have it. */
import { XfrmError } from '@espalier/xfrm';
import { lock, unlock } from '../src/lock-file.ts';

const file = process.argv[2]!;
try {
  const text = lock(file);
  process.stdout.write(text);
  process.stdin.resume().on('end', () => unlock(file, text));
} catch (error) {
  if (!(error instanceof XfrmError)) throw error;
  process.stdout.write(error.detail.code);
}
