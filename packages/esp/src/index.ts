export type { ResyncBounds } from './ahead.ts';
export { AUDITABLE, type AuditEvent, type AuditOptions, AuditRing, type AuditSink } from './audit.ts';
export { jointEngine, SECOND_KEYS } from './engines/joint.ts';
export { type AeadBinding, type AeadProvider, nativeEngine } from './engines/native.ts';
export { nobleEngine } from './engines/noble.ts';
export { EspInbound } from './inbound.ts';
export { type KeyLimits, keyLimits, type LimitOptions } from './limits.ts';
export { clampMss } from './mss.ts';
export { EspOutbound } from './outbound.ts';
export { EspPath } from './path.ts';
export { LEAST_MTU_4, LEAST_MTU_6, MTU_AGE_MS, PathMtu } from './path-mtu.ts';
export type { EspPathOptions } from './path-options.ts';
export { RateLimit } from './rate-limit.ts';
export { type EngineOptions, RowEngine } from './row-engine.ts';
export { SaStat } from './sa-counters.ts';
export {
  type LinkSource,
  LinkWord,
  SoftDevice,
  type SoftDeviceOptions,
  type SoftTicket,
  SteadyLink,
} from './soft-device.ts';
export { SoftOffload } from './soft-offload.ts';
export { SoftOffloadPort, type SoftOffloadPortOptions } from './soft-offload-port.ts';
export { type RawQueue, SoftPort } from './soft-port.ts';
export { type FrameHash, portOfFlow } from './spread.ts';
export type { InboundTicket, OutboundTicket, OuterOptions, SelectorTicket, SharedPlace } from './tickets.ts';
export type { Aead, Cipher, CipherSuite, Mac } from './transform.ts';
export { finishUdp6 } from './udp-checksum.ts';
export { wiresharkEspSa } from './wireshark.ts';
