import type { FrameSlab } from '@espalier/wire';
import type { CryptoEngine, LinkType, OffloadTable } from '@espalier/xfrm';
import type { AuditSink } from './audit.ts';
import type { PathMtu } from './path-mtu.ts';
import type { FrameHash } from './spread.ts';

export interface EspPathOptions {
  readonly slab: FrameSlab;
  readonly engine: CryptoEngine;
  /** This worker's index: windows keep accounts per worker. 0 when absent. */
  readonly worker?: number;
  /** SA slots are below this. */
  readonly maxSas: number;
  readonly linkType: LinkType;
  /** Which device holds an SA's offload state; null where nothing is offloaded. */
  readonly offloads: OffloadTable | null;
  /** Ethernet header for packets that a BYPASS policy lets out in the clear. */
  readonly link?: Uint8Array | null;
  /** Longest burst, rows; 256 when absent. What is beyond is dropped, NO_ROOM. */
  readonly capacity?: number;
  /** `maxSas * SaStat.COLUMNS` counters, written by this worker alone. */
  readonly stats?: Float64Array;
  /** Who is told of auditable drops. */
  readonly audit?: AuditSink | null;
  /** The bond's layer3+4 hash, asked once per SA; without it the bond hashes every frame's bytes. */
  readonly frameHash?: FrameHash | null;
  /** Path MTUs of the outbound SAs, shared by the workers; without it none are learned. */
  readonly pathMtu?: PathMtu | null;
}
