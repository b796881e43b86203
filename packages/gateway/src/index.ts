export { ENGINE_NAMES, type EngineName, openEngine } from './engine.ts';
export { Gateway, type GatewayOptions, type GatewayStats, type SlaveStats } from './gateway.ts';
export type { GatewayPlan, PolicyPlan, SaPlan } from './plan.ts';
