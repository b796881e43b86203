import { type FrameSlab, Row, RowState, resetRow, writeEsp, writeIpv4 } from '@espalier/wire';

/** Where the ESP header is, behind Ethernet and IPv4. */
export const ESP_AT = 34;

/** What tells one packet from another; `host` is the last byte of its destination, 192.0.2.0/24. */
export interface ToSeal {
  readonly slot: number;
  readonly spi: number;
  readonly seq: number;
  readonly host?: number;
}

/** A packet as a path leaves it to a lower that seals: headers at `start`, `length` bytes with its ICV, and its row. The text is the caller's. */
export function writeToSeal(
  slab: FrameSlab,
  row: number,
  start: number,
  length: number,
  { slot, spi, seq, host = 2 }: ToSeal,
): void {
  slab.view.setUint16(start + 12, 0x0800);
  writeIpv4(slab.view, start + 14, {
    tos: 0,
    totalLength: length - 14,
    id: 0,
    fragment: 0,
    ttl: 64,
    protocol: 50,
    source: Uint8Array.of(192, 0, 2, 1),
    destination: Uint8Array.of(192, 0, 2, host),
  });
  writeEsp(slab.view, start + ESP_AT, spi, seq);
  resetRow(slab.rows, row, start, start + length, RowState.TO_SEAL);
  const r = row * Row.WORDS;
  slab.rows[r + Row.L3] = start + 14;
  slab.rows[r + Row.ESP] = start + ESP_AT;
  slab.rows[r + Row.SA] = slot;
  slab.rows[r + Row.SEQ_LO] = seq;
  slab.rows[r + Row.SEQ_HI] = 0;
}
