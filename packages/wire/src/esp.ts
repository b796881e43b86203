/**
 * ESP framing (RFC 4303 2). From the ESP header on:
 *
 *     SPI 4 | number, low half 4 | IV | payload | padding 1, 2, 3 ... | pad length 1 | next header 1 | ICV
 *                                       '----------------- encrypted -----------------'
 */

/** SPI and number, in bytes. */
export const ESP_HEADER_LENGTH = 8;
/** Pad length and next header, in bytes. */
export const ESP_TRAILER_LENGTH = 2;

export function readSpi(view: DataView, at: number): number {
  return view.getUint32(at);
}

export function readSeqLo(view: DataView, at: number): number {
  return view.getUint32(at + 4);
}

export function writeEsp(view: DataView, at: number, spi: number, seqLo: number): void {
  view.setUint32(at, spi);
  view.setUint32(at + 4, seqLo);
}

/** Bytes of padding that make payload, padding and trailer a multiple of `block` (RFC 4303 2.4: at least 4). */
export function padLength(payload: number, block: number): number {
  return (block - ((payload + ESP_TRAILER_LENGTH) % block)) % block;
}

/** Writes padding 1, 2, 3 ..., pad length and next header from `at` on; returns the offset behind them. */
export function writeTrailer(bytes: Uint8Array, at: number, pad: number, nextHeader: number): number {
  for (let i = 1; i <= pad; i++) bytes[at++] = i;
  bytes[at] = pad;
  bytes[at + 1] = nextHeader;
  return at + ESP_TRAILER_LENGTH;
}

/**
 * Checks the padding of a decrypted payload `[start, end)` (trailer included) and returns the offset where it begins,
 * or -1: longer than what is there, or not 1, 2, 3 ... (RFC 4303 2.4 SHOULD).
 */
export function checkTrailer(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < ESP_TRAILER_LENGTH) return -1;
  const pad = bytes[end - 2]!;
  const begin = end - ESP_TRAILER_LENGTH - pad;
  if (begin < start) return -1;
  let wrong = 0;
  for (let i = 0; i < pad; i++) wrong |= bytes[begin + i]! ^ (i + 1);
  return wrong === 0 ? begin : -1;
}
