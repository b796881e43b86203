/**
 * One word as it is, or as it was: a plain read, since `Atomics.load` is a call and costs six times as much. The memory
 * model allows it to be old, never torn, so it may only be asked where old is right: words of a ring rise, what is taken
 * stays taken, and a compare-and-swap finds out what has changed. (The explorer makes an atomic step of it.)
 */
export function peek(words: Int32Array, at: number): number {
  return words[at]!;
}
