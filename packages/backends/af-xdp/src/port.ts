import { LinkWord, SoftOffloadPort } from '@espalier/esp';
import { type Binding, errnoName, load } from '@espalier/native';
import { type Burst, type FramePool, type FrameSlab, Row, RowState, resetRow } from '@espalier/wire';
import {
  attachPortStats,
  DropReason,
  NextHops,
  type Port,
  type PortContext,
  PortStat,
  PostedCount,
  XfrmError,
} from '@espalier/xfrm';
import { CompletionRing, FillRing, RxRing, TxRing } from './ring.ts';
import { FRAME_SHIFT, RING_BYTES, RING_ENTRIES, RingPlace } from './umem.ts';
import { XskCopy, type XskTicket } from './xsk-device.ts';

const BATCH = 64;
/** After a close the queue stays busy for a while. */
const BIND_TRIES = 200;
const BIND_WAIT_MS = 10;
const LOST_EVERY = 1024;
const EAGAIN = -11;
/** The device is administratively down; the device is gone. The kernel says so before it looks at the ring. */
const ENETDOWN = -100;
const ENXIO = -6;
/** What the device has a frame for; 0 = it has not got it. */
const TO_RECEIVE = 1;
const TO_SEND = 2;
/** How often a close looks for frames that are still being sent. */
const CLOSE_LOOKS = 100;

/** Opens this worker's socket on queue `ticket.port`. The context's slab must be one of `createUmem`. Throws XfrmError. */
export function openXskPort(ticket: XskTicket, context: PortContext): Port {
  const { binding } = load();
  if (binding === null)
    throw new XfrmError({ code: 'UNSUPPORTED', device: ticket.name, what: 'AF_XDP without the native addon' });
  const place = RingPlace.take(context.slab);
  if (place === null)
    throw new XfrmError({ code: 'NO_SPACE', what: `the worker's slab has no room for a socket on ${ticket.name}` });
  const out = new Int32Array(16);
  const { frames, frameSize } = context.slab;
  const open = (): number =>
    binding.xskOpen(
      place.memory,
      out,
      Int32Array.of(
        ticket.ifindex,
        ticket.port,
        frames * frameSize,
        frameSize,
        place.pages,
        RING_BYTES,
        RING_ENTRIES,
        ticket.bindFlags,
        place.owner,
        ticket.map,
      ),
    );
  let fd = open();
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; i < BIND_TRIES && fd < 0 && errnoName(fd) === 'EBUSY'; i++) {
    Atomics.wait(sleeper, 0, 0, BIND_WAIT_MS);
    fd = open();
  }
  if (fd < 0) {
    place.release(-1);
    throw new XfrmError({
      code: errnoName(fd) === 'EBUSY' ? 'BUSY' : 'SYSTEM',
      call: 'bind(AF_XDP)',
      errno: errnoName(fd),
      what: `cannot open queue ${ticket.port} of ${ticket.name} (${errnoName(fd)})`,
    });
  }
  place.own(fd);
  const zeroCopy = binding.xskZeroCopy(fd) === 1;
  Atomics.store(new Int32Array(ticket.copies), ticket.port, zeroCopy ? XskCopy.ZERO_COPY : XskCopy.COPY);
  return new XskPort(fd, zeroCopy, binding, place, out, ticket, context);
}

class XskPort implements Port {
  readonly fd: number;
  readonly #zeroCopy: boolean;
  readonly #binding: Binding;
  readonly #place: RingPlace;
  readonly #slab: FrameSlab;
  readonly #pool: FramePool;
  readonly #rx: RxRing;
  readonly #tx: TxRing;
  readonly #fill: FillRing;
  readonly #completion: CompletionRing;
  readonly #crypto: SoftOffloadPort;
  readonly #stats: Float64Array;
  readonly #posted: PostedCount;
  readonly #link: Int32Array;
  readonly #index: number;
  readonly #hops: NextHops | null;
  /** By frame: what the device has it for. */
  readonly #held: Uint8Array;
  /** Frames the device may have to receive into, and has. */
  readonly #share: number;
  #stock = 0;
  #sending = 0;
  #reaps = 0;
  #lost = 0;
  #closed = false;

