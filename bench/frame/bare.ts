import { createCipheriv, createDecipheriv, createHmac, createSecretKey } from 'node:crypto';
import { ALGORITHMS, type AlgorithmName, keyParts } from '@espalier/xfrm';
import { cbc, gcm } from '@noble/ciphers/aes.js';
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';

/**
 * A library's cipher as its manual says to call it, one packet at a time, the result put back where the text was and
 * nothing else around it. `place` is text and ICV; `length` that of the text; `iv` the nonce, or CBC's IV.
 */
export interface Bare {
  seal(iv: Uint8Array, aad: Uint8Array, place: Uint8Array, length: number): void;
  /** Throws when the ICV does not hold. */
  open(iv: Uint8Array, aad: Uint8Array, place: Uint8Array, length: number): void;
}

export function bareNoble(algorithm: AlgorithmName, material: Uint8Array): Bare {
  const { cipher: key, integrity } = keyParts(algorithm, material);
  if (ALGORITHMS[algorithm].hash !== null) {
    const icvOf = (iv: Uint8Array, aad: Uint8Array, text: Uint8Array): Uint8Array =>
      hmac.create(sha256, integrity).update(aad.subarray(0, 8)).update(iv).update(text).digest().subarray(0, 16);
    return {
      seal: (iv, aad, place, length) => {
        const text = place.subarray(0, length);
        place.set(cbc(key, iv, { disablePadding: true }).encrypt(text));
        place.set(icvOf(iv, aad, text), length);
      },
      open: (iv, aad, place, length) => {
        const text = place.subarray(0, length);
        if (Buffer.compare(icvOf(iv, aad, text), place.subarray(length)) !== 0) throw new Error('bad ICV');
        place.set(cbc(key, iv, { disablePadding: true }).decrypt(text));
      },
    };
  }
  const cipher = algorithm === 'chacha20poly1305' ? chacha20poly1305 : gcm;
  return {
    seal: (iv, aad, place, length) => place.set(cipher(key, iv, aad).encrypt(place.subarray(0, length))),
    open: (iv, aad, place) => place.set(cipher(key, iv, aad).decrypt(place)),
  };
}

export function bareNode(algorithm: AlgorithmName, material: Uint8Array): Bare {
  const parts = keyParts(algorithm, material);
  const key = createSecretKey(parts.cipher);
  const bits = parts.cipher.length * 8;
  if (ALGORITHMS[algorithm].hash !== null) {
    const integrity = createSecretKey(parts.integrity);
    const name = `aes-${bits}-cbc`;
    const icvOf = (iv: Uint8Array, aad: Uint8Array, text: Uint8Array): Uint8Array =>
      createHmac('sha256', integrity).update(aad.subarray(0, 8)).update(iv).update(text).digest().subarray(0, 16);
    return {
      seal: (iv, aad, place, length) => {
        const text = place.subarray(0, length);
        const cipher = createCipheriv(name, key, iv).setAutoPadding(false);
        place.set(cipher.update(text));
        cipher.final();
        place.set(icvOf(iv, aad, text), length);
      },
      open: (iv, aad, place, length) => {
        const text = place.subarray(0, length);
        if (Buffer.compare(icvOf(iv, aad, text), place.subarray(length)) !== 0) throw new Error('bad ICV');
        const decipher = createDecipheriv(name, key, iv).setAutoPadding(false);
        place.set(decipher.update(text));
        decipher.final();
      },
    };
  }
  // Node's types know the calls of GCM; ChaCha20-Poly1305 has the same.
  const name = (algorithm === 'chacha20poly1305' ? 'chacha20-poly1305' : `aes-${bits}-gcm`) as 'aes-128-gcm';
  const tag = { authTagLength: 16 };
  return {
    seal: (iv, aad, place, length) => {
      const cipher = createCipheriv(name, key, iv, tag);
      cipher.setAAD(aad);
      place.set(cipher.update(place.subarray(0, length)));
      cipher.final();
      place.set(cipher.getAuthTag(), length);
    },
    open: (iv, aad, place, length) => {
      const decipher = createDecipheriv(name, key, iv, tag);
      decipher.setAAD(aad);
      decipher.setAuthTag(place.subarray(length));
      const plain = decipher.update(place.subarray(0, length));
      decipher.final();
      place.set(plain);
    },
  };
}
