/* The shared window, burst form (window.ts): NW workers, each NP bursts of K numbers, any numbers of 1..S in any order.
 *
 *     word[b % N] = (tag b / N, one bit for each of B numbers)        E = region s / G of the greatest announced number
 *
 * One shared access a step, sequentially consistent, as Atomics are. The steps are those of the code:
 *
 *     check     load E; LOOK where needed; load the word of each block                  (its verdicts are final)
 *     (ICV)     with FORGED any row may fail here
 *     commit    load E; judge rows in order; LOOK where needed; raise E; one swap a word, expecting what check loaded
 *
 * LOOK reads the words of E's region from the right: the greatest number taken in it, when that decides.
 * Striping is left out: it renames words one to one, and nothing here depends on where a word lies (that the names are one
 * to one is for the explorer and the twin to find). ESN is in esn.pml: all numbers here are full ones.
 * A worker that dies is a worker that takes no further step; every prefix of every run is visited, no step waits for
 * another worker, so deaths between any two steps are covered.
 *
 * Claims
 *     S1   no number is claimed twice, and of the rows that offer it one is accepted
 *     S2   REPLAYED only if claimed; STALE only if a number >= s + W was announced by a commit that had begun, or by an
 *          earlier row of the same burst
 *     S3   nothing is accepted that was left of the window when its commit loaded E
 *
 *   good  bursts          2 workers, 2 rows                         -DNW=2 -DK=2 -DS=8
 *   good  singles         2 workers, 2 bursts of 1                  -DNW=2 -DK=1 -DNP=2 -DS=9
 *   good  three-workers   3 workers, 1 row                          -DNW=3 -DK=1 -DS=6
 *   good  forged          2 workers, 2 rows, any ICV fails          -DNW=2 -DK=2 -DS=5 -DFORGED
 *   good  wide-region     regions of two words                      -DNW=2 -DK=2 -DS=8 -DG=4 -DW=5 -DN=4
 *   long  far             2 workers, 2 rows, more numbers           -DNW=2 -DK=2 -DS=10
 *   long  three-far       3 workers, 1 row, more numbers            -DNW=3 -DK=1 -DS=9
 *   long  three-rows      2 workers, 3 rows                         -DNW=2 -DK=3 -DS=6
 *   long  three-by-two    3 workers, 2 rows, three numbers          -DNW=3 -DK=2 -DS=3
 *   long  two-bursts      2 workers, 2 bursts of 2                  -DNW=2 -DK=2 -DNP=2 -DS=5
 *   bad   equality-tags   a newer tag is overwritten: replay        -DNW=2 -DK=2 -DS=9 -DEQTAG -DONLY_S1
 *   bad   finite-tags     tags repeat: fresh refused                -DNW=2 -DK=1 -DNP=2 -DS=9 -DTAGS=2
 *   bad   edge-late       E raised after the words: left of window  -DNW=2 -DK=2 -DS=9 -DLATE
 *   bad   stale-bits      a recycled word keeps its old bits        -DNW=2 -DK=2 -DS=9 -DMERGE
 *   bad   no-swap         a store instead of the swap: replay       -DNW=2 -DK=2 -DS=9 -DNOSWAP -DONLY_S1
 *   bad   grant-old       granted by what check saw: replay         -DNW=2 -DK=2 -DS=9 -DGRANTOLD -DONLY_S1
 *   bad   copies          copies in a burst not separated: replay   -DNW=2 -DK=2 -DS=9 -DCOPIES -DONLY_S1
 *   bad   copies-early    copies refused before the ICV             -DNW=2 -DK=2 -DS=5 -DFORGED -DEARLY
 *   bad   burst-maximum   rows judged by the burst's maximum        -DNW=2 -DK=2 -DS=9 -DBURSTMAX
 *   bad   lenient-edge    no LOOK, doubt accepts: left of window    -DNW=2 -DK=2 -DS=9 -DLENIENT
 *   bad   strict-edge     no LOOK, doubt refuses: fresh refused     -DNW=2 -DK=2 -DS=9 -DSTRICT
 *   bad   short-ring      N*B < W+B-1: fresh refused                -DNW=2 -DK=2 -DS=9 -DW=4
 */
#ifndef B
#define B 2
#endif
#ifndef N
#define N 2
#endif
#ifndef W
#define W 3
#endif
#ifndef G
#define G 2
#endif
#ifndef NP
#define NP 1
#endif

#define SLOT(b) ((b) % N)
#ifdef TAGS
#define LAP(b) (((b) / N) % TAGS)
#else
#define LAP(b) ((b) / N)
#endif
#define BIT(s) (1 << ((s) % B))
#define LAST(e) ((e) * G + G - 1)

#ifdef ONLY_S1
#define CLAIM(x) skip
#else
#define CLAIM(x) assert(x)
#endif

#define OPEN 0
#define ACCEPT 1
#define REPLAYED 2
#define STALE 3
#define ICV 4

