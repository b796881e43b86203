/** What we seal, opened by scapy, and what scapy seals, opened by us: every transform, mode and family that both have. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { nobleEngine } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { ALGORITHMS, type AlgorithmName } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { allCombinations, COMMON_ALGORITHMS, type Combination, describeCombination } from '../src/esp-combinations.ts';
import { EspGateway } from '../src/esp-gateway.ts';
import { GATEWAY_MAC, LINKS, otherSide, type Planned, type PlannedSa, plan, SIDES } from '../src/esp-plan.ts';
import { udpPacket } from '../src/udp-packet.ts';

const PEER = fileURLToPath(new URL('../src/scapy-peer.py', import.meta.url));
/** Debian's python, which has Debian's scapy. */
const PYTHON = '/usr/bin/python3';
const there = spawnSync(PYTHON, ['-c', 'import scapy.layers.ipsec'], { timeout: 30_000 });
const missing = there.status === 0 ? null : 'not installed: apt-get install python3-scapy python3-cryptography';

const CRYPT = {
  'aes-gcm': 'AES-GCM',
  'aes-ccm': 'AES-CCM',
  'chacha20-poly1305': 'CHACHA20-POLY1305',
  'aes-cbc': 'AES-CBC',
  'aes-ctr': 'AES-CTR',
  null: 'NULL',
} as const;
const AUTH = { sha1: 'HMAC-SHA1-96', sha256: 'SHA2-256-128', sha384: 'SHA2-384-192', sha512: 'SHA2-512-256' } as const;

/**
 * scapy 2.5 has no GMAC, one ICV length for GCM, puts the high half of an ESN in front of the packet under an HMAC instead
 * of behind it, and its UDP encapsulation has no checksum, which IPv6 asks for.
 */
function known({ algorithm, esn, natt, family }: Combination): boolean {
  const { cipher, hash, icvLength } = ALGORITHMS[algorithm];
  if (!Object.hasOwn(CRYPT, cipher) || (cipher === 'aes-gcm' && icvLength !== 16)) return false;
  if (esn && hash !== null) return false;
  return !natt || family[3] === '4';
}

function taskOf(p: Planned, sa: PlannedSa, number: number): Record<string, unknown> {
  const { cipher, hash, icvLength, integrityKeyLength, iv } = ALGORITHMS[p.algorithm];
  const cut = sa.key.length - integrityKeyLength;
  const [hi, lo] = [Math.floor(number / 2 ** 32), number % 2 ** 32];
  const numbered = Buffer.alloc(8);
  numbered.writeUInt32BE(hi, 0);
  numbered.writeUInt32BE(lo, 4);
  return {
    crypt: CRYPT[cipher as keyof typeof CRYPT],
    icv: hash === null ? icvLength : 0,
    auth: hash === null ? null : AUTH[hash],
    spi: sa.spi,
    key: sa.key.subarray(0, cut).toString('hex'),
    authKey: sa.key.subarray(cut).toString('hex'),
    source: sa.source,
    destination: sa.destination,
    mode: p.mode,
    natt: p.natt,
    esn: p.esn,
    hi,
    lo,
    iv: iv === 'none' ? '' : (iv === 'random' ? randomBytes(16) : numbered).toString('hex'),
  };
}

describe.skipIf(missing !== null)(`ESP against scapy${missing === null ? '' : ` (${missing})`}`, () => {
  it('is opened by scapy, and opens what scapy seals, in every combination that it knows, with either engine', () => {
    const planned = plan(allCombinations(COMMON_ALGORITHMS).filter(known));
    const quiet = { send() {}, onFrame: () => () => {} };
    const gateway = new EspGateway(
      planned,
      { a: quiet, b: quiet },
      { a: nobleEngine({ legacy: true }), b: nodeEngine({ legacy: true }) },
    );
    const cases = SIDES.flatMap((side) => planned.map((p) => ({ side, p })));
    const packets = cases.map(({ side, p }) => {
      const payload = Buffer.from(`${describeCombination(p)} at ${side}`);
      const other = otherSide(side);
      return { out: udpPacket(p, other, side, payload), in: udpPacket(p, side, other, payload) };
    });
    const tasks = cases.flatMap(({ side, p }, i) => {
      const frame = gateway.seal(side, packets[i]!.out)!;
      const number = p.start + 1;
      return [
        { ...taskOf(p, p.fromGateway[side], number), open: frame.subarray(14).toString('hex') },
        { ...taskOf(p, p.toGateway[side], number), seal: Buffer.from(packets[i]!.in).toString('hex') },
      ];
    });
    const { stdout, stderr } = spawnSync(PYTHON, [PEER], {
      input: JSON.stringify(tasks),
      encoding: 'utf8',
      timeout: 120_000,
      maxBuffer: 1 << 28,
    });
    expect(stdout, stderr).not.toBe('');
    const answers = JSON.parse(stdout) as { opened?: string; sealed?: string; error?: string }[];
    const wrong: string[] = [];
    for (const [i, { side, p }] of cases.entries()) {
      const [opened, sealed] = [answers[2 * i]!, answers[2 * i + 1]!];
      const name = `${describeCombination(p)} at ${side}`;
      const want = Buffer.from(packets[i]!.out).toString('hex');
      if (opened.opened !== want) wrong.push(`${name}: scapy opened ${opened.error ?? opened.opened}`);
      if (sealed.sealed === undefined) {
        wrong.push(`${name}: scapy sealed nothing: ${sealed.error}`);
        continue;
      }
      const type = p.family[3] === '4' ? '0800' : '86dd';
      const link = `${GATEWAY_MAC}${LINKS[side].mac}`.replaceAll(':', '') + type;
      const fate = gateway.open(side, Buffer.from(link + sealed.sealed, 'hex'));
      if (fate !== 'NONE') wrong.push(`${name}: what scapy sealed: ${fate}`);
    }
    expect(wrong).toEqual([]);
    const algorithms = new Set<AlgorithmName>(planned.map((p) => p.algorithm));
    process.stdout.write(`scapy: ${planned.length} combinations of ${algorithms.size} transforms, both ways\n`);
    expect(algorithms.size).toBeGreaterThan(20);
  }, 180_000);
});
