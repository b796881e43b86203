/** How workers that go through stretches keep near each other. */

/** The place of a worker that has come to its end. */
export const ENDED: number = 2 ** 30;

/** Lets the others come beyond `place`, but does not wait long for one that does not come; the least place of theirs. */
export function awaitOthers(places: Int32Array, worker: number, workers: number, place: number): number {
  let other = ENDED;
  for (let spin = 0; spin < 400; spin++) {
    other = ENDED;
    for (let w = 0; w < workers; w++) if (w !== worker) other = Math.min(other, Atomics.load(places, w * 16));
    if (other > place) break;
    if (spin > 200) Atomics.wait(places, worker * 16 + 1, 0, 0.05);
  }
  return other;
}

/** Where the first of the workers is. */
export function furthest(places: Int32Array, workers: number): number {
  let place = 0;
  for (let w = 0; w < workers; w++) place = Math.max(place, Atomics.load(places, w * 16));
  return place;
}