byte tag[N], bits[N], E;

/* Ghosts: what has been claimed; the greatest of it; the greatest number of each worker's commit; of commits that ended. */
bool claimed[S + 1];
byte top, begun[NW], past;
byte done;

/* The greatest number announced by others than `me`, or before. */
#if NW == 2
#define OTHERS (begun[1 - me] > past -> begun[1 - me] : past)
#else
#define OTHERS (begun[(me + 1) % NW] > begun[(me + 2) % NW] -> (begun[(me + 1) % NW] > past -> begun[(me + 1) % NW] : past) : (begun[(me + 2) % NW] > past -> begun[(me + 2) % NW] : past))
#endif

/* exact := greatest number taken in region e; its first when none is. One word a step. */
inline look() {
  x = LAST(e) / B;
  do
  :: atomic {
       exact = e * G; known = true;
       if
       :: tag[SLOT(x)] > LAP(x) -> exact = LAST(e)
       :: tag[SLOT(x)] == LAP(x) && bits[SLOT(x)] != 0 ->
            p = B;
            do :: p > 0 && (bits[SLOT(x)] & (1 << (p - 1))) == 0 -> p-- :: else -> break od;
            if :: x * B + p - 1 > exact -> exact = x * B + p - 1 :: else -> skip fi;
            p = 0
       :: else -> known = (x * B <= e * G); x--
       fi
     };
     if :: known -> break :: else -> skip fi
  od;
  x = 0
}

/* fate of row j by edge e and the greatest row before it. */
inline judge() {
  if
  :: s[j] + W <= reach -> atomic { fate[j] = STALE; CLAIM(OTHERS >= s[j] + W || rmx >= s[j] + W) }
  :: s[j] + W > reach && s[j] + W <= LAST(e) ->
#ifdef STRICT
       atomic { fate[j] = STALE; CLAIM(OTHERS >= s[j] + W || rmx >= s[j] + W) }
#elif !defined(LENIENT)
       if :: !known -> look() :: else -> skip fi;
       if
       :: s[j] + W <= exact -> atomic { fate[j] = STALE; CLAIM(OTHERS >= s[j] + W || rmx >= s[j] + W) }
       :: else -> skip
       fi
#else
       skip
#endif
  :: else -> skip
  fi
}

inline raise(to) {
  do
  :: e >= to -> break
  :: else -> atomic { if :: E == e -> E = to; e = to :: else -> e = E fi }
  od
}

