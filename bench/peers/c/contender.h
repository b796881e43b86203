/* What every C contender shares: the clock and the answer. */
#ifndef CONTENDER_H
#define CONTENDER_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Nanoseconds per packet of every sample. */
struct samples {
  double *at;
  int count, room;
};

static inline void sample(struct samples *s, double value) {
  if (s->count == s->room) {
    s->room = s->room ? s->room * 2 : 4096;
    s->at = realloc(s->at, (size_t)s->room * sizeof *s->at);
    if (!s->at) fail("no memory");
  }
  s->at[s->count++] = value;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The answer that rounds.ts reads: the last line of the output. */
static inline void answer(struct samples *s) {
  double sum = 0;
  if (s->count == 0) fail("no samples");
  qsort(s->at, (size_t)s->count, sizeof *s->at, ascending);
  for (int i = 0; i < s->count; i++) sum += s->at[i];
  printf("\n{\"min\":%.3f,\"median\":%.3f,\"mean\":%.3f,\"samples\":%d}\n", s->at[0], s->at[s->count / 2],
         sum / s->count, s->count);
}

#endif
