// The workspace's public packages, in the order in which they build on one another.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** [{ dir, name, manifest }], every dependency before what depends on it. */
export function publicPackages(root = '.') {
  const found = new Map();
  for (const under of ['packages', 'packages/backends'])
    for (const folder of readdirSync(join(root, under))) {
      const dir = join(under, folder);
      const file = join(root, dir, 'package.json');
      if (!existsSync(file)) continue;
      const manifest = JSON.parse(readFileSync(file, 'utf8'));
      if (!manifest.private) found.set(manifest.name, { dir, name: manifest.name, manifest });
    }
  const order = new Map();
  const visit = (one) => {
    if (order.has(one.name)) return;
    for (const name of Object.keys(one.manifest.dependencies ?? {})) if (found.has(name)) visit(found.get(name));
    order.set(one.name, one);
  };
  for (const one of found.values()) visit(one);
  return [...order.values()];
}

/** 'package' or 'package/path' -> its source file, for bundlers and TypeScript's `paths`. */
export function sourceEntries(root = '.') {
  const entries = new Map();
  for (const { dir, name, manifest } of publicPackages(root))
    for (const [path, conditions] of Object.entries(manifest.exports ?? {}))
      if (conditions['@espalier/source']) entries.set(join(name, path), join(dir, conditions['@espalier/source']));
  return entries;
}
