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
  /** Bytes in front of the ESP header in the peer's frames, and in ours. */
  readonly peerHeader: number;
  /** Most that ours may cost, as a part of the peer's. */
  readonly goal: (variant: Variant) => number;
}

const OUR_HEADER = 34;

/** Frames of `file`, from the ESP header on. */
function espOf(file: string, header: number): Buffer {
  const bytes = readFileSync(file);
  const frames: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 2 + bytes.readUInt16BE(at))
    frames.push(bytes.subarray(at + 2 + header, at + 2 + bytes.readUInt16BE(at)));
  return Buffer.concat(frames);
}

async function run(c: EspContest, options: ContestOptions): Promise<Outcome> {
  const peer = titled(c.peer);
  const ours = `espalier, ${c.engine}`;
  const commands: Record<string, Command> = { [peer]: c.compile(), [ours]: await oursWith(c.engine) };
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
    if (!espOf(sealedBy(peer, v), c.peerHeader).equals(espOf(sealedBy(ours, v), OUR_HEADER)))
      throw new Error(`${c.name}: ${v.algorithm}, ${v.size}: ours and the peer seal to different bytes`);
    await task(ours, 'open', sealedBy(ours, v));
    await task(peer, 'open', sealedBy(peer, v));
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
  return { contest: c.name, about: c.about, unit: 'ns per packet', rows, ratios, missing: [], notes: [] };
}

async function oursWith(engine: string): Promise<Command> {
  const { file, args } = await bundleOurs('esp-espalier');
  return { file, args: [...args, engine] };
}

function contest(c: EspContest): Contest {
  return { name: c.name, about: c.about, needs: c.needs, peers: [], run: (options) => run(c, options) };
}

export const dpdk: Contest = contest({
  name: 'dpdk',
  about: 'ESP in bursts of 32 on one core, ESN, window of 1024, beside librte_ipsec with a cpu-crypto device',
  peer: PEERS.dpdk,
  needs: [PEERS.compiler, PEERS.dpdk, PEERS.ipsecMb],
  algorithms: ['aes128gcm16', 'chacha20poly1305'],
  engine: 'ipsec-mb',
  compile: () => {
    const libraries = ['eal', 'ipsec', 'cryptodev', 'mbuf', 'mempool'].map((l) => `-lrte_${l}`);
    return compileC('dpdk-ipsec', ['-Wno-deprecated-declarations', ...pkgConfig('--cflags', 'libdpdk'), ...libraries]);
  },
  peerHeader: 34,
  goal: ({ work, algorithm }) => (algorithm === 'chacha20poly1305' ? 1.1 : work === 'encap' ? 1 : 0.95),
});
