/** Takes a lock whenever it can and leaves it as if killed; counts the times that it was not alone with it. */
import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { XfrmError } from '@espalier/xfrm';
import { lock } from '../src/lock-file.ts';

const [file, start] = process.argv.slice(2) as [string, string];
const inside = `${file}-inside`;
const ROUND_MS = 600;
let won = 0;
let together = 0;
const token = (): string => Array.from({ length: 32 }, () => Math.floor(Math.random() * 16).toString(16)).join('');

while (Date.now() < Number(start));
while (Date.now() < Number(start) + ROUND_MS) {
  try {
    lock(file);
  } catch (error) {
    if (error instanceof XfrmError && error.detail.code === 'BUSY') continue;
    throw error;
  }
  won++;
  try {
    closeSync(openSync(inside, 'wx'));
    rmSync(inside);
  } catch {
    together++;
  }
  // In place: from now on the lock is a dead process's, of a text of its own.
  writeFileSync(file, `4194305 boot/1 ${token()}`);
}
process.stdout.write(JSON.stringify({ won, together }));
