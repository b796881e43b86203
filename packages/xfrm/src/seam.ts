/**
 * THE SEAM. One SA, many lowers: keys, numbers and the replay window belong to the SA and are shared; what a device needs
 * to use the SA belongs to the pair (SA, lower) and is called a handle. A packet leaves only through a lower that has a
 * handle for its SA.
 *
 * Two planes. Control (one thread): Sa, LowerDevice, XfrmDeviceOps, XfrmUpper: objects, Promises, XfrmError.
 * Datapath (workers): Port, PortContext, StateLowerHandle: bursts of rows, numbers only, nothing allocated per packet.
 */
import type { Burst, FramePool, FrameSlab } from '@espalier/wire';
import type { AlgorithmName } from './algorithm.ts';
import type { CryptoEngine } from './engine.ts';
import type { LowerHandle } from './handle.ts';
import type { SaKey } from './key.ts';
import type { OffloadTable } from './offload.ts';
import type { PortStats } from './port-stats.ts';

/** One Security Association (RFC 4301 4.1). Nothing here is per lower. Kernel: struct xfrm_state. */
export interface Sa {
  /** Index into every shared table; given out by the SAD. */
  readonly slot: number;
  readonly direction: 'in' | 'out';
  readonly spi: number;
  /** Outer addresses, network order: 4 or 16 bytes, both the same. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly mode: 'tunnel' | 'transport';
  readonly algorithm: AlgorithmName;
  /** Bytes. */
  readonly icvLength: number;
  readonly esn: boolean;
  readonly key: SaKey;
  /** UDP encapsulation (RFC 3948), or null. */
  readonly encap: { readonly sport: number; readonly dport: number } | null;
  /** Inbound: the left edge of its replay window now. Control thread; what `advanceEsn` is told. */
  readonly bottom?: () => number;
  /** Kernel: x->xso. Type 'packet' is refused everywhere: number and window would live in one device. */
  readonly offload: { readonly type: 'none' | 'crypto' | 'packet'; readonly device: LowerDevice | XfrmUpper } | null;
}

/** Absolute counts since the handle was added. */
export interface SaStats {
  packets: number;
  bytes: number;
  icvFailures: number;
}

/** For `EspTraits.encaps`. */
export const Encap = { RAW: 1, UDP: 2 } as const;

/** How a lower does ESP, where lowers differ. */
export interface EspTraits {
  /** `number`: the IV is the number, so that no two lowers can make the same one. Anything else is never replicated. */
  readonly ivRule: 'number' | 'own';
  /** Set of Encap that it seals and opens. */
  readonly encaps: number;
  /** OPENED rows carry the high half that it verified with; without that it takes no inbound SA with ESN. */
  readonly reportsSeqHi: boolean;
}

/** What a lower that says nothing is held to. */
export const ESP_TRAITS: EspTraits = { ivRule: 'number', encaps: Encap.RAW | Encap.UDP, reportsSeqHi: true };

/** What a lower offers for an SA. Control thread only. Kernel: struct xfrmdev_ops. */
export interface XfrmDeviceOps {
  /** Opt-in to handles resolved per lower. Kernel: XFRMDEV_OPS_F_LOWER_HANDLE. */
  readonly lowerHandle: boolean;
  /** ESP_TRAITS when absent. */
  readonly traits?: EspTraits;
  /** Resolves when every port of the lower can use the SA. Rejects with XfrmError and leaves no trace. */
  stateAdd(sa: Sa, signal?: AbortSignal): Promise<LowerHandle>;
  /** At once: no new packet may use the handle. Exactly once per add. */
  stateDelete(handle: LowerHandle): void;
  /** After stateDelete, when the last packet that used it is out. Exactly once per add. */
  stateFree(handle: LowerHandle): Promise<void>;
  /** `bottom`: the window's left edge; absolute, monotone, idempotent. Lowers with ESN state of their own open with what they were last told. */
  advanceEsn(handle: LowerHandle, bottom: number): void;
  /** Adds nothing, overwrites `into`. A deleted handle can still be read, until it is freed. */
  updateStats(handle: LowerHandle, into: SaStats): void;
  /** The same of one port alone, for lowers that can tell. */
  updatePortStats?(handle: LowerHandle, port: number, into: SaStats): void;
  /**
   * Veto per packet: size in bytes from the IP header on, `l3Flags` a set of L3Flag. A lower that takes a packet takes a
   * shorter one with the same flags. Kernel: xdo_dev_offload_ok.
   */
  offloadOk(sa: Sa, length: number, l3Flags: number): boolean;
}

/** For `offloadOk`. */
export const L3Flag = { IP_OPTIONS: 1, EXTENSION_HEADERS: 2 } as const;

/** hw: what the device could do; wanted: what was asked for; active: what is on. Sets of `Feature`. */
export interface FeatureSet {
  readonly hw: number;
  readonly wanted: number;
  readonly active: number;
}

