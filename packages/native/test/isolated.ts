import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

/** The addon under test, for processes that load it by themselves. */
export const addonFile: string =
  process.env.ESPALIER_ADDON ?? join(import.meta.dirname, '..', 'build', 'espalier.node');

/** Runs what follows in a network of its own, where root or a user namespace allows it. */
export function unshare(): string[] {
  return ['unshare', process.getuid?.() === 0 ? '-n' : '-Urn'];
}

let tried: string | null | undefined;

/** Why there is no network of our own, or null. */
export function noNamespace(): string | null {
  if (tried !== undefined) return tried;
  const [command, ...args] = unshare();
  const { error, status, stderr } = spawnSync(command!, [...args, 'true'], { encoding: 'utf8' });
  tried = error ? 'there is no "unshare" (util-linux)' : status === 0 ? null : stderr.trim();
  return tried;
}
