/* An add that is under way (replica.ts) while its SA is killed, its lower is closed and patience runs out, in any order. Handlers of the
 * control thread are atomic; what lies between them is an await. ADDING is owned by the add's completion: it looks again whether
 * anybody still wants the replica, and undoes at once; nobody else deletes an ADDING replica. Whoever takes a replica
 * out of READY owns delete and free. Closing a lower waits for what is under way there.
 *
 * Claims
 *     A1   delete exactly once, then free exactly once, for each add that succeeded
 *     A2   nothing stays: no replica of a dead SA, or on a closed lower
 *     A3   no answer meets a closed lower
 *     A4   nothing resolves to a replica that is not READY
 *
 *   good  all             kill, close, patience, refusal
 *   bad   no-look         the completion does not look again        -DNOLOOK
 *   bad   two-owners      the kill deletes an ADDING replica        -DTWOOWNERS
 *   bad   no-wait         closing does not wait for the add         -DNOWAIT
 *   bad   both-delete     kill and close both delete a READY one    -DBOTH
 *   bad   orphan          patience forgets what may yet be added    -DORPHAN
 */
#define ABSENT 0
#define ADDING 1
#define READY 2
#define DRAINING 3
#define DELETED 4
#define FREED 5

byte state;
bool dead, closing, closed, unwanted, shown, forgotten;
byte adds, deletes, frees, done;

inline undo() { deletes++; state = DELETED; frees++; state = FREED }

active proctype adder() {
  atomic { if :: dead || closing -> goto end :: else -> state = ADDING fi };
  if
  :: atomic {                                                               /* the lower says yes */
       assert(!closed);                                                     /* A3 */
       adds++;
#ifdef ORPHAN
       if :: forgotten -> goto end :: else -> skip fi;
#endif
#ifndef NOLOOK
       if :: dead || closing || unwanted -> undo(); goto end :: else -> skip fi;
#endif
       state = READY; shown = true
     }
  :: atomic { assert(!closed); if :: state == ADDING -> state = ABSENT :: else -> skip fi }      /* it refuses */
  fi;
end:
  atomic { done++ }
}

inline leave() {
  atomic {
    if
    :: state == READY -> shown = false; state = DRAINING; mine = true
#ifdef BOTH
    :: state == DRAINING -> mine = true
#endif
#ifdef TWOOWNERS
    :: state == ADDING -> undo()
#endif
    :: else -> skip
    fi
  };
  /* grace */
  if :: mine -> atomic { assert(state == DRAINING); deletes++; state = DELETED } :: else -> skip fi;
  /* the last frame */
  if :: mine -> atomic { assert(state == DELETED); frees++; state = FREED } :: else -> skip fi
}

active proctype killer() {
  bool mine;
  dead = true;
  leave();
  atomic { done++ }
}

active proctype closer() {
  bool mine;
  closing = true;
  leave();
#ifndef NOWAIT
  (state == ABSENT || state == FREED);
#endif
  atomic { closed = true; done++ }
}

active proctype patience() {
  atomic {
    if
    :: state == ADDING -> unwanted = true;
#ifdef ORPHAN
                          forgotten = true; state = ABSENT
#endif
    :: true -> skip
    fi;
    done++
  }
}

active proctype watcher() {
  do
  :: atomic { shown -> assert(state == READY); break }                      /* A4 */
  :: done >= 4 -> break
  od
}

init {
  (done == 4);
  assert(adds == deletes && deletes == frees && !shown && (state == ABSENT || state == FREED))       /* A1, A2 */
}
