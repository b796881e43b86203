export * from './burst.ts';
export * from './checksum.ts';
export * from './esp.ts';
export * from './ethernet.ts';
export * from './flow.ts';
export * from './ipv4.ts';
export * from './ipv6.ts';
export * from './udp.ts';
