import type { Binding } from './binding.ts';

/** What an interface is. */
export interface LinkInfo {
  readonly index: number;
  readonly up: boolean;
  /** Carrier: IFF_RUNNING, and the driver's own word where it has one: the flag may be a second behind. */
  readonly carrier: boolean;
  readonly mtu: number;
  readonly mac: Uint8Array;
}

const link = new Int32Array(6);
const IFF_UP = 1;
const IFF_RUNNING = 0x40;

/** Reads an interface; a negative number is -errno. */
export function linkInfo(binding: Binding, name: string): LinkInfo | number {
  const result = binding.linkGet(name, link);
  if (result < 0) return result;
  const mac = new Uint8Array(6);
  const view = new DataView(mac.buffer);
  view.setInt32(0, link[3]!);
  view.setInt16(4, link[4]!);
  return {
    index: link[0]!,
    up: (link[1]! & IFF_UP) !== 0,
    carrier: (link[1]! & IFF_RUNNING) !== 0,
    mtu: link[2]!,
    mac,
  };
}

/** For `Binding.tunOpen`: several queues; refuse (EBUSY) a device that exists already (IFF_TUN_EXCL). */
export const TunOpen = { MULTI_QUEUE: 1, EXCLUSIVE: 2 } as const;

/** For `Binding.linkSet`. */
export const LinkSet = { UP: 0, MTU: 1, IPV4: 2 } as const;
