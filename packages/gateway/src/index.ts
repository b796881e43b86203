export { loadConfig, parseConfig } from './config.ts';
export { type Devices, type InsideDevice, openDevices } from './devices.ts';
export { dropPrivileges } from './drop-privileges.ts';
export { describeEngine, ENGINE_NAMES, type EngineName, openEngine } from './engine.ts';
export {
  type AuditEvent,
  EVENT_CHANNELS,
  type GatewayEvent,
  type LifetimeEvent,
  onEvents,
  type RekeyEvent,
  type StateEvent,
} from './events.ts';
export { Gateway, type GatewayOptions } from './gateway.ts';
export { type MetricsServer, openMetrics, serveMetrics } from './metrics.ts';
export { type OpenPort, openPort } from './open-port.ts';
export type { GatewayPlan, InsidePlan, LifetimePlan, LowerPlan, PolicyPlan, SaPlan } from './plan.ts';
export { type Capability, capabilities } from './probe.ts';
export { Rekey, type RekeyOptions, type RekeyPhase, type Succession } from './rekey.ts';
export type { GatewayStats, SaStats, SlaveStats } from './stats.ts';
