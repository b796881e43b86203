export { AfPacketDevice, type AfPacketOptions, type AfPacketTicket } from './device.ts';
export { openAfPacketPort } from './port.ts';
