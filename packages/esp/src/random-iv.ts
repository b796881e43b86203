/**
 * IVs that nobody can foresee, for CBC: RFC 3602 3 asks for that, since a sender whose next IV is known lets whoever can
 * choose plaintext test guesses at earlier blocks. They are drawn from the system's generator (SP 800-38A C allows this or
 * encrypting a counter under the key); with no state of an SA in them, workers and replicas need not agree on anything.
 * Many at a time, since a call costs as much as a packet.
 */
const POOL_BYTES = 4096;
const pool: Uint8Array = new Uint8Array(POOL_BYTES);
let at = POOL_BYTES;

export const RandomIv = {
  /** Fills `into` (at most 4096 bytes) with bytes that are used once. */
  draw(into: Uint8Array): void {
    if (at + into.length > POOL_BYTES) {
      crypto.getRandomValues(pool);
      at = 0;
    }
    for (let i = 0; i < into.length; i++) {
      into[i] = pool[at + i]!;
      pool[at + i] = 0;
    }
    at += into.length;
  },
};
