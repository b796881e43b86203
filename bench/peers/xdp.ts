/** AF_XDP on veth pairs: our rings beside a loop in C, and the whole way of a packet on one core. */
import { spawnSync } from 'node:child_process';
import type { Variant } from '../frame/scenario.ts';
import { bundleOurs, type Command, compileC } from './build.ts';
import {
  ask,
  bestOf,
  type Contest,
  type ContestOptions,
  costRatio,
  type Outcome,
  type Ratio,
  type Round,
  type Row,
  takeTurns,
} from './contest.ts';
import { run } from './net.ts';
import { PEERS } from './packages.ts';

const SIZE = 1400;
/** Frames that go round: as many as a kick sends twice. */
const GOING = 64;
/** C's time over ours, at least. */
const RATE_GOAL = 0.95;
/** Nanoseconds per packet: 0.75 million a second. */
const WHOLE_GOAL = 1e9 / 0.75e6;
const OURS = 'espalier';
const C = 'C, raw system calls';

const name = (what: string): string => `eb${process.pid % 10_000}${what}`;

/** All on one core, the interfaces' own work included. */
const pinned = ({ file, args }: Command): Command => ({ file: 'taskset', args: ['-c', '0', file, ...args] });

function pair(one: string, two: string): void {
  run('ip', 'link', 'add', one, 'type', 'veth', 'peer', 'name', two);
  for (const end of [one, two]) {
    run('sysctl', '-qw', `net.ipv6.conf.${end}.disable_ipv6=1`);
    run('ip', 'link', 'set', end, 'mtu', '1600', 'arp', 'off', 'up');
  }
}

async function contest(options: ContestOptions): Promise<Outcome> {
  const ours = pinned(await bundleOurs('xdp-espalier'));
  const c = pinned(compileC('xdp-loop', []));
  const forward: Variant = { work: 'receive, send on', size: SIZE };
  const wholes = ['encap', 'decap'].flatMap((work) =>
    ['', 'alone'].map((alone) => {
      const variant: Variant = { work: `receive, ${work}, split, send${alone ? '' : '; and the sender'}`, size: SIZE };
      return { work, alone, variant };
    }),
  );
  const rows: Row[] = [
    { variant: forward, contender: C, rounds: [] },
    { variant: forward, contender: OURS, rounds: [] },
    ...wholes.map(({ variant }) => ({ variant, contender: `${OURS}, ipsec-mb`, rounds: [] })),
  ];
  const ends = [name('a'), name('b')] as const;
  const slaves = [0, 1].map((i) => [`${name('s')}${i}`, `${name('t')}${i}`] as const);
  const pairs = [ends, ...slaves];
  try {
    for (const [one, two] of pairs) pair(one, two);
    await takeTurns(rows, options, async ({ variant, contender }) => {
      const ms = String(options.milliseconds);
      if (contender === C) return ask<Round>(c, ...ends, String(GOING), String(SIZE), ms);
      if (variant === forward) return ask<Round>(ours, 'forward', ...ends, String(GOING), String(SIZE), ms);
      const { work, alone } = wholes.find((w) => w.variant === variant)!;
      return ask<Round>(ours, work, ...ends, name('s'), String(SIZE), ms, alone);
    });
  } finally {
    for (const [one] of pairs) spawnSync('ip', ['link', 'del', one]);
  }
  const wholeRatios: Ratio[] = rows.slice(2).map((row) => {
    const least = bestOf(row, 'less');
    const held = least <= WHOLE_GOAL;
    return {
      variant: row.variant,
      ours: row.contender,
      peer: '0.75 M packets/s',
      ratio: WHOLE_GOAL / least,
      goal: '>= 1',
      held,
    };
  });
  return {
    contest: 'af-xdp',
    about: 'AF_XDP in copy mode on veth pairs, all on one core, in batches of 64',
    unit: 'ns per packet',
    better: 'less',
    rows,
    ratios: [...costRatio(rows, forward, OURS, C, 1 / RATE_GOAL), ...wholeRatios],
    missing: [],
    notes: [
      'A packet of the whole way crosses two veth pairs, one to us and one from us, all on this core.',
      'Without "the sender" the sending calls are left out, and with them what veth does there to receive: as if another core did it.',
    ],
  };
}

export const afXdp: Contest = {
  name: 'af-xdp',
  about: 'AF_XDP beside a loop in C',
  needs: [PEERS.compiler, PEERS.ipsecMb, PEERS.tools],
  peers: [],
  run: contest,
};
