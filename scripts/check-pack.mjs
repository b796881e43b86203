// What npm users get: every public package is built and packed, the tarballs are looked at, installed into an empty
// project outside the workspace, and used there: types under two resolutions, the READMEs' snippets on several Nodes, in
// Bun and Deno, and bundled for a browser. `--keep` leaves the project; `--no-build` packs what is built.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { snippetsOf } from './check-readme.mjs';
import { checkAddon } from './pack-addon.mjs';
import { publicPackages } from './packages.mjs';
import { each, end, nodeOf, run, say, step } from './steps.mjs';

const PNPM = 'pnpm@12.21.0';
const NODES = ['20', '22', '24'];
const BUN = 'bun@1.4.5';
const DENO = 'deno@2.9.6';
const TYPESCRIPT = 'typescript@6.0.3';
/** Packages that run where there is no Node, and the most a minified, gzipped bundle of each may weigh, with all it needs, KiB. */
const PURE = {
  '@espalier/wire': 8,
  '@espalier/replay': 8,
  '@espalier/xfrm': 14,
  '@espalier/esp': 56,
  '@espalier/bond': 24,
};

const flags = new Set(process.argv.slice(2));
const tarballs = resolve('build/pack');
const bin = resolve('node_modules/.bin');
const packages = publicPackages();

const tarballOf = ({ name, manifest }) =>
  join(tarballs, `${name.replace('@', '').replace('/', '-')}-${manifest.version}.tgz`);

/** Complaints about one tarball that publint and attw do not make. */
async function look(one) {
  const files = (await run('tar', ['tzf', tarballOf(one)]))
    .trim()
    .split('\n')
    .map((f) => f.replace('package/', ''));
  const manifest = JSON.parse(await run('tar', ['xzOf', tarballOf(one), 'package/package.json']));
  const complaints = [];
  for (const file of ['README.md', 'LICENSE']) if (!files.includes(file)) complaints.push(`no ${file}`);
  for (const file of files)
    if (/(^|\/)(test|node_modules|\.env|\.npmrc)(\/|$)|\.tgz$|\.test\.ts$/.test(file))
      complaints.push(`${file} is no product`);
  for (const [name, range] of Object.entries(manifest.dependencies ?? {}))
    if (/^(workspace|catalog|file|link):/.test(range)) complaints.push(`depends on ${name} ${range}`);
  if (manifest.scripts && Object.keys(manifest.scripts).some((s) => /install|prepare/.test(s)))
    complaints.push('an install script');
  const paths = Object.entries(manifest.exports).flatMap(([path, to]) =>
    typeof to === 'string'
      ? [[path, to]]
      : Object.entries(to).map(([condition, file]) => [`${path} ${condition}`, file]),
  );
  for (const [what, file] of [...paths, ...Object.entries(manifest.bin ?? {})])
    if (!files.includes(file.replace('./', ''))) complaints.push(`${what} is ${file}, which is not there`);
  for (const conditions of Object.values(manifest.exports))
    if (typeof conditions !== 'string' && Object.keys(conditions).join() !== '@espalier/source,types,default')
      complaints.push(`conditions ${Object.keys(conditions).join()}`);
  if (one.name === '@espalier/native')
    for (const file of ['build.mjs', 'c/module.c']) if (!files.includes(file)) complaints.push(`no ${file}`);
  if (complaints.length > 0) throw new Error(complaints.join('\n'));
  return `${files.length} files`;
}

/** Snippets that run, of the README and of every package's own. */
function examples() {
  const documents = ['README.md', ...packages.map(({ dir }) => join(dir, 'README.md'))];
  return documents.flatMap((file) =>
    snippetsOf(readFileSync(file, 'utf8'))
      .filter((s) => s.run)
      .map((s) => ({ ...s, name: `${file === 'README.md' ? 'readme' : file.split('/').at(-2)}-${s.line}` })),
  );
}

