/**
 * Addresses, SPIs, numbers and keys of every combination:
 *
 *     network a of the kernel --- cable --- our gateway --- cable --- network b of the same kernel
 *
 * Each combination has inner addresses of its own at both ends and four SAs: a to the gateway and back, b to the gateway and
 * back. A packet from a to b is sealed by Linux, opened and sealed again by us, and opened by Linux.
 */
import { createHash } from 'node:crypto';
import { ALGORITHMS } from '@espalier/xfrm';
import type { Combination } from './esp-combinations.ts';

export const SIDES = ['a', 'b'] as const;
export type Side = (typeof SIDES)[number];
export const otherSide = (side: Side): Side => (side === 'a' ? 'b' : 'a');

interface Outer {
  readonly 4: string;
  readonly 6: string;
}

/** The kernel's NIC and our end, outer addresses by family. */
export const LINKS: Readonly<Record<Side, { readonly mac: string; readonly outer: Outer; readonly gateway: Outer }>> = {
  a: {
    mac: '02:00:00:00:0a:01',
    outer: { 4: '192.0.2.1', 6: '2001:db8:a::1' },
    gateway: { 4: '192.0.2.2', 6: '2001:db8:a::2' },
  },
  b: {
    mac: '02:00:00:00:0b:01',
    outer: { 4: '198.51.100.1', 6: '2001:db8:b::1' },
    gateway: { 4: '198.51.100.2', 6: '2001:db8:b::2' },
  },
};
export const GATEWAY_MAC = '02:00:00:00:00:02';

/** One SA as both its ends have it. */
export interface PlannedSa {
  readonly spi: number;
  /** Outer addresses. */
  readonly source: string;
  readonly destination: string;
  /** Key material as in `SaKey`. */
  readonly key: Buffer;
}

/** One combination with all it needs. */
export interface Planned extends Combination {
  readonly index: number;
  /** Of the inner packet. */
  readonly inner: Readonly<Record<Side, string>>;
  readonly innerFamily: 4 | 6;
  /** The last number before those of the test, for all four SAs. */
  readonly start: number;
  /** From the side into the gateway, and out of the gateway to it. */
  readonly toGateway: Readonly<Record<Side, PlannedSa>>;
  readonly fromGateway: Readonly<Record<Side, PlannedSa>>;
}

/** So few numbers before 2^32 that a ping and a TCP connection cross it; without ESN, where a signed number would turn. */
const START_ESN: number = 2 ** 32 - 16;
const START: number = 2 ** 31 - 16;

export function plan(combinations: readonly Combination[]): Planned[] {
  return combinations.map((combination, index) => {
    const innerFamily = combination.family[0] === '4' ? 4 : 6;
    const outerFamily = combination.family[3] === '4' ? 4 : 6;
    const inner = { a: innerAddress('a', innerFamily, index), b: innerAddress('b', innerFamily, index) };
    const sa = (side: Side, inward: boolean): PlannedSa => {
      const spi = 0x10000 + 4 * index + 2 * SIDES.indexOf(side) + Number(inward);
      const transport = combination.mode === 'transport';
      const near = transport ? inner[side] : LINKS[side].outer[outerFamily];
      const far = transport ? inner[otherSide(side)] : LINKS[side].gateway[outerFamily];
      return {
        spi,
        source: inward ? near : far,
        destination: inward ? far : near,
        key: keyOf(spi, ALGORITHMS[combination.algorithm].keyLength),
      };
    };
    return {
      ...combination,
      index,
      inner,
      innerFamily,
      start: combination.esn ? START_ESN : START,
      toGateway: { a: sa('a', true), b: sa('b', true) },
      fromGateway: { a: sa('a', false), b: sa('b', false) },
    };
  });
}

function innerAddress(side: Side, family: 4 | 6, index: number): string {
  const n = index + 1;
  const net = side === 'a' ? 1 : 2;
  return family === 4 ? `10.${net}.${n >> 8}.${n & 255}` : `fd00:${net}::${n.toString(16)}`;
}

function keyOf(spi: number, length: number): Buffer {
  return createHash('shake256', { outputLength: length }).update(`key of ${spi}`).digest();
}
