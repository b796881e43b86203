/**
 * The far end of an 802.3ad bond's links, as little of IEEE 802.1AX as brings an aggregator up: every LACPDU is answered with
 * one that says "one system, one key, in sync, collecting, distributing".
 */
import type { Cable } from './cable.ts';

const LACPDU_LENGTH = 124;
const ETHERTYPE = 12;
const SUBTYPE = 14;
const ACTOR = 16;
const PARTNER = 36;
const COLLECTOR = 56;
/** Bytes of the information in an actor's or partner's TLV, behind type and length. */
const INFORMATION = 18;
/** Active, short timeout, aggregatable, in sync, collecting, distributing. */
const STATE = 0x3f;

export function isLacpdu(frame: Uint8Array): boolean {
  return (
    frame.length >= LACPDU_LENGTH &&
    frame[ETHERTYPE] === 0x88 &&
    frame[ETHERTYPE + 1] === 0x09 &&
    frame[SUBTYPE] === 1 &&
    frame[ACTOR] === 1
  );
}

/** Answers on every cable until the returned function is called. */
export function lacpPartner(cables: readonly Cable[]): () => void {
  const ends = cables.map((cable, i) =>
    cable.onFrame((frame) => {
      if (isLacpdu(frame)) cable.send(answer(frame, i + 1));
    }),
  );
  return () => {
    for (const end of ends) end();
  };
}

function answer(heard: Uint8Array, port: number): Uint8Array {
  const system = [0x02, 0x6c, 0x61, 0x63, 0x70, 0x01];
  const frame = new Uint8Array(LACPDU_LENGTH);
  frame.set([0x01, 0x80, 0xc2, 0x00, 0x00, 0x02, 0x02, 0x6c, 0x61, 0x63, 0x70, port, 0x88, 0x09, 1, 1]);
  // System priority, system, key, port priority, port, state.
  frame.set([1, 20, 0xff, 0xff, ...system, 0, 1, 0, 0xff, 0, port, STATE], ACTOR);
  frame.set([2, 20], PARTNER);
  frame.set(heard.subarray(ACTOR + 2, ACTOR + 2 + INFORMATION), PARTNER + 2);
  frame.set([3, 16], COLLECTOR);
  return frame;
}
