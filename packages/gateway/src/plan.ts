import type { AdSelect, BondMode, JoinRefused, XmitHashPolicy } from '@espalier/bond';
import type { OuterOptions, SelectorTicket } from '@espalier/esp';
import type { AlgorithmName, NoHandleName, PolicyTicket, Spread } from '@espalier/xfrm';
import type { EngineName } from './engine.ts';
import type { RekeyOptions } from './rekey.ts';

export const MAX_WORKERS = 64;
export const MAX_SAS = 256;
export const MAX_LOWERS = 32;

/** Soft limits are told, hard ones end the SA (RFC 4301 4.4.2.1): whichever of its kind is met first. */
export interface LifetimePlan {
  readonly softPackets?: number;
  readonly hardPackets?: number;
  readonly softBytes?: number;
  readonly hardBytes?: number;
  /** Since the SA was installed, or its key was before as the state has it. */
  readonly softSeconds?: number;
  readonly hardSeconds?: number;
}

/** Dummy packets by an outbound SA, whatever else it carries. */
export interface DummyPlan {
  readonly perSecond: number;
  /** Bytes of payload, or as many as the MTU takes. */
  readonly length: number | 'mtu';
}

/** Answers to hosts inside whose packets are too big. */
export interface TooBigPlan {
  /** Of one worker; 0 = none. */
  readonly perSecond: number;
  /** Who says so, at most one address a family; for a family without, the address that the packet was for. */
  readonly from: readonly Uint8Array[];
}

/** Of one worker. */
export interface AuditPlan {
  readonly perSecond: number;
  /** At once. */
  readonly burst: number;
}

export interface SaPlan {
  readonly name: string;
  readonly direction: 'in' | 'out';
  /** `tunnel` when absent. In transport mode packets keep their headers: it is for the two hosts' own addresses. */
  readonly mode?: 'tunnel' | 'transport';
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
  readonly noHandle: NoHandleName;
  /** Outbound, tunnel mode: what the outer header takes from the inner one; as OuterOptions has it when absent. */
  readonly outer?: OuterOptions;
  /** Outbound only; `sa` when absent. */
  readonly spread?: Spread;
  /** Packets and bytes of inner packets, all workers together, and time; none when absent. */
  readonly lifetime?: LifetimePlan;
  /** UDP encapsulation (RFC 3948) on lowers that have no sockets of their own; none when absent or null. */
  readonly encap?: { readonly sport: number; readonly dport: number } | null;
  /** Outbound with `encap`: UDP source port by inner flow, from 49152 on, instead of `encap.sport`. */
  readonly portEntropy?: boolean;
  /**
   * Inbound, transport mode with `encap`: the addresses under the peer's checksums, before a NAT changed them (NAT-OA, RFC
   * 3947 5.2); checksums are computed anew when absent.
   */
  readonly original?: { readonly source: Uint8Array; readonly destination: Uint8Array };
  /** Inbound: whether padding has to read 1, 2, 3 ...; true when absent. */
  readonly checkPadding?: boolean;
  /** Inner TCP SYNs: most bytes of a segment, or (outbound) what the MTU takes; as they are when absent. */
  readonly mss?: number | 'mtu';
  /** Outbound: bytes to which inner packets are padded (TFC, RFC 4303 2.7), or to what the MTU takes; not when absent. */
  readonly tfc?: number | 'mtu';
  /** Outbound; none when absent. */
  readonly dummies?: DummyPlan;
  /** Outbound with `encap`: seconds without a packet after which a NAT keepalive goes out; none when absent. */
  readonly keepaliveSeconds?: number;
  /** Name of the SA, of its direction, whose place it takes in a rekey. */
  readonly replaces?: string;
  /** Inbound only: inner packets that may come out (RFC 4301 4.4.1); absent = any. */
  readonly selectors?: readonly SelectorTicket[];
}

