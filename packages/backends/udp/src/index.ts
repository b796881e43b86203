export { UdpDevice, type UdpEndpoint, type UdpOptions, type UdpTicket } from './device.ts';
export { openUdpPort } from './port.ts';
