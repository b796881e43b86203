import { Row, RowState } from '@espalier/wire';
import { DropReason } from '@espalier/xfrm';
import { Desk, type EngineName, engineOf, NATIVE, pathOf, saPair, sealedFrames } from '../frame/desk.ts';
import { product, type Scenario, type Trial, type Variant } from '../frame/scenario.ts';

const BURST = 32;
const FRAMES = 1024;
const ENGINES = ['node', ...NATIVE] as const;

/** Frames for the first time, under a new window each time round; or all but the first round for the second time. */
function arrive({ what, by, size }: Variant): Trial {
  const frames = sealedFrames('aes128gcm16', size as number, 'node', FRAMES, BURST);
  const desk = new Desk(BURST);
  const path = pathOf(desk, engineOf(by as EngineName));
  const { burst } = desk;
  for (let i = 0; i < BURST; i++) desk.put(frames[i]!, RowState.RECEIVED);
  let at = 0;
  path.addInbound(saPair('aes128gcm16').in);
  const prepare = (): void => {
    if (at === FRAMES) {
      at = 0;
      if (what === 'fresh') {
        path.remove(0);
        path.addInbound(saPair('aes128gcm16').in);
      }
    }
    at = desk.refill(frames, at, RowState.RECEIVED);
  };
  if (what === 'replayed')
    do {
      prepare();
      path.inbound(burst);
    } while (at < FRAMES);
  return {
    packets: BURST,
    prepare,
    step: () => path.inbound(burst),
    close: () => {
      const fate = what === 'replayed' ? DropReason.REPLAYED : 0;
      for (let i = 0; i < BURST; i++)
        if (burst.rows[burst.list[i]! * Row.WORDS + Row.FATE] !== fate) throw new Error(`packet ${i} is not ${what}`);
    },
  };
}

export default {
  name: 'replayed',
  about: 'a received frame that the window has seen, refused before any cipher, against the same frame taken',
  variants: product({ what: ['fresh', 'replayed'], by: ENGINES, size: [64, 1400] }),
  anchor: (v) => (v.what === 'fresh' ? null : { ...v, what: 'fresh' }),
  limits: [
    {
      variant: { what: 'replayed', by: 'node', size: 64 },
      to: { what: 'fresh', by: 'node', size: 64 },
      most: 0.2,
      goal: 'a replayed packet costs a fifth of a decrypt',
    },
  ],
  prove() {
    for (const what of ['fresh', 'replayed'])
      for (const by of ENGINES) {
        const { prepare, step, close } = arrive({ what, by, size: 64 });
        prepare!();
        step();
        close!();
      }
  },
  run: arrive,
} satisfies Scenario;