/** What is kept so that a restart under the same keys uses no number twice, takes no old packet, and goes on with lifetimes. */
export interface StatePlan {
  /** Absolute, in a folder that exists. */
  readonly file: string;
  /** Numbers of an outbound SA that are reserved at once: at most so many are burnt by a crash. */
  readonly ahead: number;
  /** Numbers beyond the newest that an inbound SA may take, at least: so many or half a second's are refused after a crash. */
  readonly margin: number;
}

/** A policy whose SA is still a name. */
export interface PolicyPlan extends Omit<PolicyTicket, 'slot'> {
  readonly sa: string | null;
}

/** A slave to be: an existing interface, a pair of UDP endpoints, or one in memory whose far end nobody holds (to try a plan without privileges). */
export type LowerPlan =
  | { readonly kind: 'af-packet'; readonly name: string }
  | { readonly kind: 'af-xdp'; readonly name: string; readonly attach: 'auto' | 'driver' | 'generic' }
  | {
      readonly kind: 'udp';
      readonly name: string;
      /** 4 or 16 bytes, both the same. */
      readonly local: Uint8Array;
      readonly peer: Uint8Array;
      readonly localPort: number;
      readonly peerPort: number;
      /** Ports to send from by inner flow; 0 = the local one alone. */
      readonly sourcePorts: number;
      /** Interface whose state is the lower's. */
      readonly device?: string;
      /** Seconds without a packet after which a NAT keepalive goes out; none when absent. */
      readonly keepaliveSeconds?: number;
    }
  | {
      readonly kind: 'mock';
      readonly name: string;
      /** SAs that it takes at most. */
      readonly saSlots: number;
    };

/** A TUN of the kernel's, or one in memory. */
export interface InsidePlan {
  readonly kind: 'tun' | 'mock';
  readonly name: string;
  /** Bytes of the largest inner packet. */
  readonly mtu: number;
  /** At most one, IPv4, with its prefix length; others are for `ip address add`. */
  readonly addresses: readonly { readonly address: Uint8Array; readonly bits: number }[];
  /** A hundred a second when absent. */
  readonly tooBig?: TooBigPlan;
}

/** Everything a gateway is made of: a config file after parsing. */
export interface GatewayPlan {
  readonly workers: number;
  readonly engine: EngineName;
  readonly bond: {
    readonly name: string;
    readonly mode: BondMode;
    readonly policy: XmitHashPolicy;
    /** A change of members moves only that member's flows; false when absent. */
    readonly resilient?: boolean;
    /** Which aggregator of several; counts once partners are told (`gateway.bond.setPartner`): LACP is not spoken here. */
    readonly adSelect?: AdSelect;
    /** Milliseconds that a link must have been up, or down, before it counts; 0 when absent. Looked at every 50 ms. */
    readonly upDelay?: number;
    readonly downDelay?: number;
    /** What becomes of a link that comes back and cannot take every SA; `keep-out` when absent. */
    readonly joinRefused?: JoinRefused;
    /** Source of what is sent on every slave; that of the first slave when absent, as in the kernel. */
    readonly mac?: Uint8Array;
    /** Link address of the peer on every slave, Ethernet only; from the kernel's neighbour tables, slave by slave, when absent. */
    readonly peerMac?: Uint8Array;
    readonly lowers: readonly LowerPlan[];
    /** Bytes of the largest outer packet. */
    readonly mtu: number;
  };
  readonly inside: InsidePlan;
  readonly sas: readonly SaPlan[];
  readonly policies: readonly PolicyPlan[];
  /** Numbers start anew with the process when absent: then every start needs new keys. */
  readonly state?: StatePlan;
  /** Port on 127.0.0.1 where counters are served as OpenMetrics text; none when absent. */
  readonly metricsPort?: number;
  /** Auditable drops told as events; none when absent. */
  readonly audit?: AuditPlan;
  /** Times of a rekey that a new file asks for; those of RekeyOptions when absent. */
  readonly rekey?: RekeyOptions;
}
