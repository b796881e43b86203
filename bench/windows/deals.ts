/** How numbers come to the threads that share a window. All of a deal's numbers are dealt once, but for `replayed`. */
export type Deal = 'runs of 32' | 'odd and even' | 'same stream' | 'reordered in 64' | 'replayed';

export const BURST = 32;

/** 64 orders of 64 numbers, seeded. */
function orders(): Int32Array {
  const order = new Int32Array(64 * 64);
  let x = 1;
  for (let p = 0; p < 64; p++) {
    for (let i = 0; i < 64; i++) order[p * 64 + i] = i;
    for (let i = 63; i > 0; i--) {
      x = (Math.imul(x, 1103515245) + 12345) >>> 0;
      const j = (x >>> 8) % (i + 1);
      const kept = order[p * 64 + i]!;
      order[p * 64 + i] = order[p * 64 + j]!;
      order[p * 64 + j] = kept;
    }
  }
  return order;
}

/**
 * Numbers of burst `b` of a thread, as offsets from the first number of all, put into `into`: so that what is timed is one
 * loop over one array whatever the deal.
 */
export function dealer(deal: Deal, threads: number, thread: number): (b: number, into: Float64Array) => void {
  const order = orders();
  switch (deal) {
    case 'runs of 32':
      return (b, into) => {
        const first = (b * threads + thread) * BURST;
        for (let i = 0; i < BURST; i++) into[i] = first + i;
      };
    case 'odd and even':
      return (b, into) => {
        const first = b * BURST * threads + thread;
        for (let i = 0; i < BURST; i++) into[i] = first + i * threads;
      };
    case 'same stream':
      return (b, into) => {
        for (let i = 0; i < BURST; i++) into[i] = b * BURST + i;
      };
    case 'reordered in 64':
      return (b, into) => {
        // Halves of a stretch of 64 that one thread takes whole.
        const stretch = (b >> 1) * threads + thread;
        const at = (stretch & 63) * 64 + (b & 1) * BURST;
        for (let i = 0; i < BURST; i++) into[i] = stretch * 64 + order[at + i]!;
      };
    case 'replayed':
      return (_, into) => {
        for (let i = 0; i < BURST; i++) into[i] = i;
      };
  }
}
