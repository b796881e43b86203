import { Row, RowState, resetRow } from '@espalier/wire';
import { Desk, type EngineName, engineOf, NATIVE, pathOf, protectAll, saPair } from '../frame/desk.ts';
import { ipv4 } from '../frame/packets.ts';
import { product, type Scenario, type Trial, type Variant } from '../frame/scenario.ts';

const BURST = 32;
/** What the heap is held to: bytes, after so many packets, both ways. */
const MOST_GROWTH = 1 << 20;
const PACKETS = 10_000_000;

/** The same burst out and in again, for ever: nothing is copied and nothing else is there. */
function roundTrip({ by, size }: Variant): Trial {
  const desk = new Desk(BURST);
  const engine = engineOf(by as EngineName);
  const out = pathOf(desk, engine);
  const back = pathOf(desk, engine);
  const sa = saPair('aes128gcm16');
  out.addOutbound(sa.out);
  out.setPolicies(protectAll(0));
  back.addInbound(sa.in);
  const { burst, slab } = desk;
  for (let i = 0; i < BURST; i++) desk.put(ipv4(size as number), RowState.UNSET);
  const again = (state: RowState): void => {
    for (let i = 0; i < BURST; i++) {
      const r = burst.list[i]! * Row.WORDS;
      resetRow(slab.rows, burst.list[i]!, slab.rows[r + Row.START]!, slab.rows[r + Row.END]!, state);
    }
  };
  return {
    packets: BURST,
    step: () => {
      out.outbound(burst);
      again(RowState.RECEIVED);
      back.inbound(burst);
      again(RowState.UNSET);
    },
    close: () => {
      for (const packet of desk.packets())
        if (!Buffer.from(packet).equals(ipv4(size as number))) throw new Error('not what went in');
      if (sa.window.accepted() === 0) throw new Error('nothing was accepted');
    },
  };
}

function used(): number {
  globalThis.gc!();
  return process.memoryUsage().heapUsed;
}

export default {
  name: 'round-trip',
  about:
    'one burst out through one EspPath and in through another, in place; the heap stays as it is over 10^7 packets',
  variants: product({ by: ['none', ...NATIVE], size: [64, 1400] }),
  prove() {
    for (const by of ['none', ...NATIVE.slice(0, 1)]) {
      const { step, close } = roundTrip({ by, size: 64 });
      for (let i = 0; i < 20_000; i++) step();
      const before = used();
      for (let packets = 0; packets < PACKETS; packets += BURST) step();
      const grown = used() - before;
      close!();
      if (grown >= MOST_GROWTH) throw new Error(`${by}: ${grown} bytes of heap more after ${PACKETS} packets`);
      process.stdout.write(`round-trip, ${by}: ${grown} bytes of heap more after ${PACKETS} packets\n`);
    }
  },
  run: roundTrip,
} satisfies Scenario;
