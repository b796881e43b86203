/** ESP packet work of one core: ours through EspPath beside DPDK's librte_ipsec and strongSwan's libipsec. */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { product, type Variant } from '../frame/scenario.ts';
import { bundleOurs, type Command, compileC, pkgConfig } from './build.ts';
import {
  ask,
  type Contest,
  type ContestOptions,
  costRatio,
  type Outcome,
  type Round,
  type Row,
  takeTurns,
} from './contest.ts';
import { PEERS, type Peer, titled } from './packages.ts';

const SIZES = [64, 1400];

interface EspContest {
  readonly name: string;
  readonly about: string;
  readonly peer: Peer;
  readonly needs: readonly Peer[];
  readonly algorithms: readonly string[];
  /** Our engine. */
  readonly engine: string;
  readonly compile: () => Command;
  /** `ethernet`: behind an outer header, with ESN; `esp-udp`: from the ESP header on, without. */
  readonly link: 'ethernet' | 'esp-udp';
  /** Where the peer's IV is the number too, so that both seal to the same bytes. */
  readonly sameIv: (algorithm: string) => boolean;
  readonly notes: readonly string[];
  /** Most that ours may cost, as a part of the peer's. */
  readonly goal: (variant: Variant) => number;
}

/** Ethernet and IPv4. */
const OUTER_HEADER = 34;

/** Frames of `file`, from the ESP header on. */
function espOf(file: string, link: EspContest['link']): Buffer {
  const header = link === 'ethernet' ? OUTER_HEADER : 0;
  const bytes = readFileSync(file);
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 2 + bytes.readUInt16BE(at))
    frames.push(bytes.subarray(at + 2 + header, at + 2 + bytes.readUInt16BE(at)));
  return Buffer.concat(frames);
}

async function run(c: EspContest, options: ContestOptions): Promise<Outcome> {
  const peer = titled(c.peer);
  const ours = `espalier, ${c.engine}`;
  const commands: Record<string, Command> = { [peer]: c.compile(), [ours]: await oursWith(c.engine, c.link) };
  const folder = join('build', 'peers', 'frames');
  mkdirSync(folder, { recursive: true });
  const sealedBy = (who: string, { algorithm, size }: Variant): string =>
    join(folder, `${c.name}-${who === peer ? 'peer' : 'ours'}-${algorithm}-${size}`);
  const variants = product({ work: ['encap', 'decap'], algorithm: c.algorithms, size: SIZES });

  for (const v of variants.filter(({ work }) => work === 'encap')) {
    options.progress(`${c.name}: proving ${v.algorithm}, ${v.size}`);
    const task = (who: string, job: string, file: string) =>
      ask(commands[who]!, String(v.algorithm), String(v.size), job, file, '0');
    for (const who of [peer, ours]) await task(who, 'seal', sealedBy(who, v));
    if (c.sameIv(String(v.algorithm)) && !espOf(sealedBy(peer, v), c.link).equals(espOf(sealedBy(ours, v), c.link)))
      throw new Error(`${c.name}: ${v.algorithm}, ${v.size}: ours and the peer seal to different bytes`);
    await task(ours, 'open', sealedBy(peer, v));
    await task(peer, 'open', sealedBy(ours, v));
  }
  const rows: Row[] = variants.flatMap((variant) =>
    [peer, ours].map((contender) => ({ variant, contender, rounds: [] })),
  );
  await takeTurns(rows, options, ({ variant, contender }) =>
    ask<Round>(
      commands[contender]!,
      String(variant.algorithm),
      String(variant.size),
      String(variant.work),
      sealedBy(contender, variant),
      String(options.milliseconds),
    ),
  );
  const ratios = variants.flatMap((v) => costRatio(rows, v, ours, peer, c.goal(v)));
  return {
    contest: c.name,
    about: c.about,
    unit: 'ns per packet',
    better: 'less',
    rows,
    ratios,
    missing: [],
    notes: c.notes,
  };
}

async function oursWith(engine: string, link: string): Promise<Command> {
  const { file, args } = await bundleOurs('esp-espalier');
  return { file, args: [...args, engine, link] };
}

function contest(c: EspContest): Contest {
  return { name: c.name, about: c.about, needs: c.needs, peers: [], run: (options) => run(c, options) };
}

export const dpdk: Contest = contest({
  name: 'dpdk',
  about: 'ESP in bursts of 32 on one core, ESN, window of 1024, beside librte_ipsec with a cpu-crypto device',
  peer: PEERS.dpdk,
  needs: [PEERS.compiler, PEERS.dpdk, PEERS.ipsecMb],
  algorithms: ['aes128gcm16', 'chacha20poly1305', 'aes128cbc-sha256'],
  engine: 'ipsec-mb',
  compile: () => {
    const libraries = ['eal', 'ipsec', 'cryptodev', 'mbuf', 'mempool'].map((l) => `-lrte_${l}`);
    return compileC('dpdk-ipsec', ['-Wno-deprecated-declarations', ...pkgConfig('--cflags', 'libdpdk'), ...libraries]);
  },
  link: 'ethernet',
  sameIv: (algorithm) => !algorithm.includes('cbc'),
  notes: ['AES-CBC: our IVs are drawn, those of librte_ipsec are the numbers'],
  goal: ({ work, algorithm }) => (algorithm !== 'aes128gcm16' ? 1.1 : work === 'encap' ? 1 : 0.95),
});

/** Where Debian puts strongSwan's libraries. */
const STRONGSWAN = '/usr/lib/ipsec';

export const libipsec: Contest = contest({
  name: 'libipsec',
  about: "ESP in UDP on one core, no ESN, beside strongSwan's libipsec with its openssl plugin",
  peer: PEERS.libipsec,
  needs: [PEERS.compiler, PEERS.libipsec],
  algorithms: ['aes128gcm16'],
  engine: 'openssl',
  compile: () => compileC('libipsec', [`-L${STRONGSWAN}`, `-Wl,-rpath,${STRONGSWAN}`, '-lipsec', '-lstrongswan']),
  link: 'esp-udp',
  sameIv: () => false,
  notes: [`OpenSSL of this Node: ${process.versions.openssl}`],
  goal: () => 0.35,
});
