export { TunDevice, type TunOptions, type TunTicket } from './tun-device.ts';
export { openTunPort } from './tun-port.ts';
