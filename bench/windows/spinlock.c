/* A replay window as the Linux SA has it: a bitmap behind one spin lock, which each packet takes twice, for check and for
   advance. Threads take runs of 32 numbers in turn. Prints the CPU nanoseconds of all threads per packet.
   usage: spinlock THREADS BURSTS-PER-THREAD SIZE */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BURST = 32, MOST = 16 };

static struct {
  _Alignas(64) atomic_int lock;
  _Alignas(64) uint64_t top;
  uint32_t size, words;
  uint32_t *bits;
} sa;
static long bursts;
static int threads;
static atomic_int arrived;
static _Atomic double nanoseconds;
static atomic_long accepted;

static void lock(void) {
  while (atomic_exchange_explicit(&sa.lock, 1, memory_order_acquire))
    while (atomic_load_explicit(&sa.lock, memory_order_relaxed)) {}
}
static void unlock(void) { atomic_store_explicit(&sa.lock, 0, memory_order_release); }

static uint64_t infer(uint32_t lo) {
  uint64_t bottom = sa.top - sa.size + 1;
  return bottom + (uint32_t)(lo - (uint32_t)bottom);
}
static int check(uint64_t s) {
  if (s > sa.top) return 1;
  if (sa.top - s >= sa.size) return 0;
  return !(sa.bits[(s / 32) % sa.words] >> (s % 32) & 1);
}
static void advance(uint64_t s) {
  if (s > sa.top) {
    uint64_t n = s / 32 - sa.top / 32;
    if (n > sa.words) n = sa.words;
    for (uint64_t b = 0; b < n; b++) sa.bits[(s / 32 - b) % sa.words] = 0;
    sa.top = s;
  }
  sa.bits[(s / 32) % sa.words] |= 1u << (s % 32);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static void *run(void *arg) {
  long me = (long)arg, good = 0;
  atomic_fetch_add(&arrived, 1);
  while (atomic_load(&arrived) < threads) {}
  double began = now();
  for (long b = 0; b < bursts; b++) {
    uint64_t first = ((uint64_t)b * threads + me) * BURST + 1 + (1ull << 33), number[BURST];
    int open[BURST];
    for (int i = 0; i < BURST; i++) {
      lock();
      number[i] = infer((uint32_t)(first + i));
      open[i] = check(number[i]);
      unlock();
    }
    for (int i = 0; i < BURST; i++) {
      if (!open[i]) continue;
      lock();
      if (check(number[i])) { advance(number[i]); good++; }
      unlock();
    }
  }
  double spent = now() - began, old = atomic_load(&nanoseconds);
  while (!atomic_compare_exchange_weak(&nanoseconds, &old, old + spent)) {}
  atomic_fetch_add(&accepted, good);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  threads = atoi(argv[1]);
  bursts = atol(argv[2]);
  sa.size = (uint32_t)atoi(argv[3]);
  if (threads < 1 || threads > MOST || bursts < 1 || sa.size < 32) return 2;
  sa.words = sa.size / 32 * 2;
  sa.bits = calloc(sa.words, 4);
  sa.top = 1ull << 33;
  pthread_t t[MOST];
  for (long i = 0; i < threads; i++) pthread_create(&t[i], 0, run, (void *)i);
  for (int i = 0; i < threads; i++) pthread_join(t[i], 0);
  printf("%.3f %ld\n", nanoseconds / ((double)threads * bursts * BURST), atomic_load(&accepted));
  return 0;
}
