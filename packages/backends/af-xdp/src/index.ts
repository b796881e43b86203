export { openXskPort } from './port.ts';
export { createUmem, type UmemOptions } from './umem.ts';
export { XskDevice, type XskOptions, type XskTicket } from './xsk-device.ts';
