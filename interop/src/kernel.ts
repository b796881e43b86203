/**
 * A real Linux kernel as a peer: user-mode-linux, an ordinary process that boots in two seconds and needs no root. Its root
 * file system is the host's, read-only; /tmp and /run are its own; its NICs are cables that end in this process.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { Cable } from './cable.ts';

/** What ESP and bonding need; the kernel would not find algorithms by itself. A line may carry options. */
const MODULES = [
  'ipv6',
  'bonding max_bonds=0',
  'veth',
  '8021q',
  'dummy numdummies=0',
  'xfrm_user',
  'esp4',
  'esp6',
  'ctr',
  'ghash-generic',
  'gcm',
  'ccm',
  'cbc',
  'hmac',
  'sha256_generic',
  'sha512_generic',
  'authenc',
  'authencesn',
  'chacha20poly1305',
  'seqiv',
  'echainiv',
  'crypto_null',
];
const MODULE_ROOT = '/usr/lib/uml/modules';
const BOOT_LIMIT = 30_000;
const STOP_LIMIT = 3_000;
const LIFE_LIMIT = 600_000;

export interface KernelOptions {
  /** Names of the kernel's NICs, up to 15 characters each; they start down. */
  readonly nets?: readonly string[];
  /** Modules besides those for ESP and bonding. */
  readonly modules?: readonly string[];
  /** Commands to run before `startKernel` resolves; it rejects when they fail. */
  readonly script?: string;
  /** MiB. */
  readonly memory?: number;
  /** It is killed after this, whatever happens; ms, 10 minutes when absent. */
  readonly life?: number;
}