/** The empty project. */
async function consumer() {
  const dir = mkdtempSync(join(tmpdir(), 'espalier-consumer-'));
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: 'module' }));
  for (const { name, text } of examples()) writeFileSync(join(dir, `${name}.ts`), `${text}export {};\n`);
  for (const [module, moduleResolution] of [
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ]) {
    const compilerOptions = {
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      target: 'es2023',
      lib: ['es2024'],
      types: ['node'],
      module,
      moduleResolution,
      outDir: moduleResolution,
    };
    writeFileSync(
      join(dir, `tsconfig.${moduleResolution}.json`),
      JSON.stringify({ compilerOptions, include: ['*.ts'] }),
    );
  }
  const offline = ['--prefer-offline', '--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error'];
  await run('npm', ['install', ...offline, ...packages.map(tarballOf), TYPESCRIPT, '@types/node@20'], {
    cwd: dir,
    seconds: 240,
  });
  return dir;
}

/** Bundles `entry` of the consumer for a browser, where a Node module is an error. */
async function forBrowser(dir, contents, outfile) {
  const result = await build({
    stdin: { contents, resolveDir: dir, loader: 'ts' },
    outfile,
    bundle: true,
    minify: true,
    platform: 'browser',
    format: 'esm',
    target: 'es2022',
    metafile: true,
    logLevel: 'silent',
  });
  return result.outputFiles ?? readFileSync(outfile);
}

async function use(dir) {
  const names = examples().map(({ name }) => name);
  const tsc = join(dir, 'node_modules', 'typescript', 'bin', 'tsc');
  for (const resolution of ['nodenext', 'bundler'])
    await step(`types, moduleResolution ${resolution}, libraries checked too`, async () => {
      await run(process.execPath, [tsc, '-p', `tsconfig.${resolution}.json`], { cwd: dir });
    });
  for (const version of NODES)
    await step(`${names.length} snippets on Node ${version}`, async () => {
      const node = await nodeOf(version);
      for (const name of names) await run(node, [join('nodenext', `${name}.js`)], { cwd: dir, seconds: 30 });
      return (await run(node, ['--version'])).trim();
    });

  const pure = examples().filter(({ name }) => Object.keys(PURE).some((p) => name.startsWith(`${p.split('/')[1]}-`)));
  const bundles = join(dir, 'browser');
  const bundled = await step('pure packages bundle for a browser', async () => {
    for (const { name, text } of pure) await forBrowser(dir, text, join(bundles, `${name}.mjs`));
    return pure.map(({ name }) => name).join(', ');
  });
  if (bundled) {
    await step('and run there: no process, no Buffer, no Node module', async () => {
      writeFileSync(
        join(bundles, 'bare.mjs'),
        `for (const name of ['process', 'Buffer', 'global', 'setImmediate', 'clearImmediate']) delete globalThis[name];
         ${pure.map(({ name }) => `await import('./${name}.mjs');`).join('\n')}`,
      );
      await run(process.execPath, [join(bundles, 'bare.mjs')], { seconds: 30 });
    });
    await step(`in Bun, from the installed packages`, async () => {
      for (const { name } of pure) await run('npx', ['-y', BUN, join('nodenext', `${name}.js`)], { cwd: dir });
      return BUN;
    });
    await step(`in Deno, from the bundles`, async () => {
      for (const { name } of pure)
        await run('npx', ['-y', DENO, 'run', '--no-config', join(bundles, `${name}.mjs`)], { cwd: dir });
      return DENO;
    });
    await step('bundles stay small', async () => {
      const sizes = [];
      for (const [name, limit] of Object.entries(PURE)) {
        const bytes = await forBrowser(dir, `export * from '${name}';`, join(bundles, 'size.mjs'));
        const kib = gzipSync(bytes).length / 1024;
        if (kib > limit) throw new Error(`${name} weighs ${kib.toFixed(1)} KiB minified and gzipped, limit ${limit}`);
        sizes.push(`${name.split('/')[1]} ${kib.toFixed(1)}`);
      }
      return `${sizes.join(', ')} KiB minified and gzipped, with all they need`;
    });
  }
  await checkAddon(dir);
  await command(dir);
}

