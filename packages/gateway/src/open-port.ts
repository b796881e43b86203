import { type AfPacketTicket, openAfPacketPort } from '@espalier/af-packet';
import { type MockTicket, openMockPort } from '@espalier/mock';
import { openTunPort, type TunTicket } from '@espalier/tun';
import { type Port, type PortContext, type PortTicket, XfrmError } from '@espalier/xfrm';

/** Opens a port of any backend on this worker. */
export function openPort(ticket: PortTicket, context: PortContext): Port {
  switch (ticket.kind) {
    case 'af-packet':
      return openAfPacketPort(ticket as AfPacketTicket, context);
    case 'mock':
      return openMockPort(ticket as MockTicket, context);
    case 'tun':
      return openTunPort(ticket as TunTicket, context);
    default:
      throw new XfrmError({ code: 'UNSUPPORTED', device: 'the gateway', what: `ports of kind "${ticket.kind}"` });
  }
}