  constructor(
    fd: number,
    zeroCopy: boolean,
    binding: Binding,
    place: RingPlace,
    offsets: Int32Array,
    ticket: XskTicket,
    context: PortContext,
  ) {
    const { slab, pool, engine, handles } = context;
    const words = new Int32Array(place.memory.buffer);
    this.fd = fd;
    this.#zeroCopy = zeroCopy;
    this.#binding = binding;
    this.#place = place;
    this.#slab = slab;
    this.#pool = pool;
    this.#rx = new RxRing(words, offsets, 0, RING_ENTRIES);
    this.#tx = new TxRing(words, offsets, 4, RING_ENTRIES);
    this.#fill = new FillRing(words, offsets, 8, RING_ENTRIES);
    this.#completion = new CompletionRing(words, offsets, 12, RING_ENTRIES);
    this.#stats = attachPortStats(ticket.stats).port(ticket.port);
    this.#posted = new PostedCount(ticket.posted, ticket.port);
    this.#link = new Int32Array(ticket.link);
    this.#index = ticket.index;
    const { hops } = ticket;
    this.#hops = hops === null ? null : new NextHops(hops.table, hops.mac, slab, this.#stats);
    this.#held = new Uint8Array(slab.frames);
    this.#crypto = new SoftOffloadPort({
      memory: ticket.keys,
      engine,
      handles,
      lowerIndex: ticket.index,
      port: ticket.port,
      stats: this.#stats,
    });
    this.#share = Math.min(place.share, RING_ENTRIES);
    this.#refill();
  }

  /** Rows without a ring slot are refused before anything is sealed; what a dead device would not take is UNSENT. One kick. */
  xmit(burst: Burst): number {
    const { rows, list } = burst;
    const link = this.#link;
    // A ring that nobody reads any more keeps what is put into it.
    const up =
      !this.#closed && Atomics.load(link, LinkWord.RUNNING) === 1 && Atomics.load(link, LinkWord.CARRIER) === 1;
    // Every time, not for want of room alone: what has just been sent is received into next, while it is in the cache.
    if (this.#sending > 0) this.#complete();
    const room = up ? this.#tx.room(burst.length) : 0;
    if (room < burst.length) this.#refuse(burst, room, up ? DropReason.NO_ROOM : DropReason.LINK_DOWN);
    this.#hops?.look(burst);
    this.#crypto.seal(burst);

    let n = 0;
    let bytes = 0;
    for (let i = 0; i < burst.length; i++) {
      const row = list[i]!;
      const r = row * Row.WORDS;
      if (rows[r + Row.FATE] !== 0) continue;
      const state = rows[r + Row.STATE];
      // Whatever went wrong before: only sealed rows, and those that may be clear, reach the wire.
      if (state !== RowState.SEALED && state !== RowState.CLEAR) {
        rows[r + Row.FATE] = DropReason.UNSET;
        continue;
      }
      const start = rows[r + Row.START]!;
      const length = rows[r + Row.END]! - start;
      this.#hops?.address(row, start);
      this.#tx.put(n++, start, length);
      this.#held[row] = TO_SEND;
      bytes += length;
    }
    if (n === 0) return 0;
    const stats = this.#stats;
    this.#posted.post(n);
    this.#tx.send(n);
    // A driver that reads the ring itself may have read it at any time.
    if (this.#tx.needsWakeup && !this.#kick() && !this.#zeroCopy) return this.#unsend(burst, n);
    this.#sending += n;
    stats[PortStat.SENT] = stats[PortStat.SENT]! + n;
    stats[PortStat.SENT_BYTES] = stats[PortStat.SENT_BYTES]! + bytes;
    return n;
  }

  /** The `n` rows just put into the ring, which nobody has looked at since. */
  #unsend(burst: Burst, n: number): number {
    const { rows, list } = burst;
    this.#tx.unsend(n);
    for (let i = 0; i < burst.length; i++) {
      const row = list[i]!;
      if (rows[row * Row.WORDS + Row.FATE] !== 0) continue;
      rows[row * Row.WORDS + Row.FATE] = DropReason.LINK_DOWN;
      this.#held[row] = 0;
    }
    this.#posted.complete(n);
    this.#stats[PortStat.UNSENT] = this.#stats[PortStat.UNSENT]! + n;
    return 0;
  }

  /** All rows behind the first `room`. */
  #refuse(burst: Burst, room: number, fate: DropReason): void {
    const { rows, list } = burst;
    let left = room;
    let refused = 0;
    for (let i = 0; i < burst.length; i++) {
      const r = list[i]! * Row.WORDS;
      if (rows[r + Row.FATE] !== 0 || left-- > 0) continue;
      rows[r + Row.FATE] = fate;
      refused++;
    }
    this.#stats[PortStat.REFUSED] = this.#stats[PortStat.REFUSED]! + refused;
  }

  poll(burst: Burst): number {
    if (this.#closed) return 0;
    const want = Math.min(BATCH, burst.list.length - burst.length);
    const got = this.#rx.peek(want);
    if (got === 0) {
      this.#refill();
      return 0;
    }
    const { rows, frameSize } = this.#slab;
    const stats = this.#stats;
    let bytes = 0;
    let taken = 0;
    for (let i = 0; i < got; i++) {
      const start = this.#rx.address(i);
      const length = this.#rx.length(i);
      const row = this.#takeBack(start, TO_RECEIVE);
      if (row < 0) continue;
      // The kernel writes the ring; still nothing that it says is believed beyond the frame.
      if (length < 0 || start + length > (row + 1) * frameSize) {
        this.#pool.give(row);
        continue;
      }
      resetRow(rows, row, start, start + length, RowState.RECEIVED);
      rows[row * Row.WORDS + Row.LOWER] = this.#index;
      bytes += length;
      taken++;
      burst.list[burst.length++] = row;
    }
    this.#rx.done(got);
    this.#stock -= got;
    stats[PortStat.RECEIVED] = stats[PortStat.RECEIVED]! + taken;
    if (taken < got) stats[PortStat.OVERRUN] = stats[PortStat.OVERRUN]! + got - taken;
    stats[PortStat.RECEIVED_BYTES] = stats[PortStat.RECEIVED_BYTES]! + bytes;
    this.#refill();
    return taken;
  }

  get held(): number {
    let held = 0;
    for (const mark of this.#held) if (mark !== 0) held++;
    return held;
  }

  open(burst: Burst): number {
    return this.#crypto.open(burst);
  }

  reap(): number {
    if (this.#closed) return 0;
    this.#crypto.sweep();
    let done = this.#complete();
    // What a kick left over, for want of memory or because there was too much: only that costs a call.
    if (this.#sending > 0 && this.#tx.needsWakeup) {
      this.#kick();
      done += this.#complete();
    }
    if (++this.#reaps % LOST_EVERY === 0) this.#countLost();
    return done;
  }

  room(): number {
    return this.#tx.room(RING_ENTRIES);
  }

  /** Waits a moment for frames on their way; then the socket goes, and every frame is the worker's again. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const sleeper = new Int32Array(new SharedArrayBuffer(4));
    for (let i = 0; i < CLOSE_LOOKS && this.#sending > 0; i++) {
      this.#kick();
      if (this.#complete() === 0) Atomics.wait(sleeper, 0, 0, 1);
    }
    this.#countLost();
    this.#crypto.close();
    this.#binding.xskClose(this.fd, this.#place.memory, this.#place.pages, this.#place.bytes);
    this.#place.release(this.fd);
    for (let row = 0; row < this.#held.length; row++) if (this.#held[row] !== 0) this.#pool.give(row);
    this.#held.fill(0);
    this.#posted.complete(this.#sending);
    this.#sending = 0;
  }

  /**
   * In copy mode one call sends some frames, 32 before Linux 6.17, and says EAGAIN when there are more; the ring tells the
   * rest. Other errors cast doubt on the link: EBUSY is a frame that the device dropped, as without carrier. False when the
   * device is down or gone and has not looked at the ring.
   */
  #kick(): boolean {
    let result = EAGAIN;
    let calls = 0;
    while (result === EAGAIN && calls++ < RING_ENTRIES / 32) result = this.#binding.xskKick(this.fd);
    if (result === 0 || result === EAGAIN) return true;
    Atomics.store(this.#link, LinkWord.DOUBT, 1);
    return calls > 1 || (result !== ENETDOWN && result !== ENXIO);
  }

  /** Frames that have been sent go back to the pool. */
  #complete(): number {
    let total = 0;
    for (;;) {
      const n = this.#completion.peek(BATCH);
      if (n === 0) break;
      for (let i = 0; i < n; i++) {
        const row = this.#takeBack(this.#completion.address(i), TO_SEND);
        if (row < 0) continue;
        this.#pool.give(row);
        total++;
      }
      this.#completion.done(n);
    }
    if (total > 0) {
      this.#sending -= total;
      this.#posted.complete(total);
    }
    return total;
  }

  /** The frame of an address that the device gives back, or -1 when it has no such frame for that. */
  #takeBack(address: number, what: number): number {
    const row = address >>> FRAME_SHIFT;
    if (row >= this.#slab.frames || this.#held[row] !== what) return -1;
    this.#held[row] = 0;
    return row;
  }

  /** Keeps the device's stock of free frames up to its share. */
  #refill(): void {
    const { frameSize } = this.#slab;
    let given = 0;
    while (this.#stock < this.#share) {
      const n = Math.min(BATCH, this.#share - this.#stock, this.#pool.free, this.#fill.room(BATCH));
      if (n <= 0) break;
      for (let i = 0; i < n; i++) {
        const row = this.#pool.take();
        this.#held[row] = TO_RECEIVE;
        this.#fill.put(i, row * frameSize);
      }
      this.#fill.give(n);
      this.#stock += n;
      given += n;
    }
    if (given > 0 && this.#fill.needsWakeup) this.#binding.xskWake(this.fd);
  }

  #countLost(): void {
    const lost = this.#binding.xskLost(this.fd);
    if (lost <= this.#lost) return;
    this.#stats[PortStat.OVERRUN] = this.#stats[PortStat.OVERRUN]! + lost - this.#lost;
    this.#lost = lost;
  }
}
