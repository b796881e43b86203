/* The lifetime of one SA, shared by all its workers and replicas: packets or bytes, soft and hard (RFC 4301 4.4.2.1).
 * A worker reserves a quota of Q units from USED before it uses any of them, by a swap that saturates at HARD; a burst that
 * needs more than is left of the quota, and cannot have it, is refused. Events are not raised by whoever crosses a limit,
 * since that worker may die between the two steps: whoever looks (POLLERS of them, at any time) tells what USED calls for, and
 * an atomic or into TOLD says who tells it first. A killed worker takes what it had reserved with it.
 *
 * Claims
 *     L1   what is used never exceeds HARD
 *     L2   soft and hard are told once each, soft no sooner than SOFT units are reserved, hard no sooner than HARD
 *     L3   a limit that is reached is told, whoever died
 *     L4   when hard is told, no less than HARD - NW * Q units have been used or were reserved by the dead
 *
 *   good  two-workers     2 workers, 2 pollers, deaths anywhere     -DNW=2 -DNP=3
 *   long  three-workers   3 workers, deaths anywhere                -DNW=3 -DNP=1 -DQ=1 -DHARD=3 -DSOFT=2
 *   bad   use-first       used, then counted: overshoots            -DNW=2 -DNP=3 -DUSEFIRST
 *   bad   no-saturation   a quota that straddles the limit          -DNW=2 -DNP=4 -DOVER
 *   bad   load-store      a load and a store                        -DNW=2 -DNP=3 -DLOADSTORE
 *   bad   crosser-tells   the event is lost with its worker         -DNW=2 -DNP=3 -DCROSSER
 *   bad   told-twice      looked at, then set                       -DNW=2 -DNP=3 -DTWICE
 */
#ifndef Q
#define Q 2
#endif
#ifndef SOFT
#define SOFT 3
#endif
#ifndef HARD
#define HARD 5
#endif
#define S_SOFT 1
#define S_HARD 2

byte USED, TOLD;
/* Ghosts. */
byte spent, buried, softs, hards, done;

inline tell(event) {
#ifdef TWICE
  t = TOLD;
  TOLD = t | event;
#else
  atomic { t = TOLD; TOLD = TOLD | event };
#endif
  if
  :: (t & event) == 0 ->
       atomic {
         if
         :: event == S_SOFT -> softs++; assert(softs == 1 && USED >= SOFT)                          /* L2 */
         :: event == S_HARD -> hards++; assert(hards == 1 && USED >= HARD);
                             assert(spent + buried + NW * Q >= HARD)                             /* L4 */
         fi
       }
  :: else -> skip
  fi
}

proctype worker() {
  byte left, u, take, k, t;
  bool ok;
  do
  :: k < NP ->
#ifdef USEFIRST
     atomic { spent++; assert(spent <= HARD) };
     atomic { u = USED; USED = USED + 1; k++ };
     if :: u + 1 >= HARD -> break :: else -> skip fi
#else
     do
     :: left > 0 -> break
     :: else ->
          u = USED;
          if
          :: u >= HARD -> goto refused
          :: else ->
#ifdef OVER
               take = Q;
#else
               take = (Q < HARD - u -> Q : HARD - u);
#endif
               atomic {
#ifdef LOADSTORE
                 ok = true;
#else
                 ok = (USED == u);
#endif
                 if :: ok -> USED = u + take; left = take :: else -> skip fi
               };
#ifdef CROSSER
               if :: true -> skip :: ok -> atomic { buried = buried + left; left = 0; goto dead } fi;
               if :: ok && u < SOFT && u + take >= SOFT -> tell(S_SOFT) :: else -> skip fi;
               if :: ok && u + take >= HARD -> tell(S_HARD) :: else -> skip fi
#endif
          fi
     od;
     /* Death between reserving and using. */
     if
     :: true -> atomic { left--; spent++; assert(spent <= HARD); u = 0; take = 0; ok = false; k++ }  /* L1 */
     :: true -> atomic { buried = buried + left; left = 0; goto dead }
     fi
#endif
  :: k == NP -> break
  od;
refused:
dead:
  atomic { buried = buried + left; left = 0; done++ }
}

proctype poller() {
  byte t, i;
#ifndef CROSSER
  do
  :: i < 2 ->
     if :: USED >= SOFT -> tell(S_SOFT) :: else -> skip fi;
     if :: USED >= HARD -> tell(S_HARD) :: else -> skip fi;
     i++
  :: else -> break
  od;
#endif
  /* The last look, when all is quiet. */
  (done >= NW);
#ifndef CROSSER
  if :: USED >= SOFT -> tell(S_SOFT) :: else -> skip fi;
  if :: USED >= HARD -> tell(S_HARD) :: else -> skip fi;
#endif
  atomic { done++ }
}

init {
  byte i;
  atomic { do :: i < NW -> run worker(); i++ :: else -> break od; run poller(); run poller() };
  (done == NW + 2);
  assert((USED >= SOFT) == (softs == 1) && (USED >= HARD) == (hards == 1))                         /* L3 */
}
