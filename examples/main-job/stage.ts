/** Where the main job plays: on real links in namespaces, or on a wire in memory. The job itself knows only this. */
import type { EngineName, GatewayPlan, GatewayStats, SaPlan } from 'espalier';

export type Side = 0 | 1;

/** What the observer saw, counted from outside. */
export interface Seen {
  readonly frames: number;
  readonly esp: number;
  /** Neither ESP nor a listed control protocol (none is needed here: addresses are static, carrier is the kernel's). */
  readonly plaintext: number;
  /** Frames with the planted marker in them. */
  readonly marked: number;
  /** Frames sent again on a link that the receiver's other worker reads. */
  readonly replayed: number;
  readonly replayFailed: number;
  /** Frames that the observer missed. */
  readonly lost: number;
  /** SAs that were on the cut link. */
  readonly cut: number;
  /** Milliseconds from the last frame on the cut link to the first elsewhere, of each SA that came up elsewhere. */
  readonly moved: readonly number[];
}

/** The streams as a whole. */
export interface Traffic {
  /** Bytes handed to the streams so far. */
  readonly sent: number;
  /** Set at the end: how many streams arrived with the same SHA-256, or what went wrong. */
  readonly outcome: { readonly same: number; readonly bytes: number; readonly error?: string } | null;
}

export interface StageOptions {
  readonly plans: readonly [GatewayPlan, GatewayPlan];
  readonly successors: readonly [readonly SaPlan[], readonly SaPlan[]];
  readonly engine: EngineName;
  /** Planted in every payload. */
  readonly marker: Uint8Array;
  /** Gateways whose lowers let plaintext out: the observer must see it. */
  readonly leaky: boolean;
}

export interface Stage {
  /** What carries the traffic, for the report. */
  readonly traffic: string;
  stats(side: Side): Promise<GatewayStats>;
  withdraw(side: Side, sa: string, lower: number): Promise<void>;
  restore(side: Side, sa: string, lower: number): Promise<void>;
  /** Installs the successors of a side's SAs. */
  rekey(side: Side): Promise<void>;
  /** What goes out of a side goes by them; the peer's are in. */
  switchOver(side: Side): Promise<void>;
  /** Resolves when the old SAs of a side are gone. */
  rekeyed(side: Side): Promise<void>;
  /** Ends carry at once; frames on the link are lost. */
  cut(link: number): Promise<void>;
  mend(link: number): Promise<void>;
  /** At least `bytes` over all streams, in equal parts until `release`, and on until `finish`. */
  start(bytes: number): Promise<void>;
  progress(): Traffic;
  release(): void;
  finish(): void;
  /** Echo requests answered and sent, once they are through; null where there is no ping. */
  echoes(): Promise<{ readonly answered: number; readonly sent: number } | null>;
  /** Something more to measure when the streams are through; a line for the report or null. */
  extra(): Promise<string | null>;
  /** An order is followed when its promise resolves: on a busy machine that may be a while after it is given. */
  readonly observer: {
    replay(on: boolean): Promise<void>;
    /** From now on, see where the SAs of this link go; -1 = no longer. */
    follow(link: number): Promise<void>;
    /** How many of them have come up elsewhere so far. */
    moved(): Promise<number>;
    /** Keep the next frames, four MiB more. */
    keep(): Promise<void>;
    /** Everything that was under way has been looked at; the counts are final. */
    finish(): Promise<Seen>;
    /** Frames kept, as recording.ts reads them. */
    recording(): Uint8Array;
  };
  /** Ends everything; what cannot be ended nicely is ended anyway. Safe to call at any time, and twice. */
  close(): Promise<void>;
}

/** Milliseconds after the last packet on an old SA until it goes: what lies in queues has been read by then. */
export const OVERLAP_MS = 1000;

/** Capture of four MiB from the start, the cut, the withdrawal and the end: 16 MiB at most in all. */
export const KEEP_BYTES = 4 * 1024 * 1024 - 4096;
