import {
  createBurst,
  createPool,
  createSlab,
  EtherType,
  IpProtocol,
  padLength,
  Row,
  RowState,
  resetRow,
  writeEsp,
  writeEthernet,
  writeIpv4,
  writeTrailer,
} from '@espalier/wire';
import type { CryptoEngine } from '../src/engine.ts';
import { SaKey } from '../src/key.ts';
import type { LinkType, LowerDevice, Sa } from '../src/seam.ts';

/** The suite's SA: documentation addresses (RFC 5737), and an SPI that nobody else uses by accident. */
export const SPI = 0xe5_9a_11_e7;
const SOURCE = Uint8Array.of(192, 0, 2, 1);
const DESTINATION = Uint8Array.of(192, 0, 2, 2);
const IV_LENGTH = 8;
const ICV_LENGTH = 16;
/** Bytes of the plaintext payload; long enough that no frame is padded by Ethernet. */
const PAYLOAD = 61;

/** Where things lie in a frame of one link type; offsets from the first byte of the frame. */
export interface Framing {
  readonly linkType: LinkType;
  readonly link: Uint8Array | null;
  /** Offset of the IP header; -1 when frames start at ESP. */
  readonly l3: number;
  readonly esp: number;
  /** First byte of the payload. */
  readonly payload: number;
  /** One past the last byte of the payload; padding, trailer and ICV follow. */
  readonly payloadEnd: number;
  /** Bytes of a frame. */
  readonly length: number;
  readonly spi: number;
  /** Whether a received frame is one of the suite's. */
  mine(frame: Uint8Array): boolean;
}

/** Frames that `from` sends to `to`. */
export function framingOf(from: LowerDevice, to: LowerDevice): Framing {
  const { linkType } = from;
  const ethernet = linkType === 'ethernet';
  const l3 = linkType === 'esp-udp' ? -1 : ethernet ? 14 : 0;
  const esp = l3 < 0 ? 0 : l3 + 20;
  const payload = esp + 8 + IV_LENGTH;
  const payloadEnd = payload + PAYLOAD;
  const length = payloadEnd + padLength(PAYLOAD, 4) + 2 + ICV_LENGTH;
  let link: Uint8Array | null = null;
  if (ethernet) {
    link = new Uint8Array(14);
    writeEthernet(link, 0, to.mac ?? new Uint8Array(6), from.mac ?? new Uint8Array(6), EtherType.IPV4);
  }
  const mine = (frame: Uint8Array): boolean =>
    frame.length >= esp + 8 && new DataView(frame.buffer, frame.byteOffset).getUint32(esp) === SPI;
  return { linkType, link, l3, esp, payload, payloadEnd, length, spi: SPI, mine };
}

/** High half of a number below 2^53. */
export function seqHiOf(seq: number): number {
  return Math.floor(seq / 2 ** 32);
}

/** The plaintext payload of a number. */
export function payloadOf(seq: number): Uint8Array {
  return Uint8Array.from({ length: PAYLOAD }, (_, i) => (seq * 31 + i * 7 + 3) & 0xff);
}

/** A whole frame with payload, padding and trailer in place, IV and ICV zero: as esp hands it to a lower. */
export function frameOf(framing: Framing, seq: number): Uint8Array {
  const { link, l3, esp, payload, payloadEnd, length } = framing;
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  if (link !== null) bytes.set(link);
  if (l3 >= 0)
    writeIpv4(view, l3, {
      tos: 0,
      totalLength: length - l3,
      id: 0,
      fragment: 0,
      ttl: 64,
      protocol: IpProtocol.ESP,
      source: SOURCE,
      destination: DESTINATION,
    });
  writeEsp(view, esp, SPI, seq >>> 0);
  bytes.set(payloadOf(seq), payload);
  writeTrailer(bytes, payloadEnd, padLength(PAYLOAD, 4), IpProtocol.IPV4);
  return bytes;
}

/** Key material that depends on the slot, so that no two SAs of a rule share a key. */
function keyOf(slot: number): SaKey {
  return SaKey.import(
    'aes128gcm16',
    Uint8Array.from({ length: 20 }, (_, i) => (slot * 53 + i * 11 + 1) & 0xff),
  );
}

/** An SA of the suite. All have one SPI; `slot` tells them apart, and slots above 0 get an SPI of their own. */
export function saOf(device: LowerDevice, direction: 'in' | 'out', slot = 0, esn = true): Sa {
  return {
    slot,
    direction,
    spi: (SPI + 2 * slot) >>> 0,
    source: SOURCE,
    destination: DESTINATION,
    mode: 'tunnel',
    algorithm: 'aes128gcm16',
    icvLength: ICV_LENGTH,
    esn,
    key: keyOf(slot),
    encap: null,
    offload: { type: 'crypto', device },
  };
}

/** Seals and opens single frames in software, apart from every lower: what a lower did is judged by it. */
export class Reference {
  readonly #engine: CryptoEngine;
  readonly #framing: Framing;

  constructor(engine: CryptoEngine, framing: Framing) {
    this.#engine = engine;
    this.#framing = framing;
  }

  /** A sealed frame, as another lower would have sent it. */
  sealed(seq: number, sa: Sa): Uint8Array {
    return this.#run(frameOf(this.#framing, seq), seq, sa, RowState.TO_SEAL).bytes;
  }

  /** The frame with its payload opened, or null when its ICV does not hold. */
  opened(frame: Uint8Array, seq: number, sa: Sa): Uint8Array | null {
    const { state, bytes } = this.#run(frame, seq, sa, RowState.RECEIVED);
    return state === RowState.OPENED ? bytes : null;
  }

  #run(frame: Uint8Array, seq: number, sa: Sa, before: RowState): { state: number; bytes: Uint8Array } {
    const slab = createSlab({ frames: 1 });
    const row = createPool(slab).take();
    const burst = createBurst(slab, 1);
    slab.bytes.set(frame, slab.headroom);
    const end = slab.headroom + frame.length;
    resetRow(slab.rows, row, slab.headroom, end, before);
    slab.rows[Row.ESP] = slab.headroom + this.#framing.esp;
    slab.rows[Row.SEQ_LO] = seq | 0;
    slab.rows[Row.SEQ_HI] = sa.esn ? seqHiOf(seq) : 0;
    const key = this.#engine.install(sa.algorithm, sa.key, { esn: sa.esn, icvLength: sa.icvLength });
    slab.rows[Row.KEY] = key;
    burst.list[burst.length++] = row;
    if (before === RowState.TO_SEAL) this.#engine.seal(burst);
    else this.#engine.open(burst);
    this.#engine.remove(key);
    return { state: slab.rows[Row.STATE]!, bytes: slab.bytes.slice(slab.headroom, end) };
  }
}

/** Whether two byte strings are the same. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
