/** Which engine seals and opens: chosen once per worker, overridable, said aloud. */
import { type AeadProvider, jointEngine, nativeEngine, nobleEngine, SECOND_KEYS } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { aead, load } from '@espalier/native';
import { type CryptoEngine, XfrmError } from '@espalier/xfrm';

/**
 * `auto` takes the first of native (ipsec-mb), native (openssl), node. Measured in one run, AES-128-GCM, 1400 bytes, ns per
 * packet sealed: 95, 419, 3036 (noble about 20 000), and in this order at 64 bytes and for ChaCha20-Poly1305 too.
 */
export type EngineName = 'auto' | 'ipsec-mb' | 'openssl' | 'node' | 'noble';
export const ENGINE_NAMES: readonly EngineName[] = ['auto', 'ipsec-mb', 'openssl', 'node', 'noble'];

/** Throws XfrmError UNSUPPORTED when an engine is asked for by name and is not on this machine. */
export function openEngine(name: EngineName): CryptoEngine {
  if (name === 'noble') return nobleEngine();
  if (name === 'node') return nodeEngine();
  const addon = aead();
  const providers = name === 'auto' ? (['ipsec-mb', 'openssl'] as const) : [name];
  for (const provider of providers) {
    const engine = addon === null ? null : nativeEngine(addon, provider);
    // What the addon has not got (CCM, GMAC, CTR) node:crypto does.
    if (engine !== null) return jointEngine(engine, nodeEngine({ firstKey: SECOND_KEYS }));
  }
  if (name === 'auto') return nodeEngine();
  throw new XfrmError({ code: 'UNSUPPORTED', device: 'the gateway', what: `engine ${name} (${whyNot(name)})` });
}

/** The engine that a name opens, and why it is that one: for `auto`, what is faster and not here. */
export function describeEngine(name: EngineName): string {
  const engine = openEngine(name);
  if (name !== 'auto') return `${engine.name}, as asked`;
  const missing: string[] = [];
  for (const provider of ['ipsec-mb', 'openssl'] as const) {
    const reason = whyNot(provider);
    if (reason === null) break;
    missing.push(`no ${provider} (${reason})`);
  }
  return `${engine.name}, ${missing.length === 0 ? 'the fastest there is' : `for want of a faster one: ${missing.join(', ')}`}`;
}

/** Why a provider of the addon's is not on this machine, or null. */
function whyNot(provider: AeadProvider): string | null {
  const found = load();
  if (found.binding === null) return `no native addon: ${found.reason}; ${found.mend}`;
  if (nativeEngine(aead()!, provider) !== null) return null;
  return provider === 'ipsec-mb'
    ? 'libipsec-mb 1.1 to 1.5 is not installed; Debian: apt-get install libipsec-mb1'
    : 'this node binary does not export its OpenSSL';
}
