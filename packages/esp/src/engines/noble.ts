import type { CryptoEngine } from '@espalier/xfrm';
import { sha1 } from '@noble/hashes/legacy.js';
import { sha256, sha384, sha512 } from '@noble/hashes/sha2.js';
import { type EngineOptions, RowEngine } from '../row-engine.ts';
import type { CipherSuite } from '../transform.ts';
import { NobleCbc, NobleCcm, NobleCtr, NobleGcm } from './noble-aes.ts';
import { NobleChacha } from './noble-chacha.ts';
import { NobleHmac } from './noble-hmac.ts';

/** noble's pieces. */
export const NOBLE_SUITE: CipherSuite = {
  aeads: {
    'aes-gcm': (key, icvLength) => new NobleGcm(key, icvLength),
    'aes-ccm': (key, icvLength) => new NobleCcm(key, icvLength),
    'chacha20-poly1305': (key) => new NobleChacha(key),
  },
  ciphers: {
    'aes-cbc': (key) => new NobleCbc(key),
    'aes-ctr': (key) => new NobleCtr(key),
  },
  macs: {
    sha256: (key) => new NobleHmac(sha256, key),
    sha384: (key) => new NobleHmac(sha384, key),
    sha512: (key) => new NobleHmac(sha512, key),
    sha1: (key) => new NobleHmac(sha1, key),
  },
};

/** Pure JavaScript on @noble, everywhere; has every algorithm. AES there uses tables: not constant-time against a local attacker. */
export function nobleEngine(options: EngineOptions = {}): CryptoEngine {
  return new RowEngine('noble', NOBLE_SUITE, options);
}
