import { Verdict } from './layout.ts';
import type { ReplayWindow } from './window.ts';

/** A window's state as plain data: survives `structuredClone` and, with `seen` written as text, JSON. */
export interface WindowState {
  readonly format: 1;
  readonly esn: boolean;
  readonly top: number;
  /** Bit i & 7 of byte i >> 3: whether number top - i has been seen. Numbers further back count as seen. */
  readonly seen: Uint8Array;
}

/**
 * The exact state, for a window that no worker is committing to: a number that is committed while this reads may be missing
 * from it, and would be accepted again where it is imported. For a window in use see `exportMark`.
 */
export function exportState(window: ReplayWindow): WindowState {
  const top = window.top();
  const seen = new Uint8Array(Math.ceil(window.size / 8));
  for (let i = 0; i < seen.length * 8; i++)
    if (i >= window.size || i >= top || window.check(top - i) !== Verdict.ACCEPT) seen[i >> 3]! |= 1 << (i & 7);
  return { format: 1, esn: window.esn, top, seen };
}

/**
 * What a window in use can promise: everything up to this number counts as seen. `margin` is how many numbers can arrive
 * before the copy takes over; `acceptUpTo` imports the mark. Numbers between are refused there, none is accepted twice.
 */
export function exportMark(window: ReplayWindow, margin: number): number {
  if (!Number.isSafeInteger(margin) || margin < 0) throw new RangeError(`"margin" must be at least 0, got ${margin}`);
  return Math.min(window.limit, window.top() + margin);
}

/**
 * Brings a state into a window, of whatever size, that no worker is committing to. What either has seen counts as seen.
 * RangeError, and nothing done, for a state that is not one.
 */
export function importState(window: ReplayWindow, state: WindowState): void {
  const { format, esn, top, seen } = state;
  if (format !== 1 || esn !== window.esn || !(seen instanceof Uint8Array))
    throw new RangeError('not the state of such a replay window');
  if (!Number.isSafeInteger(top) || top < 0 || top > window.limit)
    throw new RangeError(`"top" must be from 0 to ${window.limit}, got ${top}`);
  const size = seen.length * 8;
  if (top - size >= 0) window.acceptUpTo(top - size);
  for (let i = Math.min(size, top) - 1; i >= 0; i--) if (((seen[i >> 3]! >> (i & 7)) & 1) !== 0) window.commit(top - i);
}
