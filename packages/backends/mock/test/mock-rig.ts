import { createMockPair, type MockDevice, type MockPairOptions, openMockPort } from '@espalier/mock';
import type { LowerDevice, PortTicket } from '@espalier/xfrm';
import type { Rig } from '@espalier/xfrm/conformance';

/** Two mock lowers for the conformance suite, small enough to be filled. */
export function mockRig(options: MockPairOptions = {}): Rig {
  const saSlots = 6;
  const pair = createMockPair({ saSlots, ringSlots: 16, ...options });
  const mock = (device: LowerDevice): MockDevice => (device.name === 'a0' ? pair.a[0]! : pair.b[0]!);
  return {
    a: pair.a[0]!,
    b: pair.b[0]!,
    saSlots,
    open: (_device, ticket: PortTicket, context) => openMockPort(ticket as never, context),
    deliver: async () => {},
    powers: {
      refuseAdd: (device) => mock(device).nic!.refuseAdd(),
      holdAdd: (device) => mock(device).nic!.holdAdd(),
      refuseFeatures: (device) => mock(device).failFeatures(),
      setCarrier: (device, carrier) => mock(device).setCarrier(carrier),
    },
    close: () => pair.close(),
  };
}
