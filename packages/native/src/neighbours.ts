import type { Binding } from './binding.ts';
import { errnoName } from './errno.ts';
import { type Listener, LOST, type Message, Rtm, Rtnetlink } from './rtnetlink.ts';

/** Next hops that somebody asks for, by place; `NextHopTable` of `@espalier/xfrm` is one. */
export interface HopTable {
  /** Whether an address has come in since the last call. */
  news(): boolean;
  entries(): { readonly place: number; readonly address: Uint8Array }[];
  /** Whether it has been asked for since the last call. */
  asked(place: number): boolean;
  set(place: number, mac: Uint8Array | null): void;
  forget(place: number): void;
}

/** linux/neighbour.h, linux/rtnetlink.h. */
const NDM_BYTES = 12;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NUD = {
  INCOMPLETE: 0x01,
  REACHABLE: 0x02,
  STALE: 0x04,
  DELAY: 0x08,
  PROBE: 0x10,
  NOARP: 0x40,
  PERMANENT: 0x80,
} as const;
/** There is a link address to send to. */
const VALID = NUD.REACHABLE | NUD.STALE | NUD.DELAY | NUD.PROBE | NUD.NOARP | NUD.PERMANENT;
/** The kernel is content, or busy finding out already. */
const AT_WORK = (VALID & ~NUD.STALE) | NUD.INCOMPLETE;
const NTF_USE = 1;
const NLM_F_CREATE = 0x400;
const NLMSG_DONE = 3;
const RTMSG_BYTES = 12;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_VIA = 18;
const RTN_UNICAST = 1;

/** How often ports are asked what they miss, and how often a next hop is probed at most; milliseconds. */
const LOOK_MS = 20;
const PROBE_MS = 1000;
/** An address that nobody has sent to for so long makes room for another. */
const UNUSED_MS = 60_000;

interface Neighbour {
  readonly mac: Uint8Array | null;
  readonly state: number;
}

/** A destination as the control thread sees it. */
interface Destination {
  readonly place: number;
  readonly address: Uint8Array;
  /** Next hop by hop key: itself or its gateway; null = no route through this interface, or not answered yet. */
  hop: Uint8Array | null;
  /** Of the route request under way; 0 = none. */
  request: number;
  usedAt: number;
  mac: Uint8Array | null;
}

/**
 * Keeps a HopTable filled from the kernel's own tables: the route of each destination through one interface, and the
 * neighbour entry of its next hop. What is not resolved the kernel is asked to resolve, and what is in use to confirm, at
 * most once a second per next hop (NTF_USE: as if the kernel itself had sent there). Nothing is buffered. Needs
 * CAP_NET_ADMIN to ask, at every request; without it, what the kernel knows of its own accord is all there is, and a
 * warning of the process says so once. Control thread.
 */
export class Neighbours {
  readonly #ifindex: number;
  readonly #table: HopTable;
  #socket!: Rtnetlink;
  readonly #timer: NodeJS.Timeout;
  readonly #destinations: Map<number, Destination> = new Map();
  #known: Map<string, Neighbour> = new Map();
  /** The whole table as it comes in, and the request that it answers. */
  #dump: Map<string, Neighbour> | null = null;
  #dumpRequest = 0;
  #dumpInterrupted = false;
  readonly #probedAt: Map<string, number> = new Map();
  /** Requests to resolve or confirm that the kernel has not answered yet. */
  readonly #probing: Set<number> = new Set();
  #probes = 0;
  #refusal = 0;
  #routesChanged = false;
  readonly #hear: Listener = (message) => this.#heard(message);

