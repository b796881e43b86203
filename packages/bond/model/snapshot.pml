/* Snapshots, pins and grace (snapshot.ts), the handle cells (replicas.ts), frames on their way out, and the life of one SA on two
 * lowers while NW workers send and the SA may be killed at any moment (semantics: publish after install, unpublish before
 * delete, free after the last frame).
 *
 *     EPOCH      number of the newest snapshot; snapshot e lies in place e mod P: which lowers are usable
 *     PIN[w]     0, or the epoch that worker w is using: do { e = EPOCH; PIN = e } while (EPOCH != e)
 *     CELL[l]    handle of the SA on lower l, 0 = none; the control actor alone writes it, one store
 *     RING[l]    frames posted to lower l and not done
 *
 *     joining    install -> cell -> into usable
 *     leaving    out of usable -> grace -> cell 0 -> grace -> delete -> RING empty -> free
 *
 * A worker may die anywhere in a burst (KILL): what it had pinned and posted stays; it counts as gone from its exit event on.
 *
 * Claims
 *     H1   a worker posts only with a handle that the lower holds
 *     H2   a frame that is sent was posted before its replica was freed
 *     H3   a place is not written while somebody pins what lies in it
 *     H4   while the SA lives, no packet finds a usable lower without a handle
 *     H5   at the end all that was added was deleted and freed, once, in this order
 *
 *   good  bursts          2 workers, a burst of 2                   -DNW=2 -DROWS=2
 *   good  killed          2 workers, one may die                    -DNW=2 -DROWS=1 -DKILL
 *   long  more-bursts     2 workers, 2 bursts, one may die          -DNW=2 -DNB=2 -DROWS=1 -DKILL
 *   bad   pin-late        pinned after the snapshot was taken       -DNW=1 -DNB=2 -DROWS=1 -DPINLATE
 *   bad   no-grace        deleted without grace                     -DNW=1 -DROWS=1 -DNOGRACE
 *   bad   no-tx-wait      freed with frames on their way            -DNW=1 -DROWS=1 -DNOTX
 *   bad   usable-first    usable before the handle is there         -DNW=1 -DROWS=1 -DUSABLEFIRST
 *   bad   cell-first      cell 0 while still usable to a pin        -DNW=1 -DROWS=1 -DCELLFIRST
 *   bad   gone-early      counted as gone before its exit           -DNW=1 -DROWS=1 -DGONEEARLY
 *   bad   place-reused    a pinned place is written                 -DNW=1 -DROWS=2 -DREUSE
 */
#ifndef NB
#define NB 1
#endif
#define P 2

#define ABSENT 0
#define READY 1
#define DRAINING 2
#define DELETED 3
#define FREED 4

byte EPOCH = 1, PIN[NW], CELL[2], RING[2];
bool USABLE[P * 2];
/* Ghosts. */
byte holds[P] = 0, state[2], generation[2], adds[2], deletes[2], frees[2];
bool exited[NW], killed, settled;
byte ended;

proctype worker(byte me) {
  byte e, r, l, h, k;
  do
  :: k < NB ->
#ifdef PINLATE
     e = EPOCH;
     PIN[me] = e;
#else
     do
     :: e = EPOCH;
        PIN[me] = e;
        if :: EPOCH == e -> break :: else -> skip fi
     od;
#endif
     do
     :: r < ROWS ->
        if :: l = 0 :: l = 1 fi;                                            /* the hash */
        if
        :: atomic { USABLE[(e % P) * 2 + l] -> assert(holds[e % P] == e) };                              /* H3 */
           h = CELL[l];
           if
           :: h != 0 -> atomic {
                assert(h == generation[l] && (state[l] == READY || state[l] == DRAINING));               /* H1 */
                RING[l]++
              }
           :: else -> assert(killed)                                                                     /* H4 */
           fi
        :: atomic { !USABLE[(e % P) * 2 + l] -> assert(holds[e % P] == e) }
        fi;
#ifdef KILL
        if :: me == 0 -> goto dead :: true -> skip fi;
#endif
        atomic { r++; l = 0; h = 0 }
     :: else -> break
     od;
     PIN[me] = 0;
     atomic { k++; r = 0; e = 0 }
  :: k == NB -> break
  od;
dead:
  atomic { exited[me] = true; ended++; e = 0; r = 0; l = 0; h = 0 }
}

active proctype device() {
  do
  :: atomic { RING[0] > 0 -> assert(state[0] != FREED); RING[0]-- }                                      /* H2 */
  :: atomic { RING[1] > 0 -> assert(state[1] != FREED); RING[1]-- }
  :: atomic { settled && ended == NW && RING[0] == 0 && RING[1] == 0 -> break }
  od
}

#ifdef GONEEARLY
#define GONE(w) true
#else
#define GONE(w) exited[w]
#endif

inline passed(epoch) {
  q = 0;
  do
  :: q < NW -> (GONE(q) || PIN[q] == 0 || PIN[q] >= (epoch)); q++
  :: else -> break
  od;
  q = 0
}

inline post(u0, u1) {
#ifndef REUSE
  passed(EPOCH + 2 - P);
#endif
  USABLE[((EPOCH + 1) % P) * 2] = u0;
  atomic { USABLE[((EPOCH + 1) % P) * 2 + 1] = u1; holds[(EPOCH + 1) % P] = EPOCH + 1 };
  EPOCH = EPOCH + 1
}

inline grace() {
#ifndef NOGRACE
  passed(EPOCH)
#else
  skip
#endif
}

inline install(l) {
  atomic { assert(state[l] == ABSENT || state[l] == FREED); state[l] = READY; generation[l]++; adds[l]++ };
  CELL[l] = generation[l]
}

inline remove(l) {
  atomic { assert(state[l] == DRAINING); state[l] = DELETED; deletes[l]++ };
#ifndef NOTX
  (RING[l] == 0);
#endif
  atomic { assert(state[l] == DELETED && deletes[l] == frees[l] + 1); state[l] = FREED; frees[l]++ }
}

/* Kills the SA whenever it likes. */
active proctype user() { killed = true }

proctype control() {
  byte q;
  install(0);
  post(true, false);
#ifdef USABLEFIRST
  post(true, true);
  install(1);
#else
  install(1);
  post(true, true);
#endif
  /* Lower 0 leaves, unless the SA is dead already. */
  if
  :: killed -> skip
  :: else ->
#ifdef CELLFIRST
       CELL[0] = 0;
       post(false, true);
       grace();
#else
       post(false, true);
       grace();
       CELL[0] = 0;
#endif
       state[0] = DRAINING;
       post(false, true);
       grace();
       remove(0);
       /* And comes back as a new one. */
       if :: killed -> skip :: else -> install(0); post(true, true) fi
  fi;
  killed;
  CELL[0] = 0;
  CELL[1] = 0;
  atomic {
    if :: state[0] == READY -> state[0] = DRAINING :: else -> skip fi;
    if :: state[1] == READY -> state[1] = DRAINING :: else -> skip fi
  };
  post(false, false);
  grace();
  if :: state[0] == DRAINING -> remove(0) :: else -> skip fi;
  if :: state[1] == DRAINING -> remove(1) :: else -> skip fi;
  atomic {
    assert(state[0] == FREED && state[1] == FREED);
    assert(adds[0] == deletes[0] && deletes[0] == frees[0] && adds[1] == deletes[1] && deletes[1] == frees[1]);   /* H5 */
    settled = true
  }
}

init {
  byte i;
  atomic {
    holds[1] = 1;
    do :: i < NW -> run worker(i); i++ :: else -> break od;
    run control()
  }
}
