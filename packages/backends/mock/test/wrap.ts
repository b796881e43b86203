import { type Burst, Row } from '@espalier/wire';
import type { LowerDevice, Port, PortContext, XfrmDeviceOps } from '@espalier/xfrm';
import type { Rig } from '@espalier/xfrm/conformance';

/** The same object with some members replaced; the others still work on the original. */
export function wrap<T extends object>(target: T, over: Partial<T>): T {
  return new Proxy(target, {
    get: (inner, name) => {
      if (name in over) return Reflect.get(over, name);
      const value = Reflect.get(inner, name, inner);
      return typeof value === 'function' ? value.bind(inner) : value;
    },
  });
}

/** The rig with both devices changed. */
export function withDevice(rig: Rig, change: (device: LowerDevice) => Partial<LowerDevice>): Rig {
  return { ...rig, a: wrap(rig.a, change(rig.a)), b: wrap(rig.b, change(rig.b)) };
}

/** The rig with the offload operations of both devices changed. */
export function withOps(rig: Rig, change: (ops: XfrmDeviceOps, device: LowerDevice) => Partial<XfrmDeviceOps>): Rig {
  return withDevice(rig, (device) => ({ xfrm: wrap(device.xfrm!, change(device.xfrm!, device)) }));
}

/** The rig whose ports are changed. */
export function withPort(
  rig: Rig,
  change: (port: Port, context: PortContext, device: LowerDevice) => Partial<Port>,
): Rig {
  return {
    ...rig,
    open: (device, ticket, context) => {
      const port = rig.open(device, ticket, context);
      return wrap(port, change(port, context, device));
    },
  };
}

/** The rig whose ports resolve handles differently. */
export function withHandles(
  rig: Rig,
  resolve: (saSlot: number, lowerIndex: number, context: PortContext) => number,
): Rig {
  return {
    ...rig,
    open: (device, ticket, context) => {
      const handles = { resolve: (saSlot: number, lower: number) => resolve(saSlot, lower, context) };
      return rig.open(device, ticket, { ...context, handles });
    },
  };
}

/** Rows of a burst, by the offset of their first word; `row` is the frame. */
export function each(burst: Burst, visit: (r: number, rows: Int32Array, row: number) => void, from = 0): void {
  for (let i = from; i < burst.length; i++) visit(burst.list[i]! * Row.WORDS, burst.rows, burst.list[i]!);
}