  private constructor(ifindex: number, table: HopTable) {
    this.#ifindex = ifindex;
    this.#table = table;
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** Watches from now on; -errno when rtnetlink cannot be listened to. */
  static open(binding: Binding, ifindex: number, table: HopTable): Neighbours | number {
    const neighbours = new Neighbours(ifindex, table);
    const socket = Rtnetlink.listen(binding, neighbours.#hear);
    if (typeof socket === 'number') {
      clearInterval(neighbours.#timer);
      return socket;
    }
    neighbours.#socket = socket;
    neighbours.#askAll();
    return neighbours;
  }

  /** How often the kernel has agreed to resolve or confirm. */
  get probes(): number {
    return this.#probes;
  }

  /** Why it last refused to: -errno (-1, EPERM, once root is given up); 0 = never. */
  get refusal(): number {
    return this.#refusal;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#socket.unlisten(this.#hear);
  }

  #heard(message: Message | typeof LOST): void {
    if (message === LOST) {
      this.#dumpRequest = 0;
      this.#dump = null;
      this.#probing.clear();
      this.#routesChanged = true;
      return;
    }
    const { type, sequence } = message;
    const dumped = sequence !== 0 && sequence === this.#dumpRequest;
    if (dumped && message.interrupted) this.#dumpInterrupted = true;
    if (dumped && (type === NLMSG_DONE || message.error !== null)) this.#dumpEnds(type === NLMSG_DONE);
    else if (message.error !== null && this.#probing.delete(sequence)) this.#probeEnds(message.error);
    else if (type === Rtm.NEWNEIGH || type === Rtm.DELNEIGH) this.#neighbour(message);
    else if (type === Rtm.NEWROUTE || message.error !== null) this.#route(message);
    if ((type === Rtm.NEWROUTE || type === Rtm.DELROUTE) && sequence === 0) this.#routesChanged = true;
  }

  #dumpEnds(whole: boolean): void {
    const dump = this.#dump;
    if (whole && dump !== null) {
      // Of a table that changed meanwhile entries may be missing: what has come is taken, and all asked for again.
      if (this.#dumpInterrupted) for (const [key, neighbour] of dump) this.#known.set(key, neighbour);
      else this.#known = dump;
    }
    // Somebody else's dump may be under way on this socket (EBUSY): then again at the next look.
    if (!whole || this.#dumpInterrupted) this.#dumpRequest = 0;
    this.#dump = null;
    this.#resolve();
  }

  /** The kernel asks for the capability of who sends, not of who opened the socket alone. */
  #probeEnds(error: number): void {
    if (error === 0) {
      this.#probes++;
      return;
    }
    if (this.#refusal === 0)
      process.emitWarning(
        `the kernel refuses to resolve or confirm next hops of interface ${this.#ifindex} (${errnoName(error)}): ` +
          'only what it knows of its own accord is used',
        { type: 'EspalierWarning', code: 'ESPALIER_NEXT_HOPS' },
      );
    this.#refusal = error;
  }

  #neighbour(message: Message): void {
    const { view, body, end } = message;
    if (end - body < NDM_BYTES || view.getInt32(body + 4, true) !== this.#ifindex) return;
    const address = message.attribute(NDM_BYTES, NDA_DST);
    if (address === null) return;
    const state = message.type === Rtm.DELNEIGH ? 0 : view.getUint16(body + 8, true);
    const mac = message.attribute(NDM_BYTES, NDA_LLADDR);
    const neighbour = { state, mac: (state & VALID) !== 0 && mac?.length === 6 ? mac : null };
    const key = keyOf(address);
    this.#dump?.set(key, neighbour);
    if (this.#dump !== null && message.sequence === this.#dumpRequest) return;
    if (state === 0) this.#known.delete(key);
    else this.#known.set(key, neighbour);
    this.#resolve();
  }

  /** The answer to a route request: through this interface, to the destination itself or to a gateway. */
  #route(message: Message): void {
    const { view, body, end, sequence } = message;
    if (sequence === 0) return;
    for (const destination of this.#destinations.values()) {
      if (destination.request !== sequence) continue;
      destination.request = 0;
      destination.hop = null;
      if (message.type === Rtm.NEWROUTE && end - body >= RTMSG_BYTES && view.getUint8(body + 7) === RTN_UNICAST) {
        const out = message.attribute(RTMSG_BYTES, RTA_OIF);
        const via = message.attribute(RTMSG_BYTES, RTA_VIA);
        const gateway = message.attribute(RTMSG_BYTES, RTA_GATEWAY) ?? (via === null ? null : via.slice(2));
        const hop = gateway ?? destination.address;
        const through = out?.length === 4 ? new DataView(out.buffer).getInt32(0, true) : 0;
        if (through === this.#ifindex && (hop.length === 4 || hop.length === 16)) destination.hop = hop;
      }
      this.#resolve();
    }
  }

  #askAll(): void {
    this.#dump = new Map();
    this.#dumpInterrupted = false;
    const request = this.#socket.request(Rtm.GETNEIGH, new Uint8Array(NDM_BYTES), [], 'dump');
    this.#dumpRequest = Math.max(0, request);
  }

  #askRoute(destination: Destination): void {
    const { address } = destination;
    const fixed = new Uint8Array(RTMSG_BYTES);
    fixed[0] = familyOf(address);
    fixed[1] = address.length * 8;
    const request = this.#socket.request(Rtm.GETROUTE, fixed, [
      [RTA_DST, address],
      [RTA_OIF, new Uint8Array(Int32Array.of(this.#ifindex).buffer)],
    ]);
    destination.request = Math.max(0, request);
    // Not sent: what is known of its route may be old, so it is asked at the next look.
    if (request < 0) this.#routesChanged = true;
  }

  /** What ports have asked for since the last look. */
  #look(): void {
    if (this.#dumpRequest === 0) this.#askAll();
    const now = performance.now();
    if (this.#table.news())
      for (const { place, address } of this.#table.entries()) {
        const had = this.#destinations.get(place);
        if (had !== undefined && keyOf(had.address) === keyOf(address)) continue;
        const destination = { place, address, hop: null, request: 0, usedAt: now, mac: null };
        this.#destinations.set(place, destination);
        this.#mayAsk(routeKey(address), now);
        this.#askRoute(destination);
      }
    if (this.#routesChanged) {
      this.#routesChanged = false;
      for (const destination of this.#destinations.values()) this.#askRoute(destination);
    }
    for (const destination of this.#destinations.values()) {
      const { place, hop, usedAt } = destination;
      if (this.#table.asked(place)) {
        destination.usedAt = now;
        if (hop !== null) this.#probe(hop, now);
        // Refused, or the answer was lost: interfaces and addresses come late.
        else if (this.#mayAsk(routeKey(destination.address), now)) this.#askRoute(destination);
      } else if (now - usedAt > UNUSED_MS) {
        this.#table.forget(place);
        this.#destinations.delete(place);
      }
    }
  }

  #mayAsk(what: string, now: number): boolean {
    const last = this.#probedAt.get(what);
    if (last !== undefined && now - last < PROBE_MS) return false;
    this.#probedAt.set(what, now);
    if (this.#probedAt.size > 4096) this.#probedAt.clear();
    return true;
  }

  #probe(hop: Uint8Array, now: number): void {
    const key = keyOf(hop);
    if (((this.#known.get(key)?.state ?? 0) & AT_WORK) !== 0 || !this.#mayAsk(key, now)) return;
    const fixed = new Uint8Array(NDM_BYTES);
    const view = new DataView(fixed.buffer);
    fixed[0] = familyOf(hop);
    view.setInt32(4, this.#ifindex, true);
    fixed[10] = NTF_USE;
    const request = this.#socket.request(Rtm.NEWNEIGH, fixed, [[NDA_DST, hop]], NLM_F_CREATE);
    if (request >= 0) this.#probing.add(request);
  }

  /** Tells the table what has changed. */
  #resolve(): void {
    for (const destination of this.#destinations.values()) {
      const { place, hop, mac: had } = destination;
      const mac = hop === null ? null : (this.#known.get(keyOf(hop))?.mac ?? null);
      if (mac === had || (mac !== null && had !== null && keyOf(mac) === keyOf(had))) continue;
      destination.mac = mac;
      this.#table.set(place, mac);
    }
  }
}

/** AF_INET, AF_INET6. */
function familyOf(address: Uint8Array): number {
  return address.length === 4 ? 2 : 10;
}

function keyOf(bytes: Uint8Array): string {
  return bytes.join('.');
}

function routeKey(address: Uint8Array): string {
  return `route to ${keyOf(address)}`;
}
