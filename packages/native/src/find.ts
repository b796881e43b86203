import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, platform } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';

/** What the addon's file exports, or why there is none. */
export type Found =
  | { readonly addon: object }
  | { readonly addon: null; readonly reason: string; readonly mend: string };

const here = dirname(fileURLToPath(import.meta.url));
const built = join(here, '..', 'build', 'espalier.node');
const script = join(here, '..', 'build.mjs');

/**
 * Of the addon compiled here and the one that came prebuilt the newer; where neither loads it is compiled, once per
 * process and not in a worker. `ESPALIER_ADDON` names another file and nothing else is tried; `ESPALIER_BUILD=0` compiles
 * nothing. Never throws.
 */
export function find(): Found {
  const named = process.env.ESPALIER_ADDON;
  const failures: string[] = [];
  const places = named ? [named] : newestFirst([built, prebuilt()]);
  for (const place of places) {
    const addon = open(place, failures);
    if (addon !== null) return { addon };
  }
  if (!named && isMainThread && process.env.ESPALIER_BUILD !== '0' && existsSync(script)) {
    spawnSync(process.execPath, [script], { timeout: 60_000 });
    const addon = open(built, failures);
    if (addon !== null) return { addon };
  }
  const status = statusBeside(named || built);
  if (status !== null) return { addon: null, ...status };
  const reason =
    failures.length > 0 ? failures.join('; ') : `no addon for ${platform()}-${arch()} in ${dirname(built)}`;
  const how = existsSync(script) ? `node ${script}` : 'npm test, in a clone,';
  return { addon: null, reason, mend: `${how} compiles it where there is a C compiler` };
}

/** The file that a package has for this platform, processor and C library. */
function prebuilt(): string {
  return join(here, '..', 'prebuilds', `${platform()}-${arch()}`, 'espalier.glibc.node');
}

function newestFirst(places: readonly string[]): string[] {
  const there = places.filter((place) => existsSync(place) && (place === built || hasGlibc()));
  const time = (place: string): number => statSync(place).mtimeMs;
  return there.sort((a, b) => time(b) - time(a));
}

function hasGlibc(): boolean {
  const report = process.report as { excludeNetwork?: boolean; getReport(): object } | undefined;
  if (report === undefined) return false;
  const before = report.excludeNetwork;
  report.excludeNetwork = true;
  const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } };
  report.excludeNetwork = before ?? false;
  return header.glibcVersionRuntime !== undefined;
}

function open(place: string, failures: string[]): object | null {
  if (!existsSync(place)) return null;
  try {
    return createRequire(import.meta.url)(place) as object;
  } catch (error) {
    failures.push((error as Error).message);
    return null;
  }
}

/** Why a compilation came to nothing. */
function statusBeside(place: string): { readonly reason: string; readonly mend: string } | null {
  const file = join(dirname(place), 'status.json');
  if (!existsSync(file)) return null;
  const { reason, mend } = JSON.parse(readFileSync(file, 'utf8')) as { reason: string; mend: string };
  return reason ? { reason, mend } : null;
}
