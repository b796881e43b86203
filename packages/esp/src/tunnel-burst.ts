import type { Burst, IPV4_DF, IpProtocol, Row, RowState } from '@espalier/wire';
import type { OuterHeader } from './outer-header.ts';

/** What is the same for all packets of a tunnel SA. */
export interface TunnelShape {
  readonly header: OuterHeader;
  readonly ivLength: number;
  readonly icvLength: number;
  readonly blockLength: number;
  /** HASH of every packet. */
  readonly hash: number;
}

/**
 * A burst of packets of a tunnel over IPv4 whose flows nobody asks for: the same bytes as `OuterHeader.write` and
 * `writeTrailer` make one by one, and the same row (a test compares them), in a third of the time: what an SA's packets
 * have in common is loaded once a burst. `low` and `high` are the halves of the first row's number; KEY becomes `key`. Returns
 * the inner packets' bytes.
 */
export function writeTunnelBurst(
  burst: Burst,
  list: Int32Array,
  from: number,
  to: number,
  low: number,
  high: number,
  key: number,
  shape: TunnelShape,
): number {
  // Literals where V8 sees them, each held to the table by its type (a sixth of the time), and a row's words as `r | WORD`,
  // which cannot overflow. What comes from objects is made an integer once, not with every packet.
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
  const DF: typeof IPV4_DF = 0x4000;
  const IPV4: typeof IpProtocol.IPV4 = 4;
  const IPV6: typeof IpProtocol.IPV6 = 41;

  const { rows } = burst;
  const { bytes, view } = burst.slab;
  const { header } = shape;
  const { words, traffic } = header;
  const ivLength = shape.ivLength | 0;
  const icvLength = shape.icvLength | 0;
  const hash = shape.hash | 0;
  const keyNumber = key | 0;
  const copyDf = header.copyDf ? 1 : 0;
  const copyTtl = header.copyTtl ? 1 : 0;
  const constantSum = header.sum | 0;
  const l3At = header.l3 | 0;
  const udpAt = header.udp | 0;
  const espAt = header.esp | 0;
  const ahead = (header.length + ivLength) | 0;
  const link0 = words[0]!;
  const link1 = words[1]!;
  const link2 = words[2]!;
  const link3 = words[3]!;
  const first = words[4]!;
  const fixedFragment = words[5]! & 0xffff;
  const fixedTtl = words[6]! & 0xffff_0000;
  const source = words[7]!;
  const destination = words[8]!;
  const inUdp = espAt !== udpAt;
  const ports = words[9]!;
  const spi = inUdp ? words[11]! : ports;
  const blockMask = (shape.blockLength - 1) | 0;
  const last = to | 0;
  let hi = high | 0;
  let lo = low | 0;
  let sumOfBytes = 0;
  for (let i = from | 0; i < last; i = (i + 1) | 0) {
    const r = list[i]! << 4;
    const inner = rows[r | START]!;
    const innerEnd = rows[r | END]!;
    const length = (innerEnd - inner) | 0;
    sumOfBytes = (sumOfBytes + length) | 0;
    const word = view.getInt32(inner);
    const six = word >>> 28 === 6;

    const pad = -(length + 2) & blockMask;
    let tail = innerEnd;
    for (let k = 1; k <= pad; k = (k + 1) | 0) {
      bytes[tail] = k;
      tail = (tail + 1) | 0;
    }
    view.setUint16(tail, (pad << 8) | (six ? IPV6 : IPV4));
    const end = (tail + 2 + icvLength) | 0;

    const at = (inner - ahead) | 0;
    const l3 = (at + l3At) | 0;
    if (l3At !== 0) {
      view.setInt32(at, link0);
      view.setInt32((at + 4) | 0, link1);
      view.setInt32((at + 8) | 0, link2);
      view.setUint16((at + 12) | 0, link3);
    }
    const trafficClass = traffic[(six ? word >> 20 : word >> 16) & 0xff]!;
    let fragment = fixedFragment;
    let ttl = fixedTtl;
    let sum = constantSum;
    if (copyDf !== 0) {
      fragment = six ? DF : view.getInt32((inner + 4) | 0) & DF;
      sum = (sum + fragment) | 0;
    }
    if (copyTtl !== 0) {
      const hops = view.getUint8((inner + (six ? 7 : 8)) | 0) << 8;
      ttl |= hops << 16;
      sum = (sum + hops) | 0;
    }
    const outerLength = (end - l3) | 0;
    const id = lo & 0xffff;
    sum = (sum + trafficClass + outerLength + id) | 0;
    sum = ((sum & 0xffff) + (sum >>> 16)) | 0;
    sum = (sum + (sum >>> 16)) | 0;
    view.setInt32(l3, first | (trafficClass << 16) | outerLength);
    view.setInt32((l3 + 4) | 0, (id << 16) | fragment);
    view.setInt32((l3 + 8) | 0, ttl | (~sum & 0xffff));
    view.setInt32((l3 + 12) | 0, source);
    view.setInt32((l3 + 16) | 0, destination);
    const esp = (at + espAt) | 0;
    if (inUdp) {
      view.setInt32((at + udpAt) | 0, ports);
      view.setInt32((at + udpAt + 4) | 0, (end - at - udpAt) << 16);
    }
    view.setInt32(esp, spi);
    view.setInt32((esp + 4) | 0, lo);

    rows[r | START] = at;
    rows[r | END] = end;
    rows[r | L3] = l3;
    rows[r | ESP] = esp;
    rows[r | KEY] = keyNumber;
    rows[r | SEQ_LO] = lo;
    rows[r | SEQ_HI] = hi;
    rows[r | STATE] = TO_SEAL;
    rows[r | FLOW] = 0;
    rows[r | HASH] = hash;
    lo = (lo + 1) | 0;
    if (lo === 0) hi = (hi + 1) | 0;
  }
  return sumOfBytes;
}
