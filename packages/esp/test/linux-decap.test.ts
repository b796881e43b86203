import { readFileSync } from 'node:fs';
import { ReplayWindow } from '@espalier/replay';
import { Row, RowState } from '@espalier/wire';
import { ALGORITHMS, type AlgorithmName, dropName, SaKey } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { EspPath } from '../src/index.ts';
import { Bench, hex, toHex } from './bench-rows.ts';
import { HERE } from './every-engine.ts';

interface Sa {
  readonly id: number;
  readonly alg: string;
  readonly key: string;
  readonly mode: 'tunnel' | 'transport';
  readonly family: 4 | 6;
  readonly esn: boolean;
  readonly natt: boolean;
  readonly spi: number;
  readonly src: string;
  readonly dst: string;
  readonly window: number;
  readonly firstSeq: number;
}
interface Case {
  readonly sa: number;
  readonly name: string;
  readonly frame: string;
  readonly verdict: string;
  readonly delivered: string | null;
  readonly counters: Readonly<Record<string, number>>;
}
const corpus = JSON.parse(readFileSync(new URL('vectors/linux-decap.json', import.meta.url), 'utf8')) as {
  readonly sas: readonly Sa[];
  readonly cases: readonly Case[];
};
const NAMES: Readonly<Record<string, AlgorithmName>> = {
  'aes-gcm-128': 'aes128gcm16',
  'aes-gcm-256': 'aes256gcm16',
  'chacha20-poly1305': 'chacha20poly1305',
  'aes-cbc-128-sha256-128': 'aes128cbc-sha256',
};
const INNER =
  'the inner header is checked here (RFC 4303 3.4.4.1, RFC 791 3.1); Linux leaves that to the IP stack behind it';
const PADDING = 'padding is verified (RFC 4303 2.4, SHOULD); Linux does not look';
/** Where we differ from Linux 6.1, by SA and case, and why; everything else must agree. */
const DIFFERS: Readonly<Record<string, string>> = {
  '0 inner cut to 20': INNER,
  '0 inner ihl 15': INNER,
  '0 inner version 3': INNER,
  '2 inner ihl 4': INNER,
  '2 inner total length 19': INNER,
  '2 inner version 0': INNER,
  '12 inner ihl 0': INNER,
  '12 inner total length too large': INNER,
  '12 inner version 7': INNER,
  '12 next header says the other family': INNER,
  '24 inner cut to 39': INNER,
  '24 inner version 5': INNER,
  '24 next header 41': INNER,
  '0 pad length field 1, too large': PADDING,
  '0 padding bytes random': PADDING,
  '2 padding bytes random': PADDING,
  '6 pad length field 1, too large': PADDING,
  '6 padding bytes random': PADDING,
  '12 padding bytes random': PADDING,
  '24 padding bytes random': PADDING,
  '0 other source address':
    'an SA that names its source is found by it (RFC 4301 4.1); a NAT that moves is for the control plane',
  '2 ECN outer 3 inner 0': 'dropped (RFC 6040 4.2: CE outside, not ECN-capable inside)',
  '24 ECN outer 1 inner 2': 'ECT(1) outside is copied to ECT(0) inside (RFC 6040 4.2)',
  '2 TFC padding behind the inner packet': 'cut off by the length of the inner packet (RFC 4303 2.7)',
  '6 plaintext only pad length and next header': 'a transport packet without payload is an IP packet all the same',
  '6 next header 255': 'handed on: which protocols there are is for the stack behind us',
};

function addressOf(text: string): Uint8Array {
  if (text.includes('.')) return Uint8Array.from(text.split('.'), Number);
  const [left, right] = text.split('::').map((half) => half.split(':').filter((part) => part !== ''));
  const zeros = new Array(8 - left!.length - right!.length).fill('0');
  return Uint8Array.from(
    [...left!, ...zeros, ...right!].flatMap((p) => [Number.parseInt(p, 16) >> 8, Number.parseInt(p, 16) & 255]),
  );
}

describe.each(HERE)('frames that a Linux kernel has judged, engine %s', (name, make) => {
  it('meet the same fate here, but for a list with reasons', () => {
    const wrong: string[] = [];
    let judged = 0;
    const sas = corpus.sas.filter((sa) => make().algorithms.includes(NAMES[sa.alg]!));
    for (const sa of sas) {
      const algorithm = NAMES[sa.alg]!;
      const window = ReplayWindow.create({ size: sa.window, esn: sa.esn });
      if (sa.firstSeq > 0) window.acceptUpTo(sa.firstSeq - 1);
      const bench = new Bench(1);
      const path = new EspPath({ slab: bench.slab, engine: make(), maxSas: 1, linkType: 'ethernet', offloads: null });
      path.addInbound({
        slot: 0,
        spi: sa.spi,
        source: addressOf(sa.src),
        destination: addressOf(sa.dst),
        mode: sa.mode,
        algorithm,
        icvLength: ALGORITHMS[algorithm].icvLength,
        esn: sa.esn,
        key: SaKey.import(algorithm, hex(sa.key)).share(),
        encap: sa.natt ? { sport: 4500, dport: 4500 } : null,
        window: { memory: window.memory, offset: 0 },
      });
      for (const test of corpus.cases.filter((c) => c.sa === sa.id)) {
        bench.clear();
        bench.put(hex(test.frame), RowState.RECEIVED);
        path.inbound(bench.burst);
        const fate = bench.at(0, Row.FATE);
        const delivered = fate === 0 && toHex(bench.bytes(0)).endsWith(test.delivered ?? '');
        const same = test.verdict === 'deliver' ? delivered : fate !== 0;
        // A difference that is listed must be one: a list that has grown stale fails too.
        if (same === (DIFFERS[`${sa.id} ${test.name}`] !== undefined))
          wrong.push(`${sa.id} ${test.name}: Linux ${test.verdict}, here ${dropName(fate)}`);
        judged++;
      }
    }
    expect(wrong).toEqual([]);
    // The addon has some of the transforms only.
    if (!name.startsWith('native')) expect(judged).toBe(283);
    expect(judged).toBeGreaterThan(100);
  });
});
