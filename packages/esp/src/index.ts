export { type Aead, AeadEngine, type AeadFactory } from './aead-engine.ts';
export { type AeadBinding, type AeadProvider, nativeEngine } from './engines/native.ts';
export { nobleEngine } from './engines/noble.ts';
export { EspInbound } from './inbound.ts';
export { EspOutbound } from './outbound.ts';
export { EspPath, type EspPathOptions, SaStat } from './path.ts';
export { SoftOffload } from './soft-offload.ts';
export { SoftOffloadPort, type SoftOffloadPortOptions } from './soft-offload-port.ts';
export type { InboundTicket, OutboundTicket, SelectorTicket, SharedPlace } from './tickets.ts';
