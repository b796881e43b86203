// Imports go one way: reads every import of packages/*/src and fails on an edge that the table does not have, on cycles
// between files, and on Node's own modules where the code must run anywhere.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const W = '@espalier/wire';
const R = '@espalier/replay';
const X = '@espalier/xfrm';
const E = '@espalier/esp';
const N = '@espalier/native';

/** Package folder -> what it may import besides its own files. `node` = Node's own modules. */
const LAYERS = {
  wire: [],
  replay: [],
  xfrm: [W, R],
  esp: [W, R, X, '@noble/ciphers', '@noble/hashes'],
  bond: [W, X],
  native: ['node'],
  'backends/mock': [W, X, E],
  'backends/tun': [W, X, N, 'node'],
  'backends/af-packet': [W, X, E, N, 'node'],
  'backends/udp': [W, X, E, N, 'node'],
  'backends/af-xdp': [W, X, E, N, 'node'],
  gateway: [
    W,
    R,
    X,
    E,
    N,
    '@espalier/bond',
    '@espalier/mock',
    '@espalier/tun',
    '@espalier/af-packet',
    '@espalier/af-xdp',
    '@espalier/udp',
    'node',
    'ipaddr.js',
    'valibot',
    'yaml',
  ],
};
/** Single files with a freedom of their own. */
const EXTRA = { 'packages/esp/src/engines/node.ts': ['node'] };

/** [specifier, ...] of a source text. */
function importsOf(source) {
  const text = source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  const found = [];
  for (const m of text.matchAll(
    /(?:^|\n)\s*(?:import|export)\b[^'";]*?from\s*['"]([^'"]+)['"]|(?:^|\n)\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g,
  ))
    found.push(m[1] ?? m[2] ?? m[3]);
  return found;
}

/** Complaint about one import, or null. */
export function judge(file, folder, specifier) {
  if (specifier.startsWith('.')) {
    const target = join(dirname(file), specifier);
    return target.startsWith(join('packages', folder)) ? null : `${file}: ${specifier} leaves its package`;
  }
  const name = specifier.startsWith('node:')
    ? 'node'
    : specifier
        .split('/')
        .slice(0, specifier.startsWith('@') ? 2 : 1)
        .join('/');
  const allowed = [...LAYERS[folder], ...(EXTRA[file] ?? [])];
  return allowed.includes(name) ? null : `${file}: ${folder} must not import ${specifier}`;
}

function filesUnder(dir) {
  return readdirSync(dir, { withFileTypes: true, recursive: true })
    .filter((d) => d.isFile() && d.name.endsWith('.ts'))
    .map((d) => join(d.parentPath ?? d.path, d.name));
}

function cycles(graph) {
  const state = new Map();
  const found = [];
  const visit = (file, path) => {
    state.set(file, 1);
    for (const next of graph.get(file) ?? []) {
      if (state.get(next) === 1) found.push([...path.slice(path.indexOf(next)), next].join(' -> '));
      else if (!state.has(next)) visit(next, [...path, next]);
    }
    state.set(file, 2);
  };
  for (const file of graph.keys()) if (!state.has(file)) visit(file, [file]);
  return found;
}

function check() {
  const complaints = [];
  const graph = new Map();
  const edges = new Map();
  for (const folder of Object.keys(LAYERS))
    for (const file of filesUnder(join('packages', folder, 'src'))) {
      const imports = importsOf(readFileSync(file, 'utf8'));
      graph.set(
        file,
        imports.filter((s) => s.startsWith('.')).map((s) => join(dirname(file), s)),
      );
      for (const specifier of imports) {
        const complaint = judge(file, folder, specifier);
        if (complaint) complaints.push(complaint);
        if (specifier.startsWith('@espalier/'))
          edges.set(folder, (edges.get(folder) ?? new Set()).add(specifier.split('/')[1]));
      }
    }
  complaints.push(...cycles(graph).map((c) => `cycle: ${c}`));
  // The check itself must be able to fail.
  const planted =
    judge('packages/wire/src/x.ts', 'wire', '@espalier/xfrm') && judge('packages/bond/src/x.ts', 'bond', 'node:fs');
  if (!planted) complaints.push('the check lets a planted bad edge through');
  for (const folder of Object.keys(LAYERS))
    process.stdout.write(`${folder.padEnd(20)} -> ${[...(edges.get(folder) ?? [])].sort().join(', ') || '-'}\n`);
  for (const c of complaints) process.stdout.write(`${c}\n`);
  process.stdout.write(`${graph.size} files, ${complaints.length} complaints\n`);
  process.exit(complaints.length === 0 ? 0 : 1);
}

if (process.argv[1] && relative(process.argv[1], join(process.cwd(), 'scripts/check-layers.mjs')) === '') check();
