/* What becomes of RFC 6479's window when its words are put into shared memory: N words of B bits without tags, the right
 * edge LAST, one word always being the one that is cleared, so that (N-1)*B numbers fit. NW workers, NP numbers each.
 *
 *     WAY 1   check; then clear the words skipped, move LAST, set the bit: plain loads and stores
 *     WAY 2   LAST by compare-and-swap first, then words cleared, then the bit by atomic or, whose old value decides
 *     WAY 3   as 2, the words cleared before LAST moves
 *     WAY 4   a spin lock around WAY 1; with CRASH its holder may die
 *
 * Claims as in window.pml: S1 nothing is delivered twice; S2 no refusal without its reason.
 *
 *   bad   plain           RFC 6479 as it stands: replay             -DWAY=1 -DONLY_S1
 *   bad   atomic          every access atomic: replay               -DWAY=2 -DONLY_S1
 *   bad   clear-first     the words cleared first: replay           -DWAY=3 -DONLY_S1
 *   bad   atomic-fresh    every access atomic: fresh refused        -DWAY=2
 *   good  lock            one lock: right while nobody dies         -DWAY=4
 *   bad   lock-crash      its holder dies: all others wait          -DWAY=4 -DCRASH
 */
#ifndef B
#define B 2
#endif
#ifndef N
#define N 3
#endif
#ifndef S
#define S 9
#endif
#ifndef NW
#define NW 2
#endif
#ifndef NP
#define NP 2
#endif
#define W ((N - 1) * B)
#define SLOT(b) ((b) % N)
#define BIT(s) (1 << ((s) % B))

#ifdef ONLY_S1
#define CLAIM(x) skip
#else
#define CLAIM(x) assert(x)
#endif

byte bits[N], LAST;
bool lock;
/* Ghosts. */
bool delivered[S + 1], taken[S + 1];
byte announced, done;

inline clear(from) {
  d = s / B - from / B;
  if :: d > N -> d = N :: else -> skip fi;
  i = 1;
  do
  :: i <= d -> bits[SLOT(from / B + i)] = 0; i++
  :: else -> break
  od
}

proctype worker() {
  byte s, last, i, d, m, k;
  bool ok;
  do
  :: k < NP ->
     atomic { select(s : 1 .. S) };
#if WAY == 4
     atomic { !lock -> lock = true };
#ifdef CRASH
     if :: true -> skip :: true -> goto dead fi;
#endif
#endif
     last = LAST;
     if
     :: last >= s + W -> CLAIM(announced >= s + W); goto next
     :: last < s + W && s <= last ->
          m = bits[SLOT(s / B)];
          if :: m & BIT(s) -> CLAIM(taken[s]); goto next :: else -> skip fi
     :: else -> skip
     fi;
     atomic { if :: announced < s -> announced = s :: else -> skip fi };    /* the ICV held */
#if WAY == 1 || WAY == 4
     last = LAST;
     if :: s > last -> clear(last); LAST = s :: else -> skip fi;
     m = bits[SLOT(s / B)];
     if :: m & BIT(s) -> CLAIM(taken[s]); goto next :: else -> skip fi;
     atomic { bits[SLOT(s / B)] = m | BIT(s); taken[s] = true };
#else
#if WAY == 3
     last = LAST;
     if :: s > last -> clear(last) :: else -> skip fi;
#endif
     do
     :: last = LAST;
        if
        :: last >= s -> ok = false; break
        :: else ->
             atomic { ok = (LAST == last); if :: ok -> LAST = s :: else -> skip fi };
             if :: ok -> break :: else -> skip fi
        fi
     od;
#if WAY == 2
     if :: ok -> clear(last) :: else -> skip fi;
#endif
     atomic { m = bits[SLOT(s / B)]; bits[SLOT(s / B)] = m | BIT(s); if :: !(m & BIT(s)) -> taken[s] = true :: else -> skip fi };
     if :: m & BIT(s) -> CLAIM(taken[s]); goto next :: else -> skip fi;
     last = LAST;
     if :: last >= s + W -> CLAIM(announced >= s + W); goto next :: else -> skip fi;
#endif
     atomic { assert(!delivered[s]); delivered[s] = true };                 /* S1 */
next:
#if WAY == 4
     lock = false;
#endif
     atomic { k++; s = 0; last = 0; i = 0; d = 0; m = 0; ok = false }
  :: k == NP -> break
  od;
dead:
  atomic { done++ }
}

init {
  byte i;
  atomic { do :: i < NW -> run worker(); i++ :: else -> break od };
  (done == NW)
}