async function command(dir) {
  const espalier = join(dir, 'node_modules', '.bin', 'espalier');
  await step('the command: version, probe', async () => {
    const version = (await run(espalier, ['--version'])).trim();
    await run(espalier, ['probe']);
    return version;
  });
  await step('the command: a gateway with two workers over mock links, started and stopped', async () => {
    const sa = (name, direction, spi) => ({
      name,
      direction,
      spi,
      source: direction === 'out' ? '192.0.2.1' : '192.0.2.2',
      destination: direction === 'out' ? '192.0.2.2' : '192.0.2.1',
      algorithm: 'aes128gcm16',
      key: `${direction === 'out' ? '00' : 'ff'}112233445566778899aabbccddeeff00112233`,
    });
    const config = {
      workers: 2,
      bond: {
        peerMac: '02:00:00:00:00:0b',
        lowers: [
          { kind: 'mock', name: 'm0' },
          { kind: 'mock', name: 'm1' },
        ],
      },
      inside: { kind: 'mock' },
      sas: [sa('out', 'out', '0x1000'), sa('in', 'in', '0x1100')],
      policies: [{ source: '10.1.0.0/24', destination: '10.2.0.0/24', action: 'protect', sa: 'out' }],
    };
    writeFileSync(join(dir, 'gateway.json'), JSON.stringify(config));
    await run(espalier, ['run', 'gateway.json', '--check'], { cwd: dir });
    const child = spawn(process.execPath, [espalier, 'run', 'gateway.json'], {
      cwd: dir,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    const up = new Promise((done) => {
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (d) => {
          output += d;
          done();
        });
    });
    const ended = new Promise((done) => child.on('close', done));
    const timer = setTimeout(() => child.kill('SIGKILL'), 30_000);
    await Promise.race([up, ended]);
    child.kill('SIGTERM');
    const code = await ended;
    clearTimeout(timer);
    if (code !== 0) throw new Error(`ended with ${code}\n${output}`);
    return output.trim().split('\n')[0];
  });
}

async function main() {
  say(`${packages.length} packages: ${packages.map(({ name }) => name).join(', ')}`);
  rmSync(tarballs, { recursive: true, force: true });
  mkdirSync(tarballs, { recursive: true });
  const built =
    flags.has('--no-build') ||
    (await step('build with tsup', () =>
      run('npx', ['-y', PNPM, '-r', '--filter', './packages/**', 'build'], { seconds: 300 }).then(() => undefined),
    ));
  const packed =
    built &&
    (await step('pack', async () => {
      await run('npx', ['-y', PNPM, '-r', '--filter', './packages/**', 'pack', '--pack-destination', tarballs]);
      const missing = packages.filter((one) => !existsSync(tarballOf(one)));
      if (missing.length > 0) throw new Error(`no tarball of ${missing.map(({ name }) => name).join(', ')}`);
      return `${readdirSync(tarballs).length} tarballs`;
    }));
  if (packed) {
    for (const one of packages) await step(`${one.name}: contents`, () => look(one));
    await each(packages, (one) =>
      step(`${one.name}: publint`, () => run(join(bin, 'publint'), [tarballOf(one), '--strict']).then(() => undefined)),
    );
    await each(packages, (one) =>
      step(`${one.name}: attw`, () =>
        run(join(bin, 'attw'), [tarballOf(one), '--profile', 'esm-only', '--format', 'ascii', '--no-color']).then(
          () => undefined,
        ),
      ),
    );
    let dir = '';
    const installed = await step('install into an empty project', async () => {
      dir = await consumer();
      return dir;
    });
    if (installed) await use(dir);
    if (dir && !flags.has('--keep')) rmSync(dir, { recursive: true, force: true });
  }
  end();
}

await main();
