export { UdpDevice, type UdpOptions } from './device.ts';
export { openUdpPort } from './port.ts';
export type { UdpEndpoint, UdpTicket } from './ticket.ts';
