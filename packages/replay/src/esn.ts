/**
 * The high half of an extended sequence number (RFC 4303 Appendix A2).
 *
 * The window is (top - size, top]. Its bottom is top - size + 1. Two cases, by whether it spans a multiple of 2^32:
 *
 *     case A: the window lies in one subspace         case B: it spans two
 *      .....[=======].......                           ==].........[=====
 *          Bl       Tl                                  Tl         Bl
 *     lo >= Bl: hi = Th                               lo >= Bl: hi = Th - 1
 *     lo <  Bl: hi = Th + 1                           lo <  Bl: hi = Th
 *
 * Both say: the number is the one congruent to lo in [bottom, bottom + 2^32).
 */
export const TWO_32 = 0x1_0000_0000;

/** The full number, or -1 where case B would give the subspace below the first (there is no such number). */
export function reconstruct(seqLo: number, top: number, size: number): number {
  const bottom = top - size + 1;
  const subspace = Math.floor(bottom / TWO_32);
  const number = (seqLo >= bottom - subspace * TWO_32 ? subspace : subspace + 1) * TWO_32 + seqLo;
  return number < 0 ? -1 : number;
}
