/**
 * The native addon, loaded once and lazily. Everything above works without it; `probe()` says what there is.
 * Calls return counts, or -errno; see c/espalier.h. One environment (thread), one set of slabs, lists and sockets.
 */
import { find } from './find.ts';

/** What the addon exports; integers in, counts or -errno out. */
export interface Binding {
  registerSlab(
    bytes: Uint8Array,
    rows: Int32Array,
    frames: number,
    frameSize: number,
    headroom: number,
    tailroom: number,
  ): number;
  unregisterSlab(id: number): number;
  registerList(list: Int32Array): number;
  unregisterList(id: number): number;
  /** `flags`: of TunOpen. */
  tunOpen(name: string, flags: number, offloads: number): number;
  tunAttach(fd: number): number;
  /** A regular file in the place of a device, for tests. */
  tunFile(fd: number): number;
  tunDetach(id: number): number;
  tunRead(id: number, slab: number, list: number, from: number, count: number): number;
  tunWrite(id: number, slab: number, list: number, from: number, count: number): number;
  packetOpen(ifindex: number, slots: number): number;
  packetClose(id: number): number;
  packetFd(id: number): number;
  packetDrops(id: number): number;
  packetReceive(id: number, slab: number, list: number, from: number, count: number): number;
  packetSend(id: number, slab: number, list: number, from: number, count: number): number;
  udpOpen(local: Uint8Array, localPort: number, peer: Uint8Array, peerPort: number): number;
  udpClose(id: number): number;
  udpFd(id: number): number;
  udpPathMtu(local: Uint8Array, peer: Uint8Array, peerPort: number): number;
  udpSend(id: number, slab: number, list: number, from: number, count: number): number;
  udpReceive(id: number, slab: number, list: number, from: number, count: number): number;
  xskAttach(ifindex: number, mode: number, out: Int32Array): number;
  xskOpen(memory: Uint8Array, out: Int32Array, spec: Int32Array): number;
  xskClose(fd: number, memory: Uint8Array, pages: number, bytes: number): number;
  xskKick(fd: number): number;
  xskWake(fd: number): number;
  xskLost(fd: number): number;
  xskZeroCopy(fd: number): number;
  /** `groups`: a set of RTMGRP_*; `readable` runs on this thread's loop and keeps it from nothing. */
  netlinkOpen(groups: number, readable: () => void): number;
  netlinkSend(id: number, message: Uint8Array): number;
  netlinkReceive(id: number, into: Uint8Array): number;
  /** What answers to its requests carry; any 32 bits. */
  netlinkPort(id: number): number;
  netlinkClose(id: number): number;
  linkGet(name: string, out: Int32Array): number;
  linkSet(name: string, what: number, value: number, prefix: number): number;
  wait(list: number, count: number, timeoutMs: number): number;
  eventOpen(): number;
  eventSignal(fd: number): number;
  close(fd: number): number;
  aeadReady(provider: number): number;
  aeadInstall(
    material: Uint8Array,
    provider: number,
    kind: number,
    flags: number,
    ivLength: number,
    icvLength: number,
    saltLength: number,
    macLength: number,
  ): number;
  aeadRemove(key: number): number;
  aeadSeal(slab: number, list: Int32Array, count: number): number;
  aeadOpen(slab: number, list: Int32Array, count: number): number;
}

/** The addon, or why there is none. */
export type Loaded =
  | { readonly binding: Binding }
  | { readonly binding: null; readonly reason: string; readonly mend: string };

let loaded: Loaded | null = null;

/** Loads at the first call; every later one gives the same answer. Never throws. */
export function load(): Loaded {
  loaded ??= first();
  return loaded;
}

function first(): Loaded {
  const { addon, ...why } = find();
  return addon === null
    ? { binding: null, ...(why as { reason: string; mend: string }) }
    : { binding: addon as Binding };
}
