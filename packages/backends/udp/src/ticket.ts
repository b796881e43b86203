import type { SoftTicket } from '@espalier/esp';

export interface UdpEndpoint {
  /** 4 or 16 bytes, network order. */
  readonly address: Uint8Array;
  /** 4500 (RFC 3948) when absent. */
  readonly port?: number;
}

export interface UdpTicket extends SoftTicket {
  readonly kind: 'udp';
  readonly local: Required<UdpEndpoint>;
  readonly peer: Required<UdpEndpoint>;
  readonly sourcePorts: number;
  /** Rings of a thread of `node:dgram`; null = the port opens sockets of the addon. */
  readonly dgram: SharedArrayBuffer | null;
}
