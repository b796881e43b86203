/** The devices that a plan names: opened one after another, all or none. */
import { AfPacketDevice } from '@espalier/af-packet';
import { XskDevice } from '@espalier/af-xdp';
import { MockDevice, MockTun, MockWire } from '@espalier/mock';
import { TunDevice } from '@espalier/tun';
import { UdpDevice } from '@espalier/udp';
import type { LowerDevice, PortTicket } from '@espalier/xfrm';
import type { GatewayPlan, LowerPlan } from './plan.ts';

/** The inside of a gateway: a port per worker, and how to close the whole. */
export interface InsideDevice {
  ticket(worker: number): PortTicket;
  close(): void;
}

export interface Devices {
  readonly lowers: readonly LowerDevice[];
  readonly inside: InsideDevice;
}

/** Opens them; throws XfrmError (NOT_FOUND, PERMISSION, BUSY, UNSUPPORTED, SYSTEM), and then nothing stays open. */
export async function openDevices(plan: GatewayPlan): Promise<Devices> {
  const lowers: LowerDevice[] = [];
  try {
    for (const [index, lower] of plan.bond.lowers.entries()) lowers.push(openLower(lower, index, plan));
    return { lowers, inside: openInside(plan) };
  } catch (error) {
    for (const lower of lowers) await lower.close();
    throw error;
  }
}

/** AF_PACKET lowers are dealt to the workers in turn: lower i is read by worker i modulo their number. The others have a queue each. */
function openLower(lower: LowerPlan, index: number, { workers, bond }: GatewayPlan): LowerDevice {
  const { name } = lower;
  // Nobody says where the peer is: the kernel is asked.
  const neighbours = bond.peerMac === undefined;
  if (lower.kind === 'af-packet')
    return AfPacketDevice.open({ name, index, ports: workers, receiver: index % workers, neighbours });
  if (lower.kind === 'af-xdp') return XskDevice.open({ name, index, ports: workers, attach: lower.attach, neighbours });
  if (lower.kind === 'udp')
    return UdpDevice.open({
      name,
      index,
      ports: workers,
      local: { address: lower.local, port: lower.localPort },
      peer: { address: lower.peer, port: lower.peerPort },
      sourcePorts: lower.sourcePorts,
      mtu: bond.mtu,
      ...(lower.device === undefined ? {} : { device: lower.device }),
    });
  // A wire of one link: the worker that reads it follows from its number, so the links before it are there too.
  const wire = MockWire.create({ links: index + 1, workers, ringSlots: 64 });
  const { mtu, mac = null } = bond;
  return new MockDevice(wire, { name, index, link: index, side: 0, ports: workers, mtu, mac, saSlots: lower.saSlots });
}

function openInside({ inside, workers }: GatewayPlan): InsideDevice {
  const { kind, name, mtu, addresses } = inside;
  return kind === 'mock'
    ? new MockTun({ name, queues: workers })
    : TunDevice.open({ name, queues: workers, mtu, addresses });
}
