import { AfPacketDevice, type AfPacketTicket, openAfPacketPort } from '@espalier/af-packet';
import { createUmem, openXskPort, XskDevice, type XskTicket } from '@espalier/af-xdp';
import { nobleEngine, type SoftDevice } from '@espalier/esp';
import { load } from '@espalier/native';
import { createBurst, createPool, Row, RowState, resetRow } from '@espalier/wire';
import { DropReason, type Port, type PortContext, PortStat, type PortTicket } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { ip, type VethPair, vethPair } from '../../native/test/veth.ts';

const probe = vethPair('espk');
const reason = typeof probe === 'string' ? probe : null;
if (typeof probe !== 'string') probe.close();

const FRAMES = 256;
const BURST = 4;

interface Kind {
  readonly name: string;
  /** Its socket keeps the ENETDOWN that it was told of for the next send, though the device be up again by then. */
  readonly remembers?: boolean;
  /** Without carrier the kernel drops its frames and says nothing: the queue is off, and noop_enqueue counts as success. */
  readonly silent?: boolean;
  readonly device: (name: string) => SoftDevice;
  readonly open: (ticket: PortTicket, context: PortContext) => Port;
}

const xdp = (attach: 'driver' | 'generic'): Kind => ({
  name: `AF_XDP, ${attach}`,
  device: (name) => XskDevice.open({ name, index: 0, ports: 1, attach }),
  open: (ticket, context) => openXskPort(ticket as XskTicket, context),
});
const KINDS: readonly Kind[] = [
  xdp('driver'),
  xdp('generic'),
  {
    name: 'AF_PACKET',
    remembers: true,
    silent: true,
    device: (name) => AfPacketDevice.open({ name, index: 0, ports: 1, receiver: 0 }),
    open: (ticket, context) => openAfPacketPort(ticket as AfPacketTicket, context),
  },
];

/** A port on one end of a pair. Nothing here lets the event loop turn: the kernel's word of a change is never heard. */
class Rig {
  readonly pair: VethPair = vethPair('espk') as VethPair;
  readonly slab = createUmem({ frames: FRAMES, sockets: 1 });
  readonly pool = createPool(this.slab, 0, FRAMES, 0);
  readonly burst = createBurst(this.slab, BURST);
  readonly device: SoftDevice;
  readonly port: Port;
  heard = 0;

  constructor({ device, open }: Kind) {
    const { slab, pool } = this;
    this.device = device(this.pair.a);
    this.hasCarrier();
    this.device.onChange(() => this.heard++);
    this.port = open(this.device.ticket(0), { slab, pool, engine: nobleEngine(), handles: { resolve: () => 0 } });
  }

  /** The kernel's own flag comes up to a second after the carrier does. */
  hasCarrier(): void {
    const sleeper = new Int32Array(new SharedArrayBuffer(4));
    for (let i = 0; i < 600 && !this.device.carrier; i++) {
      Atomics.wait(sleeper, 0, 0, 5);
      this.device.refresh();
    }
    expect(this.device.carrier).toBe(true);
  }

  /** A burst of ESP in the clear, of so many bytes each: what became of its rows, and by how much the counters moved. */
  send(lengths: readonly number[] = new Array(BURST).fill(100)): {
    fates: number[];
    taken: number;
    sent: number;
    unsent: number;
    refused: number;
  } {
    const { slab, pool, burst, port } = this;
    const { rows } = slab;
    const before = this.#stats();
    burst.length = 0;
    for (let i = 0; i < BURST; i++) {
      const row = pool.take();
      const start = row * slab.frameSize + slab.headroom;
      slab.bytes.fill(0, start, start + lengths[i]!);
      slab.bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45], start);
      resetRow(rows, row, start, start + lengths[i]!, RowState.CLEAR);
      burst.list[burst.length++] = row;
    }
    const taken = port.xmit(burst);
    const list = [...burst.list.subarray(0, BURST)];
    const fates = list.map((row) => rows[row * Row.WORDS + Row.FATE]!);
    for (const [i, row] of list.entries()) if (fates[i] !== 0) pool.give(row);
    const after = this.#stats();
    const [sent, unsent, refused] = after.map((value, i) => value - before[i]!) as [number, number, number];
    return { fates, taken, sent, unsent, refused };
  }

  /** Nothing is ready: whoever waits sleeps, and is not woken by the port's error ever after. */
  waits(): void {
    const binding = load().binding!;
    const wake = binding.eventOpen();
    const list = new Int32Array(new SharedArrayBuffer(8));
    list.set([wake, this.port.fd]);
    const id = binding.registerList(list);
    const began = performance.now();
    for (let i = 0; i < 5; i++) binding.wait(id, 2, 20);
    expect(performance.now() - began).toBeGreaterThan(60);
    expect([...list]).toEqual([wake, this.port.fd]);
    binding.unregisterList(id);
    binding.close(wake);
  }

  /** Everything that was sent is done, and every frame is somewhere. */
  settled(): void {
    for (let i = 0; i < 100 && this.device.inFlight() > 0; i++) this.port.reap();
    expect(this.device.inFlight()).toBe(0);
    expect(this.pool.free + (this.port.held ?? 0)).toBe(FRAMES);
  }

  #stats(): number[] {
    const stats = this.device.stats.port(0);
    return [stats[PortStat.SENT]!, stats[PortStat.UNSENT]!, stats[PortStat.REFUSED]!];
  }

  async close(): Promise<void> {
    this.port.close();
    expect(this.pool.free).toBe(FRAMES);
    await this.device.close();
    this.pair.close();
  }
}

