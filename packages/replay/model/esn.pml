/* The high half of an ESN number (esn.ts, RFC 4303 Appendix A2) on a coarse edge shared by two workers. A packet carries
 * s mod M for s; its ICV holds only if the number inferred is s. E = region s / G of the greatest number claimed to be seen.
 * The number inferred is the one congruent to the received half in [left, left + M), left by the edge as it was loaded.
 * SLOTS stands for the window: any set that takes a number once (window.pml).
 *
 * Claims
 *     S4   a number in [left, left + M) is inferred right
 *     S5   no edge beyond the greatest authentic number: one packet cannot throw the window 2^32 ahead
 *     S1   nothing is delivered twice
 *
 *   good  once            inferred once, before the ICV             -DS=17
 *   good  wide            a wider window                            -DS=17 -DW=4 -DG=4
 *   long  three           three packets each                        -DS=17 -DNP=3
 *   bad   twice           inferred again for the commit             -DS=17 -DTWICE
 */
#ifndef W
#define W 2
#endif
#ifndef M
#define M 8
#endif
#ifndef G
#define G 2
#endif
#ifndef NP
#define NP 2
#endif
#define LEFT(e) ((e) * G >= W -> (e) * G - W + 1 : 0)
#define INFER(e, lo) (LEFT(e) + (((lo) + 4 * M - LEFT(e)) % M))

byte E, slots[W];
bool delivered[S + 1];
byte authentic, done;

proctype worker() {
  byte s, e, n, old, k;
  bool ok;
  do
  :: k < NP ->
     atomic { select(s : 1 .. S) };
     e = E;
     atomic {
       n = INFER(e, s % M);
       assert(!(s >= LEFT(e) && s < LEFT(e) + M) || n == s)                 /* S4 */
     };
     if :: n != s -> goto next :: else -> skip fi;                          /* the ICV fails */
     atomic { if :: authentic < s -> authentic = s :: else -> skip fi };
#ifdef TWICE
     e = E;
     n = INFER(e, s % M);
#endif
     e = E;
     do
     :: e >= n / G -> break
     :: else -> atomic { if :: E == e -> E = n / G; e = n / G :: else -> e = E fi }
     od;
     assert(E * G <= authentic);                                            /* S5 */
     do
     :: old = slots[n % W];
        if
        :: old >= n -> goto next
        :: else -> atomic { ok = (slots[n % W] == old); if :: ok -> slots[n % W] = n :: else -> skip fi };
                   if :: ok -> break :: else -> skip fi
        fi
     od;
     atomic { assert(!delivered[s]); delivered[s] = true };                 /* S1 */
next:
     atomic { k++; s = 0; e = 0; n = 0; old = 0; ok = false }
  :: k == NP -> break
  od;
  atomic { done++ }
}

init { atomic { run worker(); run worker() }; (done == 2) }
