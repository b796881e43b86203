export { loadConfig, parseConfig } from './config.ts';
export { type Devices, type InsideDevice, openDevices } from './devices.ts';
export { ENGINE_NAMES, type EngineName, openEngine } from './engine.ts';
export { Gateway, type GatewayOptions, type GatewayStats, type SlaveStats } from './gateway.ts';
export { type OpenPort, openPort } from './open-port.ts';
export type { GatewayPlan, InsidePlan, LowerPlan, PolicyPlan, SaPlan } from './plan.ts';
export { type Capability, capabilities } from './probe.ts';
