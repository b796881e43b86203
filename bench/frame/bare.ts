import { createCipheriv, createDecipheriv, createSecretKey } from 'node:crypto';
import type { AlgorithmName } from '@espalier/xfrm';
import { gcm } from '@noble/ciphers/aes.js';
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';

/** A library's cipher as its manual says to call it, one packet at a time, with nothing around it. */
export interface Bare {
  seal(nonce: Uint8Array, aad: Uint8Array, plain: Uint8Array): Uint8Array;
  open(nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array;
}

export function bareNoble(algorithm: AlgorithmName, key: Uint8Array): Bare {
  const cipher = algorithm === 'chacha20poly1305' ? chacha20poly1305 : gcm;
  return {
    seal: (nonce, aad, plain) => cipher(key, nonce, aad).encrypt(plain),
    open: (nonce, aad, sealed) => cipher(key, nonce, aad).decrypt(sealed),
  };
}

export function bareNode(algorithm: AlgorithmName, raw: Uint8Array): Bare {
  // Node's types know the calls of GCM; ChaCha20-Poly1305 has the same.
  const name = (
    algorithm === 'chacha20poly1305' ? algorithm.replace('20p', '20-p') : `aes-${raw.length * 8}-gcm`
  ) as 'aes-128-gcm';
  const key = createSecretKey(raw);
  const tag = { authTagLength: 16 };
  return {
    seal: (nonce, aad, plain) => {
      const cipher = createCipheriv(name, key, nonce, tag);
      cipher.setAAD(aad);
      const body = cipher.update(plain);
      cipher.final();
      const sealed = new Uint8Array(plain.length + 16);
      sealed.set(body);
      sealed.set(cipher.getAuthTag(), plain.length);
      return sealed;
    },
    open: (nonce, aad, sealed) => {
      const decipher = createDecipheriv(name, key, nonce, tag);
      decipher.setAAD(aad);
      decipher.setAuthTag(sealed.subarray(sealed.length - 16));
      const plain = decipher.update(sealed.subarray(0, sealed.length - 16));
      decipher.final();
      return plain;
    },
  };
}
