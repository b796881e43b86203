import { nobleEngine } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { conformance } from '@espalier/xfrm/conformance';
import { describe, expect, it } from 'vitest';
import { mockRig } from './mock-rig.ts';

for (const engine of [nobleEngine, nodeEngine]) {
  describe(`the conformance suite with the engine ${engine().name}`, () => {
    conformance({ it, expect, engine, name: 'mock', create: () => mockRig() });
    conformance({ it, expect, engine, name: 'mock, link type ip', create: () => mockRig({ linkType: 'ip' }) });
    conformance({
      it,
      expect,
      engine,
      name: 'mock, link type esp-udp',
      create: () => mockRig({ linkType: 'esp-udp' }),
    });
    conformance({
      it,
      expect,
      engine,
      name: 'mock that completes late',
      create: () => mockRig({ lateCompletion: true }),
    });
  });
}
