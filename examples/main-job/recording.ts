/** What the observer kept, as files for Wireshark. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { wiresharkEspSa } from '@espalier/esp';
import { CaptureLink, pcapngHeader, pcapngPacket, pcapngPacketBytes } from '@espalier/wire';
import { SaKey } from '@espalier/xfrm';
import type { SaPlan } from 'espalier';
import { LINKS } from './plans.ts';

/** In front of every kept frame, little-endian: seconds, nanoseconds (32 bits each), length, link * 2 + at B (16 bits each). */
const RECORD_HEADER = 12;
const LIMIT = 16 * 1024 * 1024;

export interface Files {
  readonly capture: string;
  readonly captureBytes: number;
  readonly frames: number;
  readonly keys: string;
}

/** Writes capture.pcapng and esp_sa; the keys are this run's own and good for nothing else. */
export function writeFiles(folder: string, recording: Uint8Array, sas: readonly SaPlan[]): Files {
  mkdirSync(folder, { recursive: true });
  const view = new DataView(recording.buffer, recording.byteOffset, recording.byteLength);
  // Interface link * 2 + at B: where the frame was seen arriving.
  const interfaces = Array.from({ length: LINKS * 2 }, (_, i) => ({
    name: `${i % 2 === 0 ? 'a' : 'b'}${i >> 1}`,
    link: CaptureLink.ETHERNET,
  }));
  const parts = [pcapngHeader(interfaces)];
  let size = parts[0]!.length;
  for (let at = 0; at + RECORD_HEADER <= recording.length; ) {
    const length = view.getUint16(at + 8, true);
    size += pcapngPacketBytes(length);
    if (size > LIMIT || at + RECORD_HEADER + length > recording.length) break;
    parts.push(
      pcapngPacket({
        interface: view.getUint16(at + 10, true),
        seconds: view.getUint32(at, true),
        nanoseconds: view.getUint32(at + 4, true),
        bytes: recording.subarray(at + RECORD_HEADER, at + RECORD_HEADER + length),
      }),
    );
    at += RECORD_HEADER + length;
  }
  const bytes = Buffer.concat(parts);
  const capture = join(folder, 'capture.pcapng');
  writeFileSync(capture, bytes);
  const lines = sas.map((sa) => wiresharkEspSa({ ...sa, key: SaKey.import(sa.algorithm, sa.key) }));
  const keys = join(folder, 'esp_sa');
  writeFileSync(keys, `${lines.join('\n')}\n`, { mode: 0o600 });
  return { capture, captureBytes: bytes.length, frames: parts.length - 1, keys };
}
