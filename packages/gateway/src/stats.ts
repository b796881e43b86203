/** Counters of a gateway as plain data: what all workers and ports have counted, put together. */
import type { BondDevice, SlaveState } from '@espalier/bond';
import { type PathMtu, SaStat } from '@espalier/esp';
import { DROP_TABLE, type LowerDevice, PortStat, portTotal } from '@espalier/xfrm';
import { GatewayStat, saColumn } from './messages.ts';
import type { SaState } from './sas.ts';
import type { Workers } from './workers.ts';

/** Counters of one slave, all workers together. */
export interface SlaveStats extends SlaveState {
  readonly sent: number;
  readonly sealed: number;
  readonly clear: number;
  readonly received: number;
  readonly opened: number;
  /** Refused for want of a handle. */
  readonly noHandle: number;
  /** Refused for any other reason, nothing sealed. */
  readonly refused: number;
  /** Sealed, and then not taken by the device: sealed = sent + unsent where nothing else is sent. */
  readonly unsent: number;
  /** Lost by the device before they were read. */
  readonly overrun: number;
}

/** One SA. Packets and bytes are of inner packets that went through. */
export interface SaStats {
  readonly name: string;
  readonly direction: 'in' | 'out';
  readonly spi: number;
  readonly packets: number;
  readonly bytes: number;
  /** Of them sealed or opened by a worker and not by a slave's handle. */
  readonly software: number;
  /** By name of DropReason, those above 0. */
  readonly drops: Readonly<Record<string, number>>;
  /** Slaves on which it has a handle. */
  readonly handles: readonly string[];
  /** Seconds since it was installed, or since its key was before, where a state is kept and it has a lifetime. */
  readonly age: number;
  /** What is left until the hard limits, by limit; those that it has. */
  readonly left: { readonly packets?: number; readonly bytes?: number; readonly seconds?: number };
  /** Outbound: bytes of the largest outer packet as ICMP has told; 0 = nothing was told lately. */
  readonly pathMtu?: number;
  /** Outbound: the next number, and how many there are before the last one. */
  readonly numbers?: { readonly next: number; readonly left: number };
  /** Inbound: greatest number taken; numbers that left the window unseen; how late an accepted one has been at most. */
  readonly window?: { readonly top: number; readonly lost: number; readonly lateness: number; readonly size: number };
}

export interface GatewayStats {
  readonly slaves: readonly SlaveStats[];
  /** By name of DropReason, those above 0. */
  readonly drops: Readonly<Record<string, number>>;
  readonly sas: readonly SaStats[];
  /** Too-big answers into the inside, dummy packets and NAT keepalives sent. */
  readonly answers: number;
  readonly dummies: number;
  readonly keepalives: number;
  /** Auditable drops that were not told of, being too many. */
  readonly suppressed: number;
}

export interface StatsSources {
  readonly bond: BondDevice;
  readonly lowers: readonly LowerDevice[];
  readonly workers: Workers;
  readonly sas: readonly SaState[];
  /** Whether a slave has a handle for the SA in a slot. */
  holds(slot: number, lower: number): boolean;
  readonly suppressed: number;
  readonly pathMtu: PathMtu;
  /** Milliseconds on the gateway's clock. */
  readonly now: number;
}

/** Totals since the start. */
export function gatewayStats(from: StatsSources): GatewayStats {
  const { workers } = from;
  return {
    slaves: from.bond.slaves().map((slave) => slaveStats(slave, from.lowers.find((l) => l.index === slave.index)!)),
    drops: dropsAt(workers, 0),
    sas: from.sas.map((sa) => saStats(sa, from)),
    answers: workers.total(GatewayStat.ANSWERS),
    dummies: workers.total(GatewayStat.DUMMIES),
    keepalives: workers.total(GatewayStat.KEEPALIVES),
    suppressed: from.suppressed,
  };
}

function dropsAt(workers: Workers, column: number): Record<string, number> {
  const drops: Record<string, number> = {};
  for (const { code, name } of DROP_TABLE) {
    const n = workers.total(column + code);
    if (n > 0) drops[name] = n;
  }
  return drops;
}

function slaveStats(slave: SlaveState, lower: LowerDevice): SlaveStats {
  const total = (column: number): number => portTotal(lower, column);
  return {
    ...slave,
    sent: total(PortStat.SENT),
    sealed: total(PortStat.SEALED),
    clear: total(PortStat.CLEAR),
    received: total(PortStat.RECEIVED),
    opened: total(PortStat.OPENED),
    noHandle: total(PortStat.NO_HANDLE),
    refused: total(PortStat.REFUSED),
    unsent: total(PortStat.UNSENT),
    overrun: total(PortStat.OVERRUN),
  };
}

function saStats(sa: SaState, { lowers, workers, holds, pathMtu, now }: StatsSources): SaStats {
  const { plan, slot, window, allocator, lifetime, before } = sa;
  const at = saColumn(slot);
  const age = (now - sa.since) / 1000;
  const { hardPackets, hardBytes, hardSeconds } = plan.lifetime ?? {};
  const left = {
    ...(hardPackets === undefined ? {} : { packets: Math.max(0, hardPackets - before.packets - lifetime!.packets()) }),
    ...(hardBytes === undefined ? {} : { bytes: Math.max(0, hardBytes - before.bytes - lifetime!.bytes()) }),
    ...(hardSeconds === undefined ? {} : { seconds: Math.max(0, hardSeconds - age) }),
  };
  return {
    name: plan.name,
    direction: plan.direction,
    spi: plan.spi,
    packets: workers.total(at + SaStat.PACKETS),
    bytes: workers.total(at + SaStat.BYTES),
    software: workers.total(at + SaStat.SOFTWARE),
    drops: dropsAt(workers, at + SaStat.DROPS),
    handles: sa.handle === 0 ? [] : lowers.filter((l) => holds(slot, l.index)).map((l) => l.name),
    age,
    left,
    ...(allocator === null
      ? {}
      : {
          pathMtu: pathMtu.of(slot),
          numbers: { next: allocator.next(), left: Math.max(0, allocator.limit + 1 - allocator.next()) },
        }),
    ...(window === null
      ? {}
      : { window: { top: window.top(), lost: window.lost(), lateness: window.lateness(), size: window.size } }),
  };
}
