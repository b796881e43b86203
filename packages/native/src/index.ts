/**
 * The native addon, loaded once and lazily. Everything above works without it; `probe()` says what there is.
 * Calls return counts, or -errno; see c/espalier.h. One environment (thread), one set of slabs, lists and sockets.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, constants, platform } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

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
  tunDetach(id: number): number;
  tunRead(id: number, slab: number, list: number, from: number, count: number): number;
  tunWrite(id: number, slab: number, list: number, from: number, count: number): number;
  packetOpen(ifindex: number, slots: number): number;
  packetClose(id: number): number;
  packetFd(id: number): number;
  packetDrops(id: number): number;
  packetReceive(id: number, slab: number, list: number, from: number, count: number): number;
  packetSend(id: number, slab: number, list: number, from: number, count: number): number;
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
  loaded ??= find();
  return loaded;
}

function find(): Loaded {
  const here = dirname(fileURLToPath(import.meta.url));
  const named = process.env.ESPALIER_ADDON;
  const places = named
    ? [named]
    : [join(here, '..', 'prebuilds', `${platform()}-${arch()}.node`), join(here, '..', 'build', 'espalier.node')];
  const failures: string[] = [];
  for (const place of places) {
    if (!existsSync(place)) continue;
    try {
      return { binding: createRequire(import.meta.url)(place) as Binding };
    } catch (error) {
      failures.push((error as Error).message);
    }
  }
  const status = join(dirname(places[places.length - 1]!), 'status.json');
  const built = existsSync(status)
    ? (JSON.parse(readFileSync(status, 'utf8')) as { reason: string; mend: string })
    : null;
  if (built?.reason) return { binding: null, reason: built.reason, mend: built.mend };
  const reason =
    failures.length > 0
      ? failures.join('; ')
      : `no addon for ${platform()}-${arch()} in ${places.map((p) => dirname(p)).join(' or ')}`;
  const build = join(here, '..', 'build.mjs');
  const how = existsSync(build) ? `node ${build}` : 'npm test, in a clone,';
  return { binding: null, reason, mend: `${how} compiles it where there is a C compiler` };
}

/** Three answers (as cilium/ebpf's feature probes have them): it works, it does not and why, or we could not tell. */
export type Probe = 'supported' | { readonly unsupported: string } | { readonly unknown: string };

/** Tries each capability on this thread, leaving nothing behind. */
export function probe(): { readonly addon: Probe; readonly tun: Probe; readonly afPacket: Probe } {
  const { binding, ...rest } = load();
  if (binding === null) {
    const reason = 'reason' in rest ? rest.reason : 'absent';
    const absent: Probe = { unsupported: `no native addon: ${reason}` };
    return { addon: absent, tun: absent, afPacket: absent };
  }
  const tun = binding.tunOpen('espprobe%d', 0, 0);
  if (tun >= 0) binding.close(tun);
  const out = new Int32Array(6);
  const lo = binding.linkGet('lo', out);
  const socket = lo < 0 ? lo : binding.packetOpen(out[0]!, 0);
  if (socket >= 0) binding.packetClose(socket);
  return {
    addon: 'supported',
    tun: answer(tun, 'open a TUN device'),
    afPacket: answer(socket, 'open an AF_PACKET socket'),
  };
}

function answer(result: number, what: string): Probe {
  if (result >= 0) return 'supported';
  const name = errnoName(result);
  if (['EPERM', 'EACCES', 'ENOENT', 'ENODEV', 'ENXIO', 'EAFNOSUPPORT', 'ENOSYS'].includes(name))
    return { unsupported: `cannot ${what} here (${name})` };
  return { unknown: `trying to ${what} gave ${name}` };
}

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(constants.errno).map(([name, code]) => [code, name]));

/** The name of a negative result: 'EPERM' for -1. */
export function errnoName(result: number): string {
  return NAMES.get(-result) ?? `errno ${-result}`;
}

/** A slab as the addon needs it; `@espalier/wire`'s FrameSlab is one. */
export interface SlabShape {
  readonly bytes: Uint8Array;
  readonly rows: Int32Array;
  readonly frames: number;
  readonly frameSize: number;
  readonly headroom: number;
  readonly tailroom: number;
}

const slabs: WeakMap<SlabShape, number> = new WeakMap();
/** The addon holds a slab's arrays, not the slab: when that is gone, they go. */
const gone: FinalizationRegistry<number> = new FinalizationRegistry((id) => load().binding?.unregisterSlab(id));

/** Registers a slab once per thread and returns its id. Throws RangeError when the addon has no place left. */
export function slabId(binding: Binding, slab: SlabShape): number {
  const known = slabs.get(slab);
  if (known !== undefined) return known;
  const id = binding.registerSlab(slab.bytes, slab.rows, slab.frames, slab.frameSize, slab.headroom, slab.tailroom);
  if (id < 0) throw new RangeError('too many slabs on this thread');
  slabs.set(slab, id);
  gone.register(slab, id);
  return id;
}

/** The addon's crypto, as `nativeEngine` of `@espalier/esp` takes it; null without the addon. */
export interface Aead {
  slabId(slab: SlabShape): number;
  readonly ready: Binding['aeadReady'];
  readonly install: Binding['aeadInstall'];
  readonly remove: Binding['aeadRemove'];
  readonly seal: Binding['aeadSeal'];
  readonly open: Binding['aeadOpen'];
}

export function aead(): Aead | null {
  const { binding } = load();
  if (binding === null) return null;
  return {
    slabId: (slab) => slabId(binding, slab),
    ready: binding.aeadReady,
    install: binding.aeadInstall,
    remove: binding.aeadRemove,
    seal: binding.aeadSeal,
    open: binding.aeadOpen,
  };
}

/** What an interface is. */
export interface LinkInfo {
  readonly index: number;
  readonly up: boolean;
  /** Carrier: IFF_RUNNING. */
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
