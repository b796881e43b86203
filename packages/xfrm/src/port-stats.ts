/**
 * Columns of a port's counters: a Float64Array in shared memory, one row per port, written by the port's worker alone,
 * absolute and never decreasing. An aligned 8-byte store is one store on every 64-bit platform.
 */
export const PortStat = {
  /** Frames received from the device. */
  RECEIVED: 0,
  RECEIVED_BYTES: 1,
  /** Frames that left. */
  SENT: 2,
  SENT_BYTES: 3,
  /** Rows sealed under a handle of this lower. */
  SEALED: 4,
  /** Rows that came sealed already. */
  SENT_SEALED: 5,
  /** Rows that left in the clear by policy or control protocol. */
  CLEAR: 6,
  /** Rows opened under a handle of this lower. */
  OPENED: 7,
  ICV_BAD: 8,
  /** Rows refused for want of a handle. */
  NO_HANDLE: 9,
  /** Rows refused for any other reason. */
  REFUSED: 10,
  /** Frames that the device lost before they were read (ring overrun). */
  OVERRUN: 11,
  /** Rows of SEALED that the device then would not take: SEALED + SENT_SEALED + CLEAR = SENT + UNSENT. */
  UNSENT: 12,
  COLUMNS: 16,
} as const;

export interface PortStats {
  readonly memory: SharedArrayBuffer;
  /** The counters of port i: `columns.subarray`, made once. */
  port(i: number): Float64Array;
}

export function createPortStats(ports: number): PortStats {
  return attachPortStats(new SharedArrayBuffer(ports * PortStat.COLUMNS * 8));
}

export function attachPortStats(memory: SharedArrayBuffer): PortStats {
  return { memory, port: (i) => new Float64Array(memory, i * PortStat.COLUMNS * 8, PortStat.COLUMNS) };
}

/** A counter of a device, all its ports together. */
export function portTotal(device: { readonly stats: PortStats; readonly ports: number }, column: number): number {
  let sum = 0;
  for (let i = 0; i < device.ports; i++) sum += device.stats.port(i)[column]!;
  return sum;
}
