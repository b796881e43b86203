import type { CryptoEngine } from '@espalier/xfrm';
// The addon's engines are tested like the others, where there is an addon; no package of ours depends on it for that.
import { aead } from '../../native/src/aead.ts';
import { load } from '../../native/src/binding.ts';
import { nodeEngine } from '../src/engines/node.ts';
import {
  type AeadProvider,
  type EngineOptions,
  jointEngine,
  nativeEngine,
  nobleEngine,
  SECOND_KEYS,
} from '../src/index.ts';

/** An engine of a name, or why this machine has none. */
export interface Maker {
  readonly name: string;
  readonly make: (options?: EngineOptions) => CryptoEngine;
  readonly missing: string;
}

const MEND: Readonly<Record<AeadProvider, string>> = {
  'ipsec-mb': 'apt-get install libipsec-mb1',
  openssl: 'a node with OpenSSL 3 in it',
};

function native(provider: AeadProvider): Maker {
  const addon = aead();
  const found = load();
  const there = addon !== null && nativeEngine(addon, provider) !== null;
  const missing = there ? '' : found.binding === null ? found.reason : `no ${provider} here: ${MEND[provider]}`;
  return { name: `native-${provider}`, make: () => nativeEngine(addon!, provider)!, missing };
}

/** Every engine there is, those that are missing here too: their tests say why they are skipped. */
export const ENGINES: readonly Maker[] = [
  { name: 'noble', make: nobleEngine, missing: '' },
  { name: 'node', make: nodeEngine, missing: '' },
  native('ipsec-mb'),
  native('openssl'),
];

/** For `describe.each`: title, then maker. */
export const HERE: [string, Maker['make']][] = ENGINES.filter((e) => e.missing === '').map((e) => [e.name, e.make]);

/** For `it.skip.each`: what is missing. */
export const MISSING: readonly string[] = ENGINES.filter((e) => e.missing !== '').map((e) => `${e.name}: ${e.missing}`);

/** An engine with every transform: the addon's has node for those that it lacks, as in the gateway. */
export function whole(name: string): CryptoEngine {
  const maker = ENGINES.find((e) => e.name === name);
  if (maker?.missing !== '') throw new Error(`no engine ${name}: ${maker?.missing ?? 'no such name'}`);
  return name.startsWith('native') ? jointEngine(maker.make(), nodeEngine({ firstKey: SECOND_KEYS })) : maker.make();
}

/** For fuzzing: what ESPALIER_ENGINE names, else node and the addon's first where there is one. */
export const FUZZED: readonly string[] = process.env.ESPALIER_ENGINE?.split(',') ?? [
  'node',
  ...HERE.map(([name]) => name)
    .filter((name) => name.startsWith('native'))
    .slice(0, 1),
];
