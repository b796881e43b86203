import type { Burst, IpProtocol, Row, RowState } from '@espalier/wire';
import type { TunnelShape } from './tunnel-burst.ts';

/** Whether words of this machine have their first byte lowest, as `writeTunnelWords` takes for granted. */
export const LITTLE_ENDIAN: boolean = new Uint8Array(Int32Array.of(1).buffer)[0] === 1;

/**
 * What `writeTunnelBurst` writes, where LITTLE_ENDIAN, for packets whose START is a multiple of 4 and whose cipher wants no
 * blocks but ESP's 4 bytes: in words of this machine, in three quarters of the time. An Ethernet header, 14 bytes, takes four
 * words, so that the two bytes in front of it become 0; they are in the packet's own frame.
 */
export function writeTunnelWords(
  burst: Burst,
  list: Int32Array,
  from: number,
  to: number,
  low: number,
  high: number,
  key: number,
  shape: TunnelShape,
): number {
  // As in `writeTunnelBurst`, but indices are made of what V8 knows to be from 0 to 2^30: it extends no sign then and looks for
  // no overflow. And a row is done as soon as its columns are known: there are more values than registers.
  const START: typeof Row.START = 0;
  const END: typeof Row.END = 1;
  const L3: typeof Row.L3 = 2;
  const ESP: typeof Row.ESP = 3;
  const KEY: typeof Row.KEY = 5;
  const SEQ_LO: typeof Row.SEQ_LO = 6;
  const SEQ_HI: typeof Row.SEQ_HI = 7;
  const STATE: typeof Row.STATE = 8;
  const FLOW: typeof Row.FLOW = 10;
  const HASH: typeof Row.HASH = 15;
  const TO_SEAL: typeof RowState.TO_SEAL = 1;
  const IPV4: typeof IpProtocol.IPV4 = 4;
  const IPV6: typeof IpProtocol.IPV6 = 41;

  const { rows } = burst;
  const { words } = burst.slab;
  const { header } = shape;
  const { native, traffic } = header;
  const icvLength = shape.icvLength | 0;
  const hash = shape.hash | 0;
  const keyNumber = key | 0;
  const copyDf = header.copyDf ? 1 : 0;
  const copyTtl = header.copyTtl ? 1 : 0;
  const constantSum = header.nativeSum | 0;
  const l3At = header.l3 | 0;
  const linked = l3At !== 0;
  const inUdp = header.esp !== header.udp;
  const espAhead = (8 + shape.ivLength) | 0;
  const l3Ahead = (header.length - l3At + shape.ivLength) | 0;
  const link0 = native[0]!;
  const link1 = native[1]!;
  const link2 = native[2]!;
  const link3 = native[3]!;
  const first = native[4]! & 0xffff;
  const fixedFragment = native[5]! >>> 16;
  const fixedTtl = native[6]! & 0xffff;
  const source = native[7]!;
  const destination = native[8]!;
  const ports = native[9]!;
  const spi = inUdp ? native[11]! : ports;
  const last = to | 0;
  let hi = high | 0;
  let lo = low | 0;
  let sumOfBytes = 0;
  for (let i = from | 0; i < last; i = (i + 1) | 0) {
    const r = (list[i]! & 0x3ff_ffff) << 4;
    const inner = rows[r + START]!;
    const innerEnd = rows[r + END]!;
    const length = (innerEnd - inner) | 0;
    sumOfBytes = (sumOfBytes + length) | 0;
    const w = inner >>> 2;
    const word = words[w]!;
    const six = (word & 0xf0) === 0x60;

    // The last of the trailer's words holds what is left of the packet, padding, its length, next header.
    const pad = -(length + 2) & 3;
    const tail = (innerEnd + pad) >>> 2;
    if (pad === 3) words[(tail - 1) | 0] = (words[(tail - 1) | 0]! & 0xff_ffff) | 0x100_0000;
    const trailer = (pad << 16) | (six ? IPV6 << 24 : IPV4 << 24);
    const padding = pad === 0 ? 0 : 0x101 * pad - 1;
    words[tail] = (words[tail]! & (0xffff >>> (8 * pad))) | padding | trailer;
    const end = ((tail << 2) + 4 + icvLength) | 0;
    const l3 = (inner - l3Ahead) | 0;
    const esp = (inner - espAhead) | 0;
    rows[r + START] = (l3 - l3At) | 0;
    rows[r + END] = end;
    rows[r + L3] = l3;
    rows[r + ESP] = esp;
    rows[r + KEY] = keyNumber;
    rows[r + SEQ_LO] = lo;
    rows[r + SEQ_HI] = hi;
    rows[r + STATE] = TO_SEAL;
    rows[r + FLOW] = 0;
    rows[r + HASH] = hash;

    const o = l3 >>> 2;
    if (linked) {
      const b = (l3 - 16) >>> 2;
      words[b] = link0;
      words[b + 1] = link1;
      words[b + 2] = link2;
      words[b + 3] = link3;
    }
    // As they lie in the packet: the first byte of each field is the low one.
    const trafficClass = traffic[six ? ((word & 0xf) << 4) | ((word >>> 12) & 0xf) : (word >>> 8) & 0xff]!;
    let fragment = fixedFragment;
    let ttl = fixedTtl;
    if (copyDf !== 0) fragment = six ? 0x40 : (words[w + 1]! >>> 16) & 0x40;
    if (copyTtl !== 0) ttl |= six ? words[w + 1]! >>> 24 : words[w + 2]! & 0xff;
    const outerLength = (end - l3) | 0;
    const tosWord = first | (trafficClass << 8);
    const lengthWord = ((outerLength & 0xff) << 8) | (outerLength >>> 8);
    const id = ((lo & 0xff) << 8) | ((lo >>> 8) & 0xff);
    // The one's complement sum has no byte order (RFC 1071 2).
    let sum = (constantSum + tosWord + lengthWord + id + fragment + ttl) | 0;
    sum = ((sum & 0xffff) + (sum >>> 16)) | 0;
    sum = (sum + (sum >>> 16)) | 0;
    words[o] = tosWord | (lengthWord << 16);
    words[o + 1] = id | (fragment << 16);
    words[o + 2] = ttl | (~sum << 16);
    words[o + 3] = source;
    words[o + 4] = destination;
    const e = esp >>> 2;
    if (inUdp) {
      const udpLength = (outerLength - 20) | 0;
      words[(e - 2) | 0] = ports;
      words[(e - 1) | 0] = ((udpLength & 0xff) << 8) | (udpLength >>> 8);
    }
    words[e] = spi;
    words[e + 1] = (id << 16) | (((lo >>> 16) & 0xff) << 8) | (lo >>> 24);

    lo = (lo + 1) | 0;
    if (lo === 0) hi = (hi + 1) | 0;
  }
  return sumOfBytes;
}
