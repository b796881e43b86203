import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { XfrmError } from '@espalier/xfrm';

/**
 * The worker entry that was built beside `from`, the URL of a built module: `worker.js` in the package, `worker.mjs` in a
 * bundle. Throws XfrmError NOT_FOUND from source, where no thread can start: Node 20 runs no TypeScript.
 */
export function workerFileBeside(from: string): URL {
  for (const name of ['worker.js', 'worker.mjs']) {
    const file = new URL(name, from);
    if (existsSync(fileURLToPath(file))) return file;
  }
  throw new XfrmError({
    code: 'NOT_FOUND',
    what: `no worker.js or worker.mjs beside ${fileURLToPath(from)}: build the package, or say "workerFile"`,
  });
}