export interface ExecResult {
  /** 124: it took too long. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Why no kernel can be started here, with the command that mends it; null when one can. `folders`: as PATH. */
export function kernelMissing(folders: string = searchPath()): string | null {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'user-mode-linux runs on Linux x86-64 only';
  const needed = { 'linux.uml': 'user-mode-linux', modprobe: 'kmod', ip: 'iproute2' };
  const packages = Object.entries(needed).flatMap(([command, name]) =>
    which(command, folders) === null ? [name] : [],
  );
  if (packages.length > 0) return `not installed: apt-get install ${packages.join(' ')}`;
  if (!existsSync(MODULE_ROOT)) return `no kernel modules in ${MODULE_ROOT}`;
  if (hasAmx() && which('cc', folders) === null)
    return 'this CPU has AMX, which needs a C compiler: apt-get install gcc libc6-dev';
  return null;
}

/** Boots; rejects with the console's last words when there is no prompt after 30 s, or the script fails. */
export async function startKernel(options: KernelOptions = {}): Promise<Kernel> {
  const missing = kernelMissing();
  if (missing !== null) throw new Error(missing);
  const folder = mkdtempSync(join(tmpdir(), 'espalier-kernel-'));
  const cables: Cable[] = [];
  try {
    for (const name of options.nets ?? []) cables.push(await Cable.lay(name));
    const kernel = new Kernel(folder, cables, options);
    await kernel.ready();
    if (options.script !== undefined) await kernel.run(options.script);
    return kernel;
  } catch (error) {
    for (const cable of cables) await cable.close();
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

export class Kernel {
  /** The far ends of the NICs, in the order of `nets`. */
  readonly cables: readonly Cable[];
  readonly #folder: string;
  readonly #process: ChildProcess;
  readonly #pending: Map<number, (code: number) => void> = new Map();
  readonly #failures: string[] = [];
  readonly #booted: Promise<void>;
  readonly #exited: Promise<unknown>;
  readonly #life: NodeJS.Timeout;
  #console = '';
  #next = 1;
  #dead = false;

  /** For `startKernel`. */
  constructor(folder: string, cables: readonly Cable[], options: KernelOptions) {
    const { nets = [], modules = [], memory = 192, life = LIFE_LIMIT } = options;
    this.#folder = folder;
    this.cables = cables;
    writeFileSync(join(folder, 'modules'), [...MODULES, ...modules, ''].join('\n'));
    writeFileSync(join(folder, 'nets'), nets.map((n) => `${n}\n`).join(''));
    const version = readdirSync(MODULE_ROOT).sort().at(-1)!;
    const args = [
      `mem=${memory}M`,
      'root=/dev/root',
      'rootfstype=hostfs',
      'rootflags=/',
      'ro',
      `init=${join(import.meta.dirname, 'init.sh')}`,
      `uml_dir=${folder}`,
      'umid=kernel',
      'con=null',
      'con0=null,fd:2',
      'ssl=null',
      'ssl0=fd:0,fd:1',
      'panic=1',
      'quiet',
      'random.trust_cpu=1',
      ...cables.map((cable, i) => cable.argument(i)),
      `espalier_run=${folder}`,
      `espalier_modules=${join(MODULE_ROOT, version)}`,
    ];
    const shim = xstateShim(folder);
    this.#process = spawn(which('linux.uml')!, args, {
      cwd: folder,
      // Its own group, so that the helpers go with it.
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { PATH: searchPath(), HOME: folder, TMPDIR: shmOr(folder), ...(shim === null ? {} : { LD_PRELOAD: shim }) },
    });
    this.#exited = once(this.#process, 'exit').then(() => this.#bury());
    this.#life = setTimeout(() => this.#kill(), life);
    this.#life.unref();
    process.once('exit', this.#kill);
    this.#process.stdin!.on('error', () => {});
    this.#process.stderr!.on('data', (data: Buffer) => {
      this.#console = (this.#console + data.toString()).slice(-4000);
    });
    this.#booted = new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(this.#complain(`no answer in ${BOOT_LIMIT} ms`)), BOOT_LIMIT);
      this.#pending.set(0, (code) => {
        clearTimeout(late);
        if (code === 0 && this.#failures.length === 0) resolve();
        else reject(this.#complain(this.#failures.join('; ') || 'the kernel died'));
      });
    });
    createInterface(this.#process.stdout!).on('line', (line) => this.#hear(line.trim()));
  }

  /** For `startKernel`: booted, or killed. */
  async ready(): Promise<void> {
    try {
      await this.#booted;
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  cable(name: string): Cable {
    const found = this.cables.find((c) => c.name === name);
    if (!found) throw new RangeError(`no NIC "${name}"`);
    return found;
  }

  /** Runs shell commands; several may run at once. Rejects only when the kernel dies. `timeout`: seconds. */
  async exec(commands: string, timeout = 30): Promise<ExecResult> {
    if (this.#dead) throw this.#complain('the kernel is not running');
    const n = this.#next++;
    const file = (suffix: string): string => join(this.#folder, `${n}.${suffix}`);
    writeFileSync(file('sh'), commands);
    const code = await new Promise<number>((resolve) => {
      // Beyond its own limit the kernel itself hangs.
      const hung = setTimeout(() => this.#kill(), (timeout + 10) * 1000);
      this.#pending.set(n, (c) => {
        clearTimeout(hung);
        resolve(c);
      });
      this.#process.stdin!.write(`run ${n} ${timeout}\n`);
    });
    if (code < 0) throw this.#complain('the kernel died');
    const result = { code, stdout: readFileSync(file('out'), 'utf8'), stderr: readFileSync(file('err'), 'utf8') };
    for (const suffix of ['sh', 'out', 'err']) rmSync(file(suffix), { force: true });
    return result;
  }

  /** As `exec` with `set -e`, but a failure rejects with what the commands said. Resolves to their output. */
  async run(commands: string, timeout?: number): Promise<string> {
    const { code, stdout, stderr } = await this.exec(`set -e\n${commands}`, timeout);
    if (code !== 0) throw new Error(`exit code ${code} of:\n${commands}\n${stdout}${stderr}`);
    return stdout;
  }

  /** Powers off; kills after 3 s. A second call does nothing. */
  async stop(): Promise<void> {
    if (!this.#dead) {
      this.#process.stdin!.write('off\n');
      const late = setTimeout(() => this.#kill(), STOP_LIMIT);
      await this.#exited;
      clearTimeout(late);
    }
    clearTimeout(this.#life);
    process.removeListener('exit', this.#kill);
    for (const cable of this.cables) await cable.close().catch(() => {});
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #hear(line: string): void {
    const [verb, n, code] = line.split(' ');
    if (verb === 'ready') this.#answer(0, 0);
    else if (verb === 'done') this.#answer(Number(n), Number(code));
    else if (verb === 'failed') this.#failures.push(line);
  }

  #answer(n: number, code: number): void {
    const pending = this.#pending.get(n);
    this.#pending.delete(n);
    pending?.(code);
  }

  #bury(): void {
    this.#dead = true;
    for (const n of [...this.#pending.keys()]) this.#answer(n, -1);
  }

  #complain(what: string): Error {
    return new Error(`${what}; console:\n${this.#console.trim()}`);
  }

  readonly #kill = (): void => {
    if (this.#process.pid === undefined) return;
    try {
      process.kill(-this.#process.pid, 'SIGKILL');
    } catch {
      // It is gone already.
    }
  };
}

/** Compiles the shim where the CPU needs it, or where there is a compiler, so that it is used everywhere. */
function xstateShim(folder: string): string | null {
  const cc = which('cc');
  if (cc === null) return null;
  const file = join(folder, 'xstate-shim.so');
  const source = join(import.meta.dirname, 'xstate-shim.c');
  const done = spawnSync(cc, ['-O2', '-shared', '-fPIC', '-o', file, source], { encoding: 'utf8', timeout: 20_000 });
  if (done.status === 0) return file;
  if (hasAmx()) throw new Error(`cannot compile ${source}: ${done.stderr}`);
  return null;
}

function hasAmx(): boolean {
  return /\bamx_tile\b/.test(readFileSync('/proc/cpuinfo', 'utf8'));
}

function searchPath(): string {
  return `${process.env.PATH ?? ''}${delimiter}/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin`;
}

/** The file of a command, looked for where the kernel would too; null when there is none. */
export function which(command: string, folders: string = searchPath()): string | null {
  for (const folder of folders.split(delimiter)) {
    const file = join(folder, command);
    if (folder !== '' && existsSync(file)) return file;
  }
  return null;
}

/** Where its memory lies: a tmpfs that may hold executable pages. */
function shmOr(folder: string): string {
  return existsSync('/dev/shm') ? '/dev/shm' : folder;
}
