/** What the peers need from Debian: what is here, and, only when asked, the installation. */
import { spawnSync } from 'node:child_process';

/** A peer, or what a contest needs besides: its name in results, and Debian packages. */
export interface Peer {
  readonly name: string;
  readonly packages: readonly string[];
}

export const PEERS = {
  compiler: { name: 'a C compiler', packages: ['gcc', 'libc6-dev', 'linux-libc-dev'] },
  ipsecMb: { name: 'libipsec-mb', packages: ['libipsec-mb1'] },
  ipsecMbHeaders: { name: "libipsec-mb's headers", packages: ['libipsec-mb-dev'] },
  dpdk: { name: 'DPDK', packages: ['libdpdk-dev', 'pkg-config'] },
  libipsec: { name: 'strongSwan libipsec', packages: ['libcharon-extra-plugins', 'libstrongswan-standard-plugins'] },
  charon: {
    name: 'strongSwan kernel-libipsec',
    packages: ['charon-systemd', 'strongswan-swanctl', 'libcharon-extra-plugins', 'libstrongswan-standard-plugins'],
  },
  wireguard: { name: 'wireguard-go', packages: ['wireguard-go', 'wireguard-tools'] },
  tools: { name: 'network tools', packages: ['iproute2', 'iperf3', 'ethtool', 'iputils-ping', 'procps', 'util-linux'] },
} as const satisfies Record<string, Peer>;

/** Installed version, or null. */
function versionOf(name: string): string | null {
  const format = ['db:Status-Status', 'Version'].map((field) => `$\{${field}}`).join(' ');
  const found = spawnSync('dpkg-query', ['-W', '-f', format, name], { encoding: 'utf8' });
  const [status, version] = (found.stdout ?? '').split(' ');
  return status === 'installed' ? version! : null;
}

/** 'DPDK 22.11.11-0+deb12u1': the version of its first package. */
export function titled(peer: Peer): string {
  return `${peer.name} ${versionOf(peer.packages[0]!) ?? '(absent)'}`;
}

function missingPackages(peers: readonly Peer[]): string[] {
  return [...new Set(peers.flatMap((p) => p.packages))].filter((name) => versionOf(name) === null);
}

/** 'wireguard-go is missing: apt-get install wireguard-go'. */
export function howToGet(peers: readonly Peer[]): string[] {
  return peers
    .map((p) => ({ p, packages: missingPackages([p]) }))
    .filter(({ packages }) => packages.length > 0)
    .map(({ p, packages }) => `${p.name} is missing: apt-get install ${packages.join(' ')}`);
}

/** Installs what is missing with apt-get, as root; says what before it does, and what is still missing behind it. */
export function install(peers: readonly Peer[], say: (text: string) => void): void {
  const packages = missingPackages(peers);
  if (packages.length === 0) {
    say('nothing to install: all packages are here');
    return;
  }
  if (process.getuid?.() !== 0) {
    say(`not root: run  apt-get install --no-install-recommends ${packages.join(' ')}`);
    return;
  }
  say(`installing from Debian, without recommends: ${packages.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  spawnSync('apt-get', ['-qq', 'update'], { stdio: 'inherit', env });
  const args = ['-qq', 'install', '-y', '--no-install-recommends', ...packages];
  spawnSync('apt-get', args, { stdio: ['ignore', 'ignore', 'inherit'], env });
  const still = missingPackages(peers);
  say(still.length === 0 ? 'installed' : `apt-get did not install ${still.join(' ')}`);
}
