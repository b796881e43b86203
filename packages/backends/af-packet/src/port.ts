import { type RawQueue, SoftPort } from '@espalier/esp';
import { errnoName, load, slabId } from '@espalier/native';
import type { FrameSlab } from '@espalier/wire';
import { DropReason, type Port, type PortContext, XfrmError } from '@espalier/xfrm';
import type { AfPacketTicket } from './device.ts';

/** Opens this worker's socket on the interface. Throws XfrmError SYSTEM. */
export function openAfPacketPort(ticket: AfPacketTicket, context: PortContext): Port {
  return new SoftPort(ticket, context, (list) => openQueue(ticket, context.slab, list));
}

function openQueue(ticket: AfPacketTicket, slab: FrameSlab, list: Int32Array): RawQueue {
  const { binding } = load();
  if (binding === null)
    throw new XfrmError({ code: 'UNSUPPORTED', device: 'af-packet', what: 'AF_PACKET without the native addon' });
  const socket = binding.packetOpen(ticket.ifindex, ticket.ringSlots);
  if (socket < 0)
    throw new XfrmError({
      code: 'SYSTEM',
      call: 'socket(AF_PACKET)',
      errno: errnoName(socket),
      what: `cannot open port ${ticket.port} of interface ${ticket.ifindex}`,
    });
  const slabNumber = slabId(binding, slab);
  const listNumber = binding.registerList(list);
  return {
    fd: binding.packetFd(socket),
    receives: ticket.ringSlots > 0,
    send: (from, count) => binding.packetSend(socket, slabNumber, listNumber, from, count),
    receive: (count) => binding.packetReceive(socket, slabNumber, listNumber, 0, count),
    lost: () => binding.packetDrops(socket),
    fate(result) {
      const name = result < 0 ? errnoName(result) : 'EAGAIN';
      if (name === 'EAGAIN' || name === 'ENOBUFS') return DropReason.NO_ROOM;
      return name === 'EMSGSIZE' ? DropReason.TOO_BIG : DropReason.LINK_DOWN;
    },
    close() {
      binding.packetClose(socket);
      binding.unregisterList(listNumber);
    },
  };
}
