// Documents that cannot lie: every ```ts block of the READMEs and of docs/ is compiled and run against the sources
// (```ts no-run: compiled only), and every relative link and anchor leads somewhere.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { build } from 'esbuild';
import { publicPackages, sourceEntries } from './packages.mjs';

const OUT = 'build/readme';
const SECONDS = 20;

/** [{ line, run, text }] of the ts blocks in a document. */
export function snippetsOf(markdown) {
  const found = [];
  const lines = markdown.split('\n');
  for (let i = 0; i < lines.length; i++) {
    const open = /^```ts( no-run)?\s*$/.exec(lines[i]);
    if (!open) continue;
    const from = i + 1;
    while (i + 1 < lines.length && lines[i + 1] !== '```') i++;
    found.push({ line: from + 1, run: !open[1], text: `${lines.slice(from, i + 1).join('\n')}\n` });
  }
  return found;
}

/** Anchors as GitHub makes them from headings. */
function anchorsOf(markdown) {
  const prose = markdown.replace(/^```[\s\S]*?^```/gm, '');
  return [...prose.matchAll(/^#+ +(.*)$/gm)].map(([, heading]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  );
}

/** Complaints about the relative links of one document. */
function brokenLinks(file, markdown, read = (f) => readFileSync(f, 'utf8'), exists = existsSync) {
  const prose = markdown.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`]*`/g, '');
  const complaints = [];
  for (const [, link] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(link)) continue;
    const [path, anchor] = link.split('#');
    const target = path ? resolve(dirname(file), path) : resolve(file);
    if (!exists(target)) complaints.push(`${file}: nothing at ${link}`);
    else if (anchor && !anchorsOf(path ? read(target) : markdown).includes(anchor))
      complaints.push(`${file}: no heading for ${link}`);
  }
  return complaints;
}

function documents() {
  const list = ['README.md', 'CONTRIBUTING.md', 'bench/README.md'];
  if (existsSync('docs'))
    list.push(
      ...readdirSync('docs')
        .filter((f) => f.endsWith('.md'))
        .map((f) => `docs/${f}`),
    );
  for (const { dir } of publicPackages()) list.push(join(dir, 'README.md'));
  return list;
}

async function check() {
  const complaints = [];
  const snippets = [];
  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(OUT, { recursive: true });
  for (const file of documents()) {
    if (!existsSync(file) || !statSync(file).isFile()) {
      complaints.push(`${file}: missing`);
      continue;
    }
    const markdown = readFileSync(file, 'utf8');
    complaints.push(...brokenLinks(file, markdown));
    // A scenario is a file of bench/ and imports its neighbours.
    if (file === 'bench/README.md') continue;
    for (const one of snippetsOf(markdown)) {
      const name = `${file.replaceAll('/', '-').replace('.md', '')}-${one.line}`;
      writeFileSync(join(OUT, `${name}.ts`), `${one.text}export {};\n`);
      snippets.push({ ...one, file, name });
    }
  }

  const entries = sourceEntries();
  const paths = Object.fromEntries([...entries].map(([name, file]) => [name, [relative(OUT, file)]]));
  const tsconfig = {
    extends: relative(OUT, 'tsconfig.json'),
    compilerOptions: { paths, noUnusedLocals: false, typeRoots: [relative(OUT, 'node_modules/@types')] },
    include: ['*.ts'],
    exclude: [],
  };
  writeFileSync(join(OUT, 'tsconfig.json'), JSON.stringify(tsconfig, null, 2));
  const tsc = spawnSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', OUT], { encoding: 'utf8' });
  if (tsc.status !== 0) complaints.push(...tsc.stdout.trim().split('\n').slice(0, 40));

  let passed = 0;
  for (const { file, line, run, name } of snippets) {
    const failed = run ? await runs(name, entries) : null;
    if (failed === null) passed++;
    else complaints.push(`${file}:${line}: ${failed}`);
    process.stdout.write(`${file}:${line} ${run ? 'runs' : 'compiles'}${failed === null ? '' : ': FAILED'}\n`);
  }
  for (const c of complaints) process.stdout.write(`${c}\n`);
  process.stdout.write(
    `${passed + (complaints.length === 0 ? 1 : 0)} passed, ${complaints.length} failed, 0 skipped\n`,
  );
  process.exit(complaints.length === 0 ? 0 : 1);
}

/** Why a snippet does not run, or null. */
async function runs(name, entries) {
  const outfile = join(OUT, `${name}.mjs`);
  try {
    await build({
      entryPoints: [join(OUT, `${name}.ts`)],
      outfile,
      bundle: true,
      format: 'esm',
      platform: 'node',
      target: 'node20',
      logLevel: 'silent',
      plugins: [
        {
          name: 'sources',
          setup: (b) => {
            b.onResolve({ filter: /^(@espalier\/|espalier(\/|$))/ }, ({ path }) =>
              entries.has(path) ? { path: resolve(entries.get(path)) } : { errors: [{ text: `no package ${path}` }] },
            );
          },
        },
      ],
      banner: {
        js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
      },
    });
  } catch (error) {
    return error.message;
  }
  const result = spawnSync(process.execPath, [outfile], { encoding: 'utf8', timeout: SECONDS * 1000 });
  if (result.error) return `${result.error.message} (after ${SECONDS} s)`;
  return result.status === 0 ? null : `exit code ${result.status}\n${result.stderr || result.stdout}`;
}

if (process.argv[1] && relative(process.argv[1], join(process.cwd(), 'scripts/check-readme.mjs')) === '') await check();
