/**
 * A call that could not be done. It leaves no trace: what was half done has been undone.
 * A packet's fate is never an XfrmError (see DropReason); a caller's bug is a TypeError or RangeError.
 */
export type XfrmErrorDetail =
  /** The device cannot do what was asked; crypto offload may fall back to software. Kernel: EOPNOTSUPP. */
  | { readonly code: 'UNSUPPORTED'; readonly device: string; readonly what: string }
  /** The device refuses this SA now (table full, hardware error). */
  | { readonly code: 'REFUSED'; readonly device: string; readonly spi?: number; readonly what: string }
  /** Out of slots, indices or memory. */
  | { readonly code: 'NO_SPACE'; readonly what: string }
  /** An SA, slave, device or name is there already. */
  | { readonly code: 'EXISTS'; readonly what: string }
  /** No such SA, slave, device. */
  | { readonly code: 'NOT_FOUND'; readonly what: string }
  /** The device or SA is closed, dead or being torn down. */
  | { readonly code: 'CLOSED'; readonly what: string }
  /** Somebody else holds it (a TUN name, a slave of another bond). */
  | { readonly code: 'BUSY'; readonly what: string }
  /** The operating system said no. `errno` is its name. */
  | { readonly code: 'SYSTEM'; readonly call: string; readonly errno: string; readonly what: string }
  /** Not allowed to this user. */
  | { readonly code: 'PERMISSION'; readonly what: string }
  /** A bond could not complete a transaction; what was done has been rolled back. */
  | {
      readonly code: 'ROLLED_BACK';
      readonly slave: string;
      readonly what: string;
      readonly failures?: readonly string[];
    }
  /** Invalid configuration or parameter values from a person. */
  | {
      readonly code: 'CONFIG';
      readonly file?: string;
      readonly path: string;
      readonly expected: string;
      readonly got?: string;
    }
  /** Aborted by its signal or by the end of its object. */
  | { readonly code: 'ABORTED'; readonly what: string };

export type XfrmErrorCode = XfrmErrorDetail['code'];

/** Carries a typed `detail`; `code` repeats its tag. Survives structured clone through `detail`. */
export class XfrmError extends Error {
  override readonly name = 'XfrmError';
  readonly code: XfrmErrorCode;
  readonly detail: XfrmErrorDetail;

  constructor(detail: XfrmErrorDetail, options?: ErrorOptions) {
    super(describe(detail), options);
    this.code = detail.code;
    this.detail = detail;
  }
}

function describe(d: XfrmErrorDetail): string {
  switch (d.code) {
    case 'UNSUPPORTED':
      return `${d.device} does not support ${d.what}`;
    case 'REFUSED':
      return `${d.device} refused${d.spi === undefined ? '' : ` SPI 0x${d.spi.toString(16).padStart(8, '0')}`}: ${d.what}`;
    case 'SYSTEM':
      return `${d.what}: ${d.call} failed with ${d.errno}`;
    case 'ROLLED_BACK':
      return `rolled back, ${d.slave} refused: ${d.what}${d.failures?.length ? ` (undoing also failed: ${d.failures.join('; ')})` : ''}`;
    case 'CONFIG':
      return `${d.file ? `${d.file}: ` : ''}${d.path || '(top level)'}: expected ${d.expected}${d.got === undefined ? '' : `, got ${d.got}`}`;
    default:
      return d.what;
  }
}
