import { type EspPath, nobleEngine } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { RowState } from '@espalier/wire';
import { ALGORITHMS, type AlgorithmName } from '@espalier/xfrm';
import { bareNoble, bareNode } from '../frame/bare.ts';
import { anchor, bareCall, limits, NAMES, SIZES, VARIANTS } from '../frame/beside-bare.ts';
import {
  Desk,
  type EngineName,
  engineOf,
  material,
  NATIVE,
  pathOf,
  protectAll,
  type SaPair,
  saPair,
} from '../frame/desk.ts';
import { leastWork } from '../frame/least.ts';
import { ipv4 } from '../frame/packets.ts';
import type { Scenario, Trial, Variant } from '../frame/scenario.ts';

const BURST = 32;

function sender(algorithm: AlgorithmName, engine: EngineName): { desk: Desk; path: EspPath; sa: SaPair } {
  const desk = new Desk(BURST);
  const path = pathOf(desk, engineOf(engine));
  const sa = saPair(algorithm);
  path.addOutbound(sa.out);
  path.setPolicies(protectAll(0));
  return { desk, path, sa };
}

function whole({ algorithm, by, size }: Variant): Trial {
  const { desk, path } = sender(algorithm as AlgorithmName, by as EngineName);
  const { burst } = desk;
  const inner = ipv4(size as number);
  const packets = Array.from({ length: BURST }, () => inner);
  for (const packet of packets) desk.put(packet, RowState.UNSET);
  return {
    packets: BURST,
    prepare: () => {
      desk.refill(packets, 0, RowState.UNSET);
    },
    step: () => path.outbound(burst),
    close: () => {
      desk.packets();
    },
  };
}

function headersAlone({ size }: Variant): Trial {
  const desk = new Desk(BURST);
  for (let i = 0; i < BURST; i++) desk.put(ipv4(size as number), RowState.UNSET);
  return { packets: BURST, step: leastWork(desk, 14) };
}

function cipherAlone(variant: Variant): Trial {
  const { bare, iv, aad, length, icvLength } = bareCall(variant);
  const places = Array.from({ length: BURST }, () => new Uint8Array(length + icvLength));
  return {
    packets: BURST,
    step: () => {
      for (let i = 0; i < BURST; i++) {
        iv[11] = i;
        bare.seal(iv, aad, places[i]!, length);
      }
    },
    close: () => {
      if (places.some((p) => p.every((x) => x === 0))) throw new Error('nothing sealed');
    },
  };
}

export default {
  name: 'encap',
  about: 'inner packet to sealed ESP frame through EspPath, 32 at a time, against the bare cipher call',
  variants: VARIANTS,
  anchor,
  limits: limits(3, '35 ns of all but the cipher'),
  prove() {
    for (const algorithm of NAMES)
      for (const size of SIZES) {
        const inner = ipv4(size);
        const sealed = (['noble', 'node', ...NATIVE] as const).map((engine) => {
          const { desk, path, sa } = sender(algorithm, engine);
          for (let i = 0; i < BURST; i++) desk.put(inner, RowState.UNSET);
          path.outbound(desk.burst);
          return { frames: desk.packets(), sa };
        });
        const [a, b] = sealed.map((s) => Buffer.concat(s.frames));
        if (ALGORITHMS[algorithm].iv === 'number' && !a!.equals(b!))
          throw new Error(`${algorithm}, ${size}: noble and node seal to different bytes`);
        // The other end opens it, on the other engine.
        for (const [i, engine] of [nodeEngine(), nobleEngine()].entries()) {
          const desk = new Desk(BURST);
          const path = pathOf(desk, engine);
          path.addInbound(sealed[i]!.sa.in);
          for (const frame of sealed[i]!.frames) desk.put(frame, RowState.RECEIVED);
          path.inbound(desk.burst);
          for (const packet of desk.packets())
            if (!Buffer.from(packet).equals(inner)) throw new Error(`${algorithm}, ${size}: not what went in`);
        }
        // And so do the bare calls that the figures are held against: ESP header at 34, IV behind it.
        const frame = sealed[0]!.frames[3]!;
        const { ivLength, icvLength } = ALGORITHMS[algorithm];
        const sent = frame.subarray(42, 42 + ivLength);
        const iv = ivLength === 16 ? sent : Uint8Array.of(...material(algorithm).slice(-4), ...sent);
        const aad = Uint8Array.of(...frame.subarray(34, 38), 0, 0, 0, 0, ...frame.subarray(38, 42));
        if (ALGORITHMS[algorithm].hash !== null) continue;
        for (const bare of [bareNoble, bareNode]) {
          const place = frame.slice(42 + ivLength);
          bare(algorithm, material(algorithm)).open(iv, aad, place, place.length - icvLength);
          if (!Buffer.from(place.subarray(0, size)).equals(inner))
            throw new Error(`${algorithm}: ${bare.name} differs`);
        }
      }
  },
  run: (variant) => {
    if (variant.by === 'least') return headersAlone(variant);
    return String(variant.by).startsWith('bare') ? cipherAlone(variant) : whole(variant);
  },
} satisfies Scenario;
