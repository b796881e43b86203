/** Why the real thing cannot run on this machine, tried and not guessed, and what would change that. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { load } from '@espalier/native';
import { UNSHARE } from './real/namespaces.ts';

export interface Obstacle {
  readonly reason: string;
  readonly mend: string;
}

const TOOLS = [
  ['unshare', 'util-linux'],
  ['nsenter', 'util-linux'],
  ['ip', 'iproute2'],
  ['cc', 'gcc libc6-dev'],
] as const;

/** The first thing that is in the way, or null. Leaves nothing behind. */
export function obstacle(): Obstacle | null {
  if (process.platform !== 'linux')
    return { reason: `namespaces need Linux and this is ${process.platform}`, mend: 'run it on Linux' };
  for (const [name, pack] of TOOLS) {
    const tool = name === 'cc' ? process.env.CC || name : name;
    if (spawnSync(tool, ['--version']).error)
      return { reason: `there is no "${tool}"`, mend: `apt-get install ${pack}` };
  }
  const addon = load();
  if (addon.binding === null) return { reason: `there is no native addon (${addon.reason})`, mend: addon.mend };
  if (!existsSync('/dev/net/tun')) return { reason: 'there is no /dev/net/tun', mend: 'modprobe tun' };
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
  } catch {
    return {
      reason: 'this user may not open /dev/net/tun',
      mend: 'chmod 666 /dev/net/tun (the usual mode), or run as root',
    };
  }
  const attempts = 'ip link add v0 type veth peer name v1 && ip tuntap add dev t0 mode tun multi_queue';
  const tried = spawnSync('unshare', [...UNSHARE, 'sh', '-ec', attempts], { encoding: 'utf8' });
  if (tried.status === 0) return null;
  const said = tried.stderr.trim().split('\n')[0] || `it ended with ${tried.status}`;
  return {
    reason: `no namespace with veth and TUN can be made (${said})`,
    mend: 'run as root, or allow user namespaces',
  };
}

/** CAP_SYS_ADMIN, of which new namespaces are made (linux/capability.h). */
const SYS_ADMIN = 21n;

/** Whether the kernel here has what the real thing needs, whatever tools are missing: asked without any of them. */
export function kernelCould(): boolean {
  if (process.platform !== 'linux') return false;
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
    const status = readFileSync('/proc/self/status', 'utf8');
    const effective = BigInt(`0x${status.match(/^CapEff:\s*([0-9a-f]+)$/m)?.[1] ?? '0'}`);
    if (process.getuid?.() === 0) return ((effective >> SYS_ADMIN) & 1n) === 1n;
    return Number(readFileSync('/proc/sys/user/max_user_namespaces', 'utf8')) > 0;
  } catch {
    return false;
  }
}
