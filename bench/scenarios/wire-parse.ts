import {
  checkIpv4,
  checkIpv6,
  classifyUdp,
  flowHash,
  IpCheck,
  Ipv4,
  Row,
  RowState,
  readEtherType,
  readIhl,
  UdpClass,
  walkIpv6,
} from '@espalier/wire';
import { Desk, engineOf, pathOf, protectAll, saPair } from '../frame/desk.ts';
import { ipv4, ipv6, V6 } from '../frame/packets.ts';
import { product, type Scenario, type Variant } from '../frame/scenario.ts';

const FRAMES = 256;
const ETHERNET = 14;

/** Offset of the ESP header in an Ethernet frame, 0 when there is none: every check a receiver makes on the way. */
function parse(view: DataView, start: number, end: number): number {
  const l3 = start + ETHERNET;
  let l4: number;
  let protocol: number;
  if (readEtherType(view, start) === 0x0800) {
    if (checkIpv4(view, l3, end) !== IpCheck.OK) return 0;
    protocol = view.getUint8(l3 + Ipv4.PROTOCOL);
    l4 = l3 + readIhl(view, l3);
  } else {
    if (checkIpv6(view, l3, end) !== IpCheck.OK) return 0;
    const walk = walkIpv6(view, l3, end);
    if (walk < 0) return 0;
    protocol = walk % 256;
    l4 = Math.floor(walk / 256);
  }
  if (protocol === 50) return l4;
  return classifyUdp(view, l4, end) === UdpClass.ESP ? l4 + 8 : 0;
}

/** Frames of one outer kind as a gateway sends them. */
function frames(outer: Variant[string]): Desk {
  const desk = new Desk(FRAMES);
  const path = pathOf(desk, engineOf('none'));
  const sa = saPair('aes128gcm16');
  const encap = outer === 'ipv4 udp' ? { sport: 4500, dport: 4500 } : null;
  path.addOutbound({ ...sa.out, ...(outer === 'ipv6' ? V6 : {}), encap });
  path.setPolicies(protectAll(0));
  for (let i = 0; i < FRAMES; i++) desk.put(ipv4(64 + (i % 4), i), RowState.UNSET);
  path.outbound(desk.burst);
  desk.packets();
  return desk;
}

export default {
  name: 'wire-parse',
  about: 'Ethernet to the ESP header with all checks, and the flow hash of an inner packet',
  variants: [
    ...product({ what: ['outer'], frame: ['ipv4', 'ipv6', 'ipv4 udp'] }),
    ...product({ what: ['flow hash'], frame: ['ipv4', 'ipv6'] }),
  ],
  prove() {
    for (const outer of ['ipv4', 'ipv6', 'ipv4 udp']) {
      const { burst, slab } = frames(outer);
      const want = { ipv4: 34, ipv6: 54, 'ipv4 udp': 42 }[outer]!;
      for (let i = 0; i < burst.length; i++) {
        const start = burst.rows[burst.list[i]! * Row.WORDS + Row.START]!;
        const end = burst.rows[burst.list[i]! * Row.WORDS + Row.END]!;
        const at = parse(slab.view, start, end) - start;
        if (at !== want) throw new Error(`${outer}: ESP header at ${at}, it lies at ${want}`);
        if (slab.view.getUint32(start + at) !== 0x1000) throw new Error(`${outer}: no SPI at ${at}`);
        // A frame cut anywhere before its end is no ESP frame.
        if (parse(slab.view, start, end - 1) !== 0) throw new Error(`${outer}: a truncated frame was parsed`);
      }
    }
    for (const make of [ipv4, ipv6]) {
      const hashes = new Set(
        Array.from({ length: 64 }, (_, flow) => flowHash(new DataView(make(100, flow).buffer), 0, 100)),
      );
      if (hashes.size < 60) throw new Error(`64 flows have ${hashes.size} hashes`);
    }
  },
  run({ what, frame }) {
    const desk = what === 'outer' ? frames(frame!) : new Desk(FRAMES);
    if (what !== 'outer')
      for (let i = 0; i < FRAMES; i++) desk.put(frame === 'ipv4' ? ipv4(64, i) : ipv6(64, i), RowState.UNSET);
    const { burst, slab } = desk;
    const { rows, list } = burst;
    const { view } = slab;
    const read = what === 'outer' ? parse : flowHash;
    let sum = 0;
    return {
      packets: FRAMES,
      step: () => {
        for (let i = 0; i < FRAMES; i++) {
          const r = list[i]! * Row.WORDS;
          sum = (sum + read(view, rows[r + Row.START]!, rows[r + Row.END]!)) | 0;
        }
      },
      close: () => {
        if (sum === 0.5) throw new Error('unreachable: keeps the sum alive');
      },
    };
  },
} satisfies Scenario;
