import { BondDevice, BondPort } from '@espalier/bond';
import { EspPath } from '@espalier/esp';
import { createMockPair, type MockDevice, type MockTap, openMockPort } from '@espalier/mock';
import { type Burst, createBurst, Row, RowState } from '@espalier/wire';
import {
  type AlgorithmName,
  DROP_CODES,
  Feature,
  type HandleSource,
  LowerHandles,
  OffloadTable,
  type Port,
  type Sa,
  SaKey,
  settle,
} from '@espalier/xfrm';
import { Desk, type EngineName, engineOf, NATIVE, type SaPair, saPair } from '../frame/desk.ts';
import { ipv4 } from '../frame/packets.ts';
import { product, type Scenario, type Trial } from '../frame/scenario.ts';

const SAS = 8;
const BATCH = 64;
const BATCHES = 4;
const FRAMES = 1024;
const ALGORITHM: AlgorithmName = 'aes128gcm16';

interface House {
  readonly desk: Desk;
  readonly path: EspPath;
  readonly bond: BondPort;
  readonly ports: Port[];
  readonly drops: Float64Array;
}

/** One gateway's worker: a bond over mock devices, and every SA offloaded to the bond. */
async function house(
  devices: readonly MockDevice[],
  sas: SaPair[],
  side: 'in' | 'out',
  engine: EngineName,
  tap: MockTap | null,
): Promise<House> {
  const offloads = OffloadTable.create(SAS);
  const maxLowers = devices.length;
  const device = new BondDevice({
    name: side,
    index: 100,
    mode: '802.3ad',
    xmitHashPolicy: 'layer3+4',
    maxSas: SAS,
    maxLowers,
    workers: 1,
    offloads,
  });
  for (const lower of devices) await device.enslave(lower);
  await device.setFeatures(Feature.HW_ESP);
  for (const pair of sas) {
    const { key, ...ticket } = side === 'in' ? pair.in : pair.out;
    const sa: Sa = { ...ticket, direction: side, key: SaKey.attach(key), offload: { type: 'crypto', device } };
    await device.stateAdd(sa);
  }
  const desk = new Desk(FRAMES, BATCH);
  const { slab, pool } = desk;
  const crypto = engineOf(engine);
  let handles: LowerHandles | null = null;
  const late: HandleSource = { resolve: (slot, lower) => handles!.resolve(slot, lower) };
  const context = { slab, pool, engine: crypto, handles: late };
  const ports = devices.map((d) => openMockPort(d.ticket(0), context, tap));
  const bond = BondPort.attach(device.ticket(), {
    worker: 0,
    ports: new Map(devices.map((d, i) => [d.index, ports[i]!])),
    slab,
    capacity: BATCH,
  });
  handles = new LowerHandles(offloads, bond);
  const path = new EspPath({ slab, engine: crypto, maxSas: SAS, linkType: 'ethernet', offloads, capacity: BATCH });
  for (const pair of sas)
    if (side === 'in') path.addInbound(pair.in);
    else path.addOutbound(pair.out);
  return { desk, path, bond, ports, drops: new Float64Array(DROP_CODES) };
}

/** Both houses, and a trial that carries `BATCH * BATCHES` packets of `SAS` flows from one to the other. */
async function road(
  engine: EngineName,
  size: number,
  slaves: number,
  tap: MockTap | null,
  deliver: ((burst: Burst) => void) | null,
): Promise<Trial> {
  const pair = createMockPair({ links: slaves, ringSlots: 512 });
  // SPIs 2k and 2k + 1 share a slave: a stride of 2 spreads them.
  const sas = Array.from({ length: SAS }, (_, slot) =>
    saPair(ALGORITHM, { slot, spi: 0x1000 + 2 * slot, offload: true }),
  );
  const a = await house(pair.a, sas, 'out', engine, tap);
  const b = await house(pair.b, sas, 'in', engine, null);
  const inner = sas.map((_, flow) => ipv4(size, flow));
  const any = { destination: new Uint8Array(4), destinationBits: 0, protocol: null, action: 'protect' as const };
  a.path.setPolicies(inner.map((p, slot) => ({ ...any, source: p.slice(12, 16), sourceBits: 32, slot })));
  const bursts = Array.from({ length: BATCHES }, () => createBurst(a.desk.slab, BATCH));
  let delivered = 0;
  let sent = 0;
  return {
    packets: BATCH * BATCHES,
    prepare: () => {
      for (const burst of bursts) while (burst.length < BATCH) a.desk.put(inner[sent++ % SAS]!, RowState.UNSET, burst);
    },
    step: () => {
      for (const burst of bursts) {
        a.bond.pin();
        a.path.outbound(burst);
        a.bond.xmit(burst);
        settle(burst, a.desk.pool, a.drops);
        a.bond.unpin();
      }
      const { burst, pool } = b.desk;
      b.bond.pin();
      for (const port of b.ports)
        while (port.poll(burst) > 0) {
          b.path.inbound(burst, port);
          deliver?.(burst);
          for (let i = 0; i < burst.length; i++) {
            if (burst.rows[burst.list[i]! * Row.WORDS + Row.FATE] === 0) delivered++;
            pool.give(burst.list[i]!);
          }
          burst.length = 0;
        }
      b.bond.unpin();
    },
    close: () => {
      if (delivered !== sent) throw new Error(`${sent} packets sent, ${delivered} delivered`);
    },
  };
}

export default {
  name: 'path-mock',
  about: 'inner packet, ESP, bond, mock wire, ESP, inner packet: 8 SAs, one thread does both ends',
  variants: [
    ...product({ engine: ['none', 'noble', 'node', ...NATIVE], size: [64, 576, 1400], slaves: [4] }),
    ...product({ engine: ['none'], size: [576], slaves: [1, 2, 8] }),
  ],
  async prove() {
    for (const size of [64, 576, 1400]) {
      const wires: Buffer[] = [];
      for (const engine of ['noble', 'node'] as const) {
        const frames: Uint8Array[] = [];
        const flows: string[] = [];
        const trial = await road(
          engine,
          size,
          4,
          (bytes, start, end) => frames.push(bytes.slice(start, end)),
          ({ rows, list, length, slab }) => {
            for (let i = 0; i < length; i++) {
              const r = list[i]! * Row.WORDS;
              if (rows[r + Row.FATE] === 0)
                flows.push(Buffer.from(slab.bytes.slice(rows[r + Row.START], rows[r + Row.END])).toString('hex'));
            }
          },
        );
        trial.prepare!();
        trial.step();
        trial.close!();
        const want = Array.from({ length: trial.packets }, (_, i) => Buffer.from(ipv4(size, i % SAS)).toString('hex'));
        if (flows.sort().join() !== want.sort().join())
          throw new Error(`${engine}, ${size}: delivered is not what was sent`);
        wires.push(Buffer.concat(frames));
      }
      if (!wires[0]!.equals(wires[1]!)) throw new Error(`${size}: the engines put different bytes on the wire`);
    }
  },
  run: ({ engine, size, slaves }) => road(engine as EngineName, size as number, slaves as number, null, null),
} satisfies Scenario;
