/* Outbound numbers (allocator.ts): NW workers reserve bursts of 1..K numbers from NEXT by a swap that saturates at what may be
 * given: LIMIT, and MARK, the last number that a restart is told not to use again. A keeper raises MARK by STEP: first to
 * DISK, then in shared memory. A peer's import makes NEXT jump forward. The machine may lose its power CRASHES times, at any
 * moment: NEXT and MARK are gone, and come back as DISK + 1 and DISK.
 *
 * Claims
 *     N1   no number is used twice, restarts included
 *     N2   none is beyond LIMIT
 *     N3   a burst gets less than it asked for only at the limit or the mark
 *
 *   good  bursts          2 workers, 3 bursts, a mark               -DNW=2 -DNP=3 -DCRASHES=0
 *   good  restart         2 workers, 2 bursts, one restart          -DNW=2 -DNP=2 -DCRASHES=1
 *   good  three-workers   3 workers, 1 burst, an import             -DNW=3 -DNP=1 -DCRASHES=0 -DIMPORT=3 -DLIMIT=4
 *   good  import-restart  2 workers, an import and a restart        -DNW=2 -DNP=1 -DCRASHES=1 -DIMPORT=3 -DLIMIT=4
 *   long  two-restarts    2 workers, 2 bursts, two restarts         -DNW=2 -DNP=2 -DCRASHES=2
 *   bad   add             an add that wraps instead of the swap     -DNW=2 -DNP=4 -DCRASHES=0 -DADD
 *   bad   load-store      a load and a store                        -DNW=2 -DNP=2 -DCRASHES=0 -DLOADSTORE
 *   bad   no-saturation   a burst that straddles the limit          -DNW=2 -DNP=4 -DCRASHES=0 -DOVER
 *   bad   give-back       exhaustion takes its step back            -DNW=2 -DNP=4 -DCRASHES=0 -DGIVEBACK
 *   bad   import-back     an import that may go back                -DNW=2 -DNP=2 -DCRASHES=0 -DIMPORT=4 -DBACK
 *   bad   mark-late       raised in memory before it is on disk     -DNW=2 -DNP=2 -DCRASHES=1 -DMARKLATE
 *   bad   no-mark         numbers are not held back by the mark     -DNW=2 -DNP=2 -DCRASHES=1 -DNOMARK
 */
#ifndef K
#define K 2
#endif
#ifndef LIMIT
#define LIMIT 6
#endif
#ifndef STEP
#define STEP 2
#endif
#define WRAP (LIMIT + 2)

byte NEXT = 1, MARK = STEP, DISK = STEP;
/* Ghosts: numbers used; which life of the machine this is. */
bool used[LIMIT + K + 2];
byte life;

/* What lived when the power failed takes no step any more; it begins anew, having forgotten everything. */
#define LIVE if :: life == born -> skip :: else -> goto reborn fi

#ifdef NOMARK
#define MOST LIMIT
#else
#define MOST (MARK < LIMIT -> MARK : LIMIT)
#endif

proctype worker() {
  byte born, n, m, want, take, k;
  bool ok;
reborn:
  atomic { born = life; n = 0; m = 0; want = 0; take = 0; ok = false };
  do
  :: k < NP ->
     atomic { select(want : 1 .. K) };
     do
     :: atomic { LIVE; n = NEXT };
        atomic { LIVE; m = MOST };
#ifdef ADD
        atomic { n = NEXT; NEXT = (NEXT + want) % WRAP; take = want; m = n; if :: n == 0 || n > LIMIT -> take = 0 :: n + take > LIMIT + 1 -> take = LIMIT + 1 - n :: else -> skip fi; ok = true };
#else
        if
        :: n > m ->
             take = 0;
#ifdef GIVEBACK
             atomic { LIVE; if :: n > LIMIT -> NEXT = NEXT - 1 :: else -> skip fi };
#endif
             break
        :: else ->
#ifdef OVER
             take = want;
#else
             take = (want < m + 1 - n -> want : m + 1 - n);
             assert(take == want || n + take - 1 == m);                     /* N3 */
#endif
             atomic {
               LIVE;
#ifdef LOADSTORE
               ok = true;
#else
               ok = (NEXT == n);
#endif
               if :: ok -> NEXT = n + take :: else -> skip fi
             }
        fi;
#endif
        if :: ok -> break :: else -> skip fi
     od;
     atomic {
       LIVE;
       do
       :: take > 0 -> take--; assert(n + take <= LIMIT); assert(!used[n + take]); used[n + take] = true  /* N2, N1 */
       :: else -> break
       od;
       k++; n = 0; m = 0; want = 0; take = 0; ok = false
     }
  :: k == NP -> break
  od
}

/* Persist, then permit. */
proctype keeper() {
  byte born, m;
reborn:
  atomic { born = life; m = 0 };
  do
  :: MARK < LIMIT ->
     atomic { LIVE; m = (MARK + STEP < LIMIT -> MARK + STEP : LIMIT) };
#ifdef MARKLATE
     atomic { LIVE; MARK = m };
     atomic { LIVE; DISK = m }
#else
     atomic { LIVE; DISK = m };
     atomic { LIVE; MARK = m; m = 0 }
#endif
  :: true -> break
  od
}

/* A peer's takeover: whoever was told that numbers below IMPORT are used. */
proctype import() {
  byte n;
  bool ok;
#ifdef IMPORT
  do
  :: n = NEXT;
#ifndef BACK
     if :: n >= IMPORT -> break :: else -> skip fi;
#endif
     atomic { ok = (NEXT == n); if :: ok -> NEXT = IMPORT :: else -> skip fi };
     if :: ok -> break :: else -> skip fi
  od
#else
  skip
#endif
}

proctype power() {
  byte i;
  do
  :: i < CRASHES -> atomic { life++; NEXT = DISK + 1; MARK = DISK; i++ }
  :: true -> break
  od
}

init {
  byte i;
  atomic {
    do :: i < NW -> run worker(); i++ :: else -> break od;
    run keeper();
    run import();
    run power()
  }
}
