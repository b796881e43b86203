export { Gateway, type GatewayOptions, type GatewayStats, type SlaveStats } from './gateway.ts';
export type { EngineName, GatewayPlan, PolicyPlan, SaPlan } from './plan.ts';
