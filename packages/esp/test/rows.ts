import { Row, RowState } from '@espalier/wire';
import { ALGORITHMS, type AlgorithmName, type CryptoEngine, SaKey } from '@espalier/xfrm';
import type { Bench } from './bench-rows.ts';

/** Puts an ESP packet in a row as if the path had found it; returns the offset of the row's words. */
export function received(bench: Bench, esp: Uint8Array, key: number, seqHi: number): number {
  const r = bench.put(esp, RowState.RECEIVED);
  const { rows, view } = bench.slab;
  rows[r + Row.ESP] = rows[r + Row.START]!;
  rows[r + Row.KEY] = key;
  rows[r + Row.SEQ_LO] = esp.length >= 8 ? view.getInt32(rows[r + Row.START]! + 4) : 0;
  rows[r + Row.SEQ_HI] = seqHi;
  return r;
}

/** An ESP packet waiting for its seal: `text` is payload, padding and trailer. */
export function toSeal(
  bench: Bench,
  algorithm: AlgorithmName,
  text: Uint8Array,
  key: number,
  spi: number,
  seqLo: number,
  seqHi: number,
): number {
  const { ivLength, icvLength } = ALGORITHMS[algorithm];
  const packet = new Uint8Array(8 + ivLength + text.length + icvLength);
  new DataView(packet.buffer).setUint32(0, spi);
  new DataView(packet.buffer).setUint32(4, seqLo);
  packet.set(text, 8 + ivLength);
  const r = received(bench, packet, key, seqHi);
  bench.slab.rows[r + Row.STATE] = RowState.TO_SEAL;
  return r;
}

/** What lies between IV and ICV of row i of the burst. */
export function text(bench: Bench, i: number, algorithm: AlgorithmName): Uint8Array {
  const { ivLength, icvLength } = ALGORITHMS[algorithm];
  const packet = bench.bytes(i);
  return packet.slice(8 + ivLength, packet.length - icvLength);
}

export function install(engine: CryptoEngine, algorithm: AlgorithmName, material: Uint8Array, esn: boolean): number {
  return engine.install(algorithm, SaKey.import(algorithm, material), { esn });
}
