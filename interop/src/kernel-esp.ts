/** The kernel's part of the ESP tests: two networks, their SAs and policies in one batch, and what it counted. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ALGORITHMS, type AlgorithmName, keyParts } from '@espalier/xfrm';
import { GATEWAY_MAC, LINKS, otherSide, type Planned, type PlannedSa, SIDES, type Side } from './esp-plan.ts';
import { type ExecResult, type Kernel, kernelMissing, which } from './kernel.ts';

/** Modules besides those that `kernel.ts` always loads. */
export const ESP_MODULES = ['sha1_generic'];
/** Copied into the kernel's own /tmp, which hides the host's: this folder may lie below that. */
const PEER = '/tmp/tcp-peer.pl';
const WINDOW = 1024;
const ESP_IN_UDP = 4500;

/** What Linux knows of one SA after the test; numbers are whole. */
export interface KernelSa {
  readonly spi: number;
  readonly sent: number;
  readonly top: number;
  readonly replays: number;
  readonly failures: number;
}

/** As `kernelMissing`, for what runs inside the kernel too: the root file system is the host's. */
export function espKernelMissing(): string | null {
  const missing = kernelMissing();
  if (missing !== null) return missing;
  const needed = { ping: 'iputils-ping', perl: 'perl-base' };
  const packages = Object.entries(needed).flatMap(([command, name]) => (which(command) === null ? [name] : []));
  return packages.length > 0 ? `not installed: apt-get install ${packages.join(' ')}` : null;
}

/** Makes networks a and b of NICs `a` and `b`, and installs the SAs. */
export async function installKernelSide(kernel: Kernel, planned: readonly Planned[]): Promise<void> {
  const peer = readFileSync(join(import.meta.dirname, 'tcp-peer.pl'), 'utf8');
  await kernel.run(`cat >${PEER} <<'PERL'\n${peer}\nPERL`);
  await kernel.run(SIDES.map(networkCommands).join('\n'));
  for (const side of SIDES) {
    const lines = planned.flatMap((p) => saLines(p, side));
    await kernel.run(`ip -n ${side} -batch - <<'END'\n${lines.join('\n')}\nEND`, 120);
  }
}

/** Runs the TCP peer in a network: see tcp-peer.pl. */
export function runPeer(kernel: Kernel, side: Side, verb: string, input: string, timeout: number): Promise<ExecResult> {
  return kernel.exec(`ip netns exec ${side} perl ${PEER} ${verb} <<'END'\n${input}\nEND`, timeout);
}

/** One ping per combination from `side`, sizes varied so that paddings are; returns the indices that were not answered. */
export async function pingAll(
  kernel: Kernel,
  planned: readonly Planned[],
  side: Side,
  timeout: number,
): Promise<number[]> {
  const other = otherSide(side);
  const lines = planned.map(
    (p) =>
      `ping -n -q -c 1 -W 2 -s ${16 + (p.index % 67)} -I ${p.inner[side]} ${p.inner[other]} >/dev/null 2>&1 || echo ${p.index}`,
  );
  const text = await kernel.run(`ip netns exec ${side} sh <<'END'\n${lines.join('\n')}\nEND`, timeout);
  return text.split('\n').filter(Boolean).map(Number);
}

/** /proc/net/xfrm_stat of a network. */
export async function xfrmStat(kernel: Kernel, side: Side): Promise<Record<string, number>> {
  const text = await kernel.run(`ip netns exec ${side} cat /proc/net/xfrm_stat`);
  return Object.fromEntries([...text.matchAll(/^(\w+)\s+(\d+)/gm)].map((m) => [m[1], Number(m[2])]));
}

/** By SPI. */
export async function kernelSas(kernel: Kernel, side: Side): Promise<Map<number, KernelSa>> {
  const text = await kernel.run(`ip -n ${side} -s xfrm state`);
  const field = (block: string, pattern: RegExp): number => Number(pattern.exec(block)?.[1] ?? 0);
  const sas = text
    .split(/^(?=src )/m)
    .filter((block) => block.startsWith('src '))
    .map((block) => {
      const high = 2 ** 32;
      return {
        spi: field(block, /spi (0x[0-9a-f]+)/),
        sent: field(block, /oseq-hi (0x[0-9a-f]+)/) * high + field(block, /oseq (0x[0-9a-f]+)/),
        top: field(block, / seq-hi (0x[0-9a-f]+)/) * high + field(block, /, seq (0x[0-9a-f]+)/),
        replays: field(block, /replay (\d+) failed/),
        failures: field(block, /failed (\d+)/),
      };
    });
  return new Map(sas.map((sa) => [sa.spi, sa]));
}