const all = (fate: number): number[] => new Array(BURST).fill(fate);
const SENT = { fates: all(0), taken: BURST, sent: BURST, unsent: 0, refused: 0 };
const UNSENT = { fates: all(DropReason.LINK_DOWN), taken: 0, sent: 0, unsent: BURST, refused: 0 };
const REFUSED = { ...UNSENT, unsent: 0, refused: BURST };

describe.skipIf(reason !== null)(`errors of a send${reason === null ? '' : ` (skipped: ${reason})`}`, () => {
  for (const kind of KINDS) {
    it.each([false, true])(
      `${kind.name}: a device that goes down or away takes nothing, and is known to be down before the kernel's word; somebody waits for it: %s`,
      async (waited) => {
        const rig = new Rig(kind);
        const { device, pair } = rig;
        expect(rig.send()).toEqual(SENT);
        for (const how of ['down', 'deleted']) {
          device.recheck();
          expect(device.running).toBe(true);
          rig.settled();
          rig.heard = 0;
          if (how === 'down') ip('link', 'set', pair.a, 'down');
          else pair.close();
          // Nobody has doubted it yet: nothing is looked at.
          device.recheck();
          expect(device.running).toBe(true);
          expect(rig.send()).toEqual(UNSENT);
          rig.settled();
          device.recheck();
          expect([rig.heard, device.running, device.carrier]).toEqual([1, false, false]);
          expect(rig.send()).toEqual(REFUSED);
          if (how === 'deleted') break;
          if (waited) rig.waits();
          ip('link', 'set', pair.a, 'up');
          rig.hasCarrier();
          if (kind.remembers && !waited) expect(rig.send()).toEqual(UNSENT);
          expect(rig.send()).toEqual(SENT);
        }
        rig.settled();
        await rig.close();
      },
    );

    if (kind.silent) {
      it(`${kind.name}: a frame that is too long ends alone, wherever it stands`, async () => {
        const rig = new Rig(kind);
        for (let long = 0; long < BURST; long++) {
          const lengths = [100, 100, 100, 100].with(long, 1600);
          const fates = all(0).with(long, DropReason.TOO_BIG);
          expect(rig.send(lengths)).toEqual({ fates, taken: 3, sent: 3, unsent: 1, refused: 0 });
        }
        expect(rig.send([1600, 1600, 1600, 1600]).fates).toEqual(all(DropReason.TOO_BIG));
        rig.settled();
        await rig.close();
      });
      continue;
    }
    it(`${kind.name}: frames dropped for want of carrier are the occasion to look`, async () => {
      const rig = new Rig(kind);
      const { device, pair } = rig;
      expect(rig.send()).toEqual(SENT);
      rig.settled();
      ip('link', 'set', pair.b, 'down');
      device.recheck();
      expect(device.carrier).toBe(true);
      rig.send();
      device.recheck();
      expect([rig.heard, device.running, device.carrier]).toEqual([1, true, false]);
      expect(rig.send()).toEqual(REFUSED);
      rig.settled();
      await rig.close();
    });
  }
});
