/** index | generation << 20; 0 = none. Valid on every worker; a stale generation resolves to 0. */
export type LowerHandle = number;