function networkCommands(side: Side): string {
  const { mac, outer, gateway } = LINKS[side];
  const far = SIDES.indexOf(otherSide(side)) + 1;
  return `
    ip netns add ${side}
    ip link set dev ${side} netns ${side}
    ip -n ${side} link set lo up
    ip -n ${side} link set dev ${side} address ${mac} addrgenmode none up
    ip -n ${side} addr add ${outer[4]}/24 dev ${side}
    ip -n ${side} addr add ${outer[6]}/64 dev ${side} nodad
    ip -n ${side} neigh add ${gateway[4]} lladdr ${GATEWAY_MAC} dev ${side}
    ip -n ${side} neigh add ${gateway[6]} lladdr ${GATEWAY_MAC} dev ${side}
    ip -n ${side} route add 10.${far}.0.0/16 via ${gateway[4]}
    ip -n ${side} route add fd00:${far}::/64 via ${gateway[6]}`;
}

/** `ip -batch` lines of one side of a combination: its inner address, its two SAs, its policies. */
function saLines(p: Planned, side: Side): string[] {
  const out = p.toGateway[side];
  const back = p.fromGateway[side];
  const other = otherSide(side);
  const bits = p.innerFamily === 4 ? 32 : 128;
  const near = `${p.inner[side]}/${bits}`;
  const far = `${p.inner[other]}/${bits}`;
  const policy = (sa: PlannedSa, from: string, to: string, direction: string): string =>
    `xfrm policy add src ${from} dst ${to} dir ${direction} priority 2 tmpl ` +
    `src ${sa.source} dst ${sa.destination} proto esp reqid ${p.index + 1} mode ${p.mode}`;
  const lines = [
    `addr add ${near} dev lo${p.innerFamily === 6 ? ' nodad' : ''}`,
    stateLine(p, out),
    stateLine(p, back),
    policy(out, near, far, 'out'),
    policy(back, far, near, 'in'),
  ];
  // Linux asks the policies before it takes ESP out of UDP, and in transport mode the addresses are those of the policy.
  if (p.mode === 'transport' && p.natt)
    lines.push(`xfrm policy add src ${far} dst ${near} proto udp dport ${ESP_IN_UDP} dir in priority 1 action allow`);
  return lines;
}

function stateLine(p: Planned, sa: PlannedSa): string {
  const high = p.start >= 2 ** 32 ? 1 : 0;
  const words = [
    `xfrm state add src ${sa.source} dst ${sa.destination} proto esp spi ${sa.spi} reqid ${p.index + 1} mode ${p.mode}`,
    `replay-window ${WINDOW} replay-seq ${p.start >>> 0} replay-oseq ${p.start >>> 0}`,
    `replay-seq-hi ${high} replay-oseq-hi ${high}`,
    algorithmWords(p.algorithm, sa.key),
  ];
  const flags = [...(p.mode === 'tunnel' ? ['af-unspec'] : []), ...(p.esn ? ['esn'] : [])];
  if (flags.length > 0) words.push(`flag ${flags.join(' ')}`);
  if (p.natt) words.push(`encap espinudp ${ESP_IN_UDP} ${ESP_IN_UDP} 0.0.0.0`);
  return words.join(' ');
}

const AEADS: Readonly<Record<string, string>> = {
  'aes-gcm': 'rfc4106(gcm(aes))',
  'aes-ccm': 'rfc4309(ccm(aes))',
  'aes-gmac': 'rfc4543(gcm(aes))',
  'chacha20-poly1305': 'rfc7539esp(chacha20,poly1305)',
};
const CIPHERS: Readonly<Record<string, string>> = {
  'aes-cbc': 'cbc(aes)',
  'aes-ctr': 'rfc3686(ctr(aes))',
  null: 'ecb(cipher_null)',
};

/** The transform as ip-xfrm(8) names it; Linux too wants the salt behind the cipher key. */
function algorithmWords(name: AlgorithmName, key: Buffer): string {
  const { cipher, hash, icvLength } = ALGORITHMS[name];
  const parts = keyParts(name, key);
  const text = (bytes: Uint8Array): string => (bytes.length === 0 ? "''" : `0x${Buffer.from(bytes).toString('hex')}`);
  if (hash === null) return `aead ${AEADS[cipher]} ${text(key)} ${icvLength * 8}`;
  const cipherKey = text(Buffer.concat([parts.cipher, parts.salt]));
  return `enc ${CIPHERS[cipher]} ${cipherKey} auth-trunc hmac(${hash}) ${text(parts.integrity)} ${icvLength * 8}`;
}
