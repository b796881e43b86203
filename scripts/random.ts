/** xorshift32, seeded, so that a failure can be run again: integers from 0 to `below` - 1, `below` at most 2^32. */
export function random(seed: number): (below: number) => number {
  let x = seed | 0 || 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}
