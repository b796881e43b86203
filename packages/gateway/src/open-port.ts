import { type AfPacketTicket, openAfPacketPort } from '@espalier/af-packet';
import { openXskPort, type XskTicket } from '@espalier/af-xdp';
import { type MockTicket, type MockTunTicket, openMockPort, openMockTunPort } from '@espalier/mock';
import { openTunPort, type TunTicket } from '@espalier/tun';
import { openUdpPort, type UdpTicket } from '@espalier/udp';
import { type Port, type PortContext, type PortTicket, XfrmError } from '@espalier/xfrm';

/** How a worker turns a ticket into a port. */
export type OpenPort = (ticket: PortTicket, context: PortContext) => Port;

/** Opens a port of any backend of this project on the calling worker. Throws XfrmError UNSUPPORTED on other kinds. */
export function openPort(ticket: PortTicket, context: PortContext): Port {
  switch (ticket.kind) {
    case 'af-packet':
      return openAfPacketPort(ticket as AfPacketTicket, context);
    case 'af-xdp':
      return openXskPort(ticket as XskTicket, context);
    case 'mock':
      return openMockPort(ticket as MockTicket, context);
    case 'mock-tun':
      return openMockTunPort(ticket as MockTunTicket, context);
    case 'tun':
      return openTunPort(ticket as TunTicket, context);
    case 'udp':
      return openUdpPort(ticket as UdpTicket, context);
    default:
      throw new XfrmError({ code: 'UNSUPPORTED', device: 'the gateway', what: `ports of kind "${ticket.kind}"` });
  }
}
