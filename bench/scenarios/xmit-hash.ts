import { XMIT_HASH_POLICIES, type XmitHashPolicy, xmitHash } from '@espalier/bond';
import { V4, V6 } from '../frame/packets.ts';
import { product, type Scenario } from '../frame/scenario.ts';

const FRAMES = 256;
const SLOT = 128;

/** Ethernet and IP headers and an SPI, one frame per SPI, in one buffer. */
function frames(family: string): DataView {
  const view = new DataView(new SharedArrayBuffer(FRAMES * SLOT));
  const bytes = new Uint8Array(view.buffer);
  const put = (at: number, what: Uint8Array): void => bytes.set(what, at);
  for (let i = 0; i < FRAMES; i++) {
    const at = i * SLOT;
    put(at, Uint8Array.of(2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1));
    if (family === 'ipv4') {
      view.setUint16(at + 12, 0x0800);
      view.setUint8(at + 14, 0x45);
      view.setUint8(at + 23, 50);
      put(at + 26, V4.source);
      put(at + 30, V4.destination);
    } else {
      view.setUint16(at + 12, 0x86dd);
      view.setUint8(at + 14, 0x60);
      view.setUint8(at + 20, 50);
      put(at + 22, V6.source);
      put(at + 38, V6.destination);
    }
    view.setUint32(at + (family === 'ipv4' ? 34 : 54), 0x1000 + 2 * i);
  }
  return view;
}

/** layer3+4 of an ESP frame from its definition: the words x86 would load, folded, the lowest bit gone. */
function naive(view: DataView, at: number, family: string): number {
  const words = family === 'ipv4' ? [26, 30, 34] : [22, 26, 30, 34, 38, 42, 46, 50, 54];
  let hash = 0n;
  for (const word of words) hash ^= BigInt(view.getUint32(at + word, true));
  hash ^= hash >> 16n;
  hash ^= hash >> 8n;
  return Number(hash >> 1n);
}

/** What the figures are quoted against: the least that has to be read of an IPv4 ESP frame, each word once. */
function loads(view: DataView, at: number): number {
  const what = view.getUint16(at + 12) ^ view.getUint8(at + 14) ^ view.getUint16(at + 20) ^ view.getUint8(at + 23);
  return what ^ view.getInt32(at + 26, true) ^ view.getInt32(at + 30, true) ^ view.getInt32(at + 34, true);
}

export default {
  name: 'xmit-hash',
  about: "the bond's transmit hash of an ESP frame",
  variants: product({ policy: [...XMIT_HASH_POLICIES, 'loads'], frame: ['ipv4', 'ipv6'] }),
  anchor: (v) => (v.policy === 'loads' ? null : { ...v, policy: 'loads' }),
  limits: [
    {
      variant: { policy: 'layer3+4', frame: 'ipv4' },
      to: { policy: 'loads', frame: 'ipv4' },
      most: 3.5,
      goal: 'the hash of an IPv4 ESP frame in 15 ns',
    },
  ],
  prove() {
    for (const family of ['ipv4', 'ipv6']) {
      const view = frames(family);
      for (let i = 0; i < FRAMES; i++) {
        const hash = xmitHash('layer3+4', view, i * SLOT, i * SLOT + 100);
        const want = naive(view, i * SLOT, family);
        if (hash !== want) throw new Error(`${family}, frame ${i}: ${hash}, by hand ${want}`);
      }
    }
  },
  run({ policy, frame }) {
    const view = frames(String(frame));
    let sum = 0;
    if (policy === 'loads')
      return {
        packets: FRAMES,
        step: () => {
          for (let at = 0; at < FRAMES * SLOT; at += SLOT) sum = (sum + loads(view, at)) | 0;
        },
        close: () => view.setInt32(0, sum),
      };
    return {
      packets: FRAMES,
      step: () => {
        for (let at = 0; at < FRAMES * SLOT; at += SLOT)
          sum = (sum + xmitHash(policy as XmitHashPolicy, view, at, at + 100)) | 0;
      },
      close: () => view.setInt32(0, sum),
    };
  },
} satisfies Scenario;