export type LinkType = 'ethernet' | 'ip' | 'esp-udp';

/** A concrete device. Kernel: struct net_device. Control plane. */
export interface LowerDevice {
  readonly name: string;
  /** Below the OffloadTable's `lowers`; unique in the house. */
  readonly index: number;
  readonly linkType: LinkType;
  readonly mac: Uint8Array | null;
  /** Bytes of the largest L3 packet. */
  readonly mtu: number;
  /** Of the largest that the path behind it takes now, as far as it knows; absent: `mtu`. */
  readonly pathMtu?: number;
  readonly speedMbps: number;
  readonly headroom: number;
  readonly tailroom: number;
  readonly features: FeatureSet;
  /** Administratively up. */
  readonly running: boolean;
  readonly carrier: boolean;
  readonly xfrm: XfrmDeviceOps | null;
  /** Asks for a set of Feature; resolves to what is active then, or rejects with XfrmError and changes nothing. */
  setFeatures(wanted: number): Promise<number>;
  /** Called on every change of `running`, `carrier`, `features.hw`; returns a function that ends it. */
  onChange(listener: () => void): () => void;
  /**
   * Reads the link's state anew if a port has met an error that may mean a link gone down: its listeners hear of what they
   * have missed. Cheap otherwise; a bond calls it at every tick.
   */
  recheck?(): void;
  /** Frames posted and not yet completed, over all ports. */
  inFlight(): number;
  /**
   * Returns a question: has every frame posted before this call been completed? Unlike `inFlight() === 0` it comes true
   * under traffic that never pauses. Absent: `inFlight` is asked.
   */
  fence?(): () => boolean;
  /** The worker of port i has exited and its sockets are closed: what it had posted counts as completed. */
  portGone?(port: number): void;
  /** Counters of every port. */
  readonly stats: PortStats;
  readonly ports: number;
  /** What a worker needs to open port i: plain data and descriptors, for `postMessage`. */
  ticket(port: number): PortTicket;
  /** Waits for outstanding adds. A second call resolves with the first. */
  close(): Promise<void>;
}

/** `kind` names the backend that opens it; the rest is the backend's own plain data. */
export interface PortTicket {
  readonly kind: string;
  readonly index: number;
  readonly port: number;
}

/** What a worker lends to the ports that it opens. */
export interface PortContext {
  readonly slab: FrameSlab;
  readonly pool: FramePool;
  /** The worker's engine, for lowers that carry HW_ESP in software. */
  readonly engine: CryptoEngine;
  /** Where handles are looked up, under the worker's pin. Kernel: xfrm_dev_state_lower_handle. */
  readonly handles: HandleSource;
}

/** Datapath: the handle for an SA on the lower about to carry the packet; 0 means drop. */
export interface HandleSource {
  resolve(saSlot: number, lowerIndex: number): LowerHandle;
}

/**
 * One queue of a device on one worker. Datapath. A TUN is a Port and nothing more: it is never enslaved.
 *
 * Ownership: `xmit` takes every row whose FATE is 0 on return; those frames go to the context's pool when they are
 * reaped (a synchronous device gives them back inside `xmit`). A row whose FATE is set stays with the caller, unsealed
 * rows bit-identical to what was handed in. Rows that come with a FATE are skipped.
 */
export interface Port {
  /** Sends; returns how many rows it took. TO_SEAL rows are sealed under their resolved handle or refused. */
  xmit(burst: Burst): number;
  /** Appends received rows to the burst (state RECEIVED, OPENED or ICV_BAD; LOWER set); returns how many. */
  poll(burst: Burst): number;
  /**
   * Opens RECEIVED rows (SA, SEQ_LO and SEQ_HI set) for which this lower has a handle; leaves the others RECEIVED. Returns how
   * many are OPENED: no more than are, as with CryptoEngine.
   */
  open?(burst: Burst): number;
  /** Collects what the device has finished with; returns how many frames. */
  reap(): number;
  /** Rows that `xmit` could take now. */
  room(): number;
  /** Frames the device has: to receive into, or not yet reaped. Absent: none. Free, held and in rows are all frames, always. */
  readonly held?: number;
  /** For one wait over all ports of a worker; -1 where there is none. */
  readonly fd: number;
  close(): void;
}

/** An upper's per-packet half. One load from the shared table; 0 when there is no handle now. Kernel: xdo_dev_state_lower_handle. */
export interface StateLowerHandle {
  stateLowerHandle(saSlot: number, lowerIndex: number): LowerHandle;
}

/** A device made of lowers that holds their handles. Kernel: the bond's xfrmdev_ops. */
export interface XfrmUpper extends XfrmDeviceOps, StateLowerHandle {
  readonly name: string;
  /** Where the upper records which device holds an SA's single handle, if one does. */
  readonly offloads: OffloadTable;
}
