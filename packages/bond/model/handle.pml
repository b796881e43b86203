/* A handle is index | generation. SA 1 is deleted on a lower and its entry goes to SA 2 while a row of SA 1 is handed from worker
 * to worker. A row is resolved by the worker that posts it, under that worker's own pin; the lower refuses a generation
 * that is not its entry's.
 *
 * Claims
 *     K1   no frame is sealed under another SA's key
 *     K2   (resolved by the consumer) the lower never has to refuse
 *
 *   good  consumer        resolved by whoever posts
 *   good  travels         a handle crosses a pin: refused           -DTRAVELS
 *   bad   no-generation   it crosses a pin and is an index only     -DTRAVELS -DINDEXONLY
 *   bad   no-grace        the entry is given away without grace     -DINDEXONLY -DNOGRACE
 */
byte CELL = 1;                      /* of SA 1: generation 1 of the only entry */
bool PIN[2];
byte owner = 1, generation = 1;     /* the lower's entry */
chan ring = [1] of { byte };

#ifdef INDEXONLY
#define MATCHES(h) true
#else
#define MATCHES(h) ((h) == generation)
#endif

inline use(h) {
  atomic {
    if
    :: h == 0 -> skip                                    /* NO_LOWER_HANDLE: dropped */
    :: h != 0 && MATCHES(h) -> assert(owner == 1)        /* K1 */
    :: h != 0 && !MATCHES(h) ->
#ifndef TRAVELS
         assert(false)                                   /* K2 */
#else
         skip                                            /* STALE handle: refused */
#endif
    fi
  }
}

active proctype producer() {
  byte h;
  PIN[0] = true;
  h = CELL;
#ifdef TRAVELS
  ring ! h;
#else
  ring ! 0;
#endif
  PIN[0] = false
}

active proctype consumer() {
  byte h;
  ring ? h;
  PIN[1] = true;
#ifndef TRAVELS
  h = CELL;
#endif
  use(h);
  PIN[1] = false
}

active proctype control() {
  CELL = 0;
#ifndef NOGRACE
  !PIN[0];
  !PIN[1];
#endif
  atomic { owner = 0; generation++ };                    /* delete, free */
  atomic { owner = 2 }                                   /* the entry's next tenant */
}
