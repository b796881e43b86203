import { RowState } from '@espalier/wire';
import type { AlgorithmName } from '@espalier/xfrm';
import { anchor, bareCall, limits, NAMES, SIZES, VARIANTS } from '../frame/beside-bare.ts';
import { Desk, type EngineName, engineOf, NATIVE, pathOf, saPair, sealedFrames } from '../frame/desk.ts';
import { leastWork } from '../frame/least.ts';
import { ipv4 } from '../frame/packets.ts';
import type { Scenario, Trial, Variant } from '../frame/scenario.ts';

const BURST = 32;
/** Frames sealed beforehand; longer than the window, so that going round again needs a new window only. */
const FRAMES = 4096;

function whole({ algorithm, by, size }: Variant): Trial {
  const frames = sealedFrames(
    algorithm as AlgorithmName,
    size as number,
    by === 'none' ? 'none' : 'node',
    FRAMES,
    BURST,
  );
  const desk = new Desk(BURST);
  const path = pathOf(desk, engineOf(by as EngineName));
  const { burst } = desk;
  for (let i = 0; i < BURST; i++) desk.put(frames[i]!, RowState.RECEIVED);
  let at = FRAMES;
  let added = false;
  return {
    packets: BURST,
    prepare: () => {
      if (at === FRAMES) {
        if (added) path.remove(0);
        path.addInbound(saPair(algorithm as AlgorithmName).in);
        added = true;
        at = 0;
      }
      at = desk.refill(frames, at, RowState.RECEIVED);
    },
    step: () => path.inbound(burst),
    close: () => {
      desk.packets();
    },
  };
}

function headersAlone({ size }: Variant): Trial {
  const desk = new Desk(BURST);
  for (let i = 0; i < BURST; i++) desk.put(ipv4(size as number), RowState.UNSET);
  return { packets: BURST, step: leastWork(desk, 12) };
}

function cipherAlone(variant: Variant): Trial {
  const { bare, iv, aad, length, icvLength } = bareCall(variant);
  // As many as the path gets, so that here too a packet comes from memory that is no longer at hand.
  const sealed = Array.from({ length: FRAMES }, () => {
    const place = new Uint8Array(length + icvLength).fill(1);
    bare.seal(iv, aad, place, length);
    return place;
  });
  const places = sealed.slice(0, BURST).map((place) => place.slice());
  let at = 0;
  return {
    packets: BURST,
    prepare: () => {
      for (const place of places) place.set(sealed[at++ % FRAMES]!);
    },
    step: () => {
      for (let i = 0; i < BURST; i++) bare.open(iv, aad, places[i]!, length);
    },
    close: () => {
      if (places.some((p) => p[0] !== 1)) throw new Error('nothing opened');
    },
  };
}

export default {
  name: 'decap',
  about:
    'received frame to inner packet through EspPath, shared window included, 32 at a time, against the bare cipher call',
  variants: VARIANTS,
  anchor,
  limits: limits(4.5, '40 ns of all but the cipher'),
  prove() {
    for (const algorithm of NAMES)
      for (const size of SIZES) {
        const frames = sealedFrames(algorithm, size, 'node', BURST, BURST);
        for (const engine of ['noble', 'node', ...NATIVE] as const) {
          const desk = new Desk(BURST);
          const path = pathOf(desk, engineOf(engine));
          path.addInbound(saPair(algorithm).in);
          for (const frame of frames) desk.put(frame, RowState.RECEIVED);
          path.inbound(desk.burst);
          for (const packet of desk.packets())
            if (!Buffer.from(packet).equals(ipv4(size)))
              throw new Error(`${algorithm}, ${size}, ${engine}: wrong bytes`);
        }
      }
  },
  run: (variant) => {
    if (variant.by === 'least') return headersAlone(variant);
    return String(variant.by).startsWith('bare') ? cipherAlone(variant) : whole(variant);
  },
} satisfies Scenario;
