import type { BondMode, XmitHashPolicy } from '@espalier/bond';
import type { AlgorithmName, PolicyTicket } from '@espalier/xfrm';
import type { EngineName } from './engine.ts';

export interface SaPlan {
  readonly name: string;
  readonly direction: 'in' | 'out';
  readonly spi: number;
  /** Outer addresses, 4 or 16 bytes. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly algorithm: AlgorithmName;
  /** Cipher key, then salt. */
  readonly key: Uint8Array;
  readonly esn: boolean;
  /** Replay window, numbers; inbound only. */
  readonly window: number;
  readonly offload: 'crypto' | 'none';
  readonly noHandle: 'drop' | 'software';
}

/** A policy whose SA is still a name. */
export interface PolicyPlan extends Omit<PolicyTicket, 'slot'> {
  readonly sa: string | null;
}

/** Everything a gateway is made of: a config file after parsing. */
export interface GatewayPlan {
  readonly workers: number;
  readonly engine: EngineName;
  readonly bond: {
    readonly name: string;
    readonly mode: BondMode;
    readonly policy: XmitHashPolicy;
    readonly mac: Uint8Array;
    /** Link address of the peer on every slave. */
    readonly peerMac: Uint8Array;
    readonly lowers: readonly string[];
    /** Bytes. */
    readonly mtu: number;
  };
  readonly inside: {
    readonly name: string;
    readonly mtu: number;
    readonly addresses: readonly { readonly address: Uint8Array; readonly bits: number }[];
  };
  readonly sas: readonly SaPlan[];
  readonly policies: readonly PolicyPlan[];
}
