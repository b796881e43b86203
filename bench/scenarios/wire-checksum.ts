import { checksum, updateChecksum } from '@espalier/wire';
import { product, type Scenario } from '../frame/scenario.ts';

const PACKETS = 256;

/** RFC 1071 as it reads: byte pairs, then the carries. */
function naive(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes[i]! * 256 + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return 0xffff - sum;
}

export default {
  name: 'wire-checksum',
  about: 'the Internet checksum of a packet, and one field changed in it',
  variants: [...product({ what: ['full'], size: [20, 64, 576, 1400] }), { what: 'incremental', size: 2 }],
  prove() {
    for (let length = 0; length < 1500; length += 7) {
      const bytes = Uint8Array.from({ length }, (_, i) => i * length + 255);
      const view = new DataView(bytes.buffer);
      const whole = checksum(view, 0, length);
      if (whole !== naive(bytes)) throw new Error(`checksum of ${length} bytes: ${whole}, by hand ${naive(bytes)}`);
      if (length < 12) continue;
      const before = view.getUint16(10);
      view.setUint16(10, length);
      const updated = updateChecksum(whole, before, length);
      if (updated !== naive(bytes)) throw new Error(`incremental: ${updated}, by hand ${naive(bytes)}`);
    }
  },
  run({ what, size }) {
    const view = new DataView(new SharedArrayBuffer(PACKETS * 2048));
    for (let i = 0; i < view.byteLength; i++) view.setUint8(i, i * 31);
    let sum = 1;
    return {
      packets: PACKETS,
      step:
        what === 'full'
          ? () => {
              for (let i = 0; i < PACKETS; i++) sum ^= checksum(view, i * 2048, i * 2048 + Number(size));
            }
          : () => {
              for (let i = 0; i < PACKETS; i++) sum = updateChecksum(sum, i, sum);
            },
      close: () => {
        view.setUint32(0, sum);
      },
    };
  },
} satisfies Scenario;