proctype worker(byte me) {
  byte s[K], fate[K];
  byte block[K], mask[K], wtag[K], wbits[K];
  byte n, j, k, x, p, e, reach, rmx, exact, t, m, got, topThen, mx;
  bool known, ok;
  do
  :: k < NP ->
     atomic {
       do
       :: j < K -> select(x : 1 .. S); s[j] = x; j++
       :: else -> break
       od;
       j = 0; x = 0
     };

     /* check */
     atomic { e = E; reach = e * G };
     do
     :: j < K ->
        judge();
        if
        :: fate[j] == OPEN ->
             atomic {
               do :: x < n && block[x] != s[j] / B -> x++ :: else -> break od;
               ok = (x == n)
             };
             if
             :: ok -> atomic { block[n] = s[j] / B; wtag[n] = tag[SLOT(s[j] / B)]; wbits[n] = bits[SLOT(s[j] / B)]; n++ }
             :: else -> skip
             fi;
             atomic {
               if
               :: wtag[x] > LAP(block[x]) -> fate[j] = STALE; CLAIM(OTHERS >= s[j] + W)
               :: wtag[x] == LAP(block[x]) && (wbits[x] & BIT(s[j])) -> fate[j] = REPLAYED; CLAIM(claimed[s[j]])
#ifdef EARLY
               :: wtag[x] <= LAP(block[x]) && !(wtag[x] == LAP(block[x]) && (wbits[x] & BIT(s[j]))) && (mask[x] & BIT(s[j])) -> fate[j] = REPLAYED
#endif
               :: else -> mask[x] = mask[x] | BIT(s[j])
               fi;
               x = 0; ok = false
             }
        :: else -> skip
        fi;
        j++
     :: else -> break
     od;
     atomic {
       j = 0; known = false; exact = 0; x = 0;
       do :: x < K -> mask[x] = 0; x++ :: else -> break od;
       x = 0
     };
#ifdef FORGED
     atomic {
       do
       :: j < K -> if :: fate[j] == OPEN -> fate[j] = ICV :: true -> skip fi; j++
       :: else -> break
       od;
       j = 0
     };
#endif

     /* commit */
     atomic {
       e = E; topThen = top; reach = e * G;
       do :: j < K -> if :: fate[j] == OPEN && s[j] > mx -> mx = s[j] :: else -> skip fi; j++ :: else -> break od;
       j = 0; begun[me] = mx;
#ifdef BURSTMAX
       if :: mx > reach -> reach = mx :: else -> skip fi
#endif
     };
     do
     :: j < K ->
        if
        :: fate[j] == OPEN ->
             judge();
             atomic {
               if
               :: fate[j] == OPEN ->
                    if :: s[j] > rmx -> rmx = s[j] :: else -> skip fi;
                    if :: s[j] > reach -> reach = s[j] :: else -> skip fi;
                    do :: x < n && block[x] != s[j] / B -> x++ :: else -> break od;
                    assert(x < n);
                    mask[x] = mask[x] | BIT(s[j]); x = 0
               :: else -> skip
               fi
             }
        :: else -> skip
        fi;
        j++
     :: else -> break
     od;
#ifndef LATE
     raise(rmx / G);
#endif
     j = 0;
     do
     :: x < n && mask[x] == 0 -> x++
     :: x < n && mask[x] != 0 ->
        atomic { t = wtag[x]; m = wbits[x] };
        do
        :: t == LAP(block[x]) && (mask[x] & ~m) == 0 -> break
#ifndef EQTAG
        :: t > LAP(block[x]) -> break
        :: t < LAP(block[x]) || (t == LAP(block[x]) && (mask[x] & ~m) != 0) ->
#else
        :: t != LAP(block[x]) || (mask[x] & ~m) != 0 ->
#endif
             atomic {
#ifdef NOSWAP
               ok = true;
#else
               ok = (tag[SLOT(block[x])] == t && bits[SLOT(block[x])] == m);
#endif
               if
               :: ok ->
#ifdef GRANTOLD
                    got = (wtag[x] == LAP(block[x]) -> mask[x] & ~wbits[x] : mask[x]);
#else
                    got = (t == LAP(block[x]) -> mask[x] & ~m : mask[x]);
#endif
#ifdef MERGE
                    bits[SLOT(block[x])] = m | mask[x];
#else
                    bits[SLOT(block[x])] = (t == LAP(block[x]) -> m | mask[x] : mask[x]);
#endif
                    tag[SLOT(block[x])] = LAP(block[x]);
                    do
                    :: p < B ->
                       if
                       :: got & (1 << p) ->
                            assert(!claimed[block[x] * B + p]);                                          /* S1 */
                            claimed[block[x] * B + p] = true;
                            if :: block[x] * B + p > top -> top = block[x] * B + p :: else -> skip fi
                       :: else -> skip
                       fi;
                       p++
                    :: else -> break
                    od;
                    p = 0
               :: else -> t = tag[SLOT(block[x])]; m = bits[SLOT(block[x])]
               fi
             };
             if :: ok -> break :: else -> skip fi
        od;
        atomic {
          /* The first row of a granted number has it. */
          rmx = 0;
          do
          :: j < K ->
             if :: fate[j] != ICV && s[j] > rmx && fate[j] != STALE -> rmx = s[j] :: else -> skip fi;
             if
             :: fate[j] == OPEN && s[j] / B == block[x] ->
                  if
                  :: got & BIT(s[j]) ->
                       fate[j] = ACCEPT;
                       CLAIM(s[j] + W > topThen && s[j] + W > rmx);                                      /* S3 */
                       p = 0;
                       do :: p < j -> assert(!(fate[p] == ACCEPT && s[p] == s[j])); p++ :: else -> break od;
                       p = 0;
#ifndef COPIES
                       got = got & ~BIT(s[j])
#endif
                  :: else ->
                       if
                       :: t > LAP(block[x]) -> fate[j] = STALE; CLAIM(OTHERS >= s[j] + W)
                       :: else -> fate[j] = REPLAYED; CLAIM(claimed[s[j]])
                       fi
                  fi
             :: else -> skip
             fi;
             j++
          :: else -> break
          od;
          x++; j = 0; t = 0; m = 0; got = 0; ok = false
        }
     :: x == n -> break
     od;
#ifdef LATE
     raise(mx / G);
#endif
     atomic {
       if :: past < begun[me] -> past = begun[me] :: else -> skip fi;
       begun[me] = 0;
       do
       :: j < K -> if :: fate[j] == REPLAYED -> CLAIM(claimed[s[j]]) :: else -> skip fi; j++
       :: else -> break
       od;
       j = 0;
       do
       :: j < K -> s[j] = 0; fate[j] = 0; block[j] = 0; mask[j] = 0; wtag[j] = 0; wbits[j] = 0; j++
       :: else -> break
       od;
       j = 0; n = 0; x = 0; e = 0; reach = 0; rmx = 0; exact = 0; topThen = 0; mx = 0; known = false; k++
     }
  :: k == NP -> break
  od;
  atomic { done++; k = 0 }
}

init {
  byte i;
  atomic {
    bits[0] = 1; claimed[0] = true;        /* number 0 is taken from the start */
    do :: i < NW -> run worker(i); i++ :: else -> break od
  };
  (done == NW)
}
