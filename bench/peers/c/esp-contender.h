/*
 * An ESP contest's C contender: the packets, the key, the proof and the measurement. The program that includes this has the
 * four functions that know its library, calls `read_job` first and returns `perform`.
 */
#ifndef ESP_CONTENDER_H
#define ESP_CONTENDER_H
#include "contender.h"

#define BURST 32
/* Buffers in use, and packets in one sample. */
#define BUFFERS 256
/* Frames sealed beforehand for an opening: longer than the window. */
#define STORE 4096
#define LARGEST 2000
#define SPI 0x1000
#define WARM_UP_NS 500000000ull

struct job {
  /* aes128gcm16, or one of these. */
  int chacha, cbc;
  int size, encap;
  /* Seals STORE frames into the file, opens those that are in it, or measures. */
  enum { SEAL, OPEN, MEASURE } what;
  const char *file;
  uint64_t measure_ns;
};

/* Starts again: first number, empty window. */
static void fresh_sa(void);
/* Copies a packet into buffer i: an inner one, or a frame as received. */
static void put_packet(int i, int received, const uint8_t *bytes, unsigned length);
/* What buffer i holds now. */
static const uint8_t *packet(int i, unsigned *length);
/* Encapsulates or decapsulates the BURST buffers from `from` on; a packet that fails ends the program. */
static void run_burst(int from, int encap);

static uint8_t store[STORE][LARGEST];
static unsigned lengths[STORE];

/* Cipher key, then salt or HMAC key: 3, 6, 9, ... */
static inline void material(uint8_t *to, int length) {
  for (int i = 0; i < length; i++) to[i] = (uint8_t)(i * 3 + 3);
}

static inline void put16(uint8_t *p, unsigned v) { p[0] = (uint8_t)(v >> 8), p[1] = (uint8_t)v; }

static inline unsigned sum16(const uint8_t *p, int length) {
  unsigned sum = 0;
  for (int i = 0; i < length; i += 2) sum += (unsigned)p[i] << 8 | p[i + 1];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

/* An IPv4/UDP packet, byte for byte the one of frame/packets.ts with flow 0. */
static inline void inner_packet(uint8_t *p, int length) {
  memset(p, 0, 28);
  p[0] = 0x45;
  put16(p + 2, (unsigned)length);
  p[6] = 0x40;
  p[8] = 64, p[9] = 17;
  p[12] = 10, p[13] = 1, p[16] = 10, p[17] = 2;
  put16(p + 10, sum16(p, 20));
  put16(p + 20, 1024), put16(p + 22, 2048), put16(p + 24, (unsigned)length - 20);
  for (int i = 28; i < length; i++) p[i] = (uint8_t)(i * 7);
}

/* Frames in a file: length in two bytes, big endian, then the bytes. */
static inline void write_frame(FILE *f, const uint8_t *p, unsigned length) {
  uint8_t head[2];
  put16(head, length);
  if (fwrite(head, 1, 2, f) != 2 || fwrite(p, 1, length, f) != length) fail("cannot write frames");
}

static inline unsigned read_frame(FILE *f, uint8_t *p) {
  uint8_t head[2];
  if (fread(head, 1, 2, f) != 2) return 0;
  unsigned length = (unsigned)head[0] << 8 | head[1];
  if (length > LARGEST || fread(p, 1, length, f) != length) fail("a frame is cut off");
  return length;
}

/* PROGRAM ALGORITHM SIZE seal|open|encap|decap FILE MS */
static struct job read_job(int argc, char **argv) {
  if (argc != 6) fail("usage: PROGRAM ALGORITHM SIZE seal|open|encap|decap FILE MS");
  struct job job = {.chacha = strcmp(argv[1], "chacha20poly1305") == 0,
                    .cbc = strcmp(argv[1], "aes128cbc-sha256") == 0,
                    .size = atoi(argv[2]),
                    .encap = strcmp(argv[3], "seal") == 0 || strcmp(argv[3], "encap") == 0,
                    .what = strcmp(argv[3], "seal") == 0   ? SEAL
                            : strcmp(argv[3], "open") == 0 ? OPEN
                                                           : MEASURE,
                    .file = argv[4],
                    .measure_ns = strtoull(argv[5], NULL, 10) * 1000000};
  if (job.size < 28 || job.size > 1500) fail("sizes are 28 to 1500");
  return job;
}

static void load_store(const char *file) {
  FILE *f = fopen(file, "rb");
  if (!f) fail("no frames to open");
  for (int i = 0; i < STORE; i++)
    if (!(lengths[i] = read_frame(f, store[i]))) fail("too few frames");
  fclose(f);
}

static void seal_store(const uint8_t *inner, unsigned size, const char *file) {
  FILE *f = fopen(file, "wb");
  if (!f) fail("cannot write frames");
  for (int n = 0; n < STORE; n += BURST) {
    for (int i = 0; i < BURST; i++) put_packet(i, 0, inner, size);
    run_burst(0, 1);
    for (int i = 0; i < BURST; i++) {
      unsigned length;
      const uint8_t *frame = packet(i, &length);
      write_frame(f, frame, length);
    }
  }
  if (fclose(f)) fail("cannot write frames");
}

static int perform(const struct job *job) {
  static uint8_t inner[LARGEST];
  unsigned size = (unsigned)job->size, length;
  inner_packet(inner, job->size);
  fresh_sa();
  if (job->what == SEAL) {
    seal_store(inner, size, job->file);
    printf("\n{\"proved\":true}\n");
    return 0;
  }
  if (!job->encap) load_store(job->file);
  struct samples samples = {0};
  uint64_t began = now_ns(), passed = 0;
  for (int at = 0; job->what == OPEN ? at < STORE : passed < WARM_UP_NS + job->measure_ns; passed = now_ns() - began) {
    if (!job->encap && at == STORE) fresh_sa(), at = 0;
    for (int i = 0; i < BUFFERS; i++)
      if (job->encap) put_packet(i, 0, inner, size);
      else put_packet(i, 1, store[at + i], lengths[at + i]);
    at += BUFFERS;
    uint64_t start = now_ns();
    for (int i = 0; i < BUFFERS; i += BURST) run_burst(i, job->encap);
    uint64_t took = now_ns() - start;
    if (passed >= WARM_UP_NS) sample(&samples, (double)took / BUFFERS);
    for (int i = 0; job->what == OPEN && i < BUFFERS; i++)
      if (memcmp(packet(i, &length), inner, size) || length != size) fail("what came out is not what went in");
  }
  if (job->what == OPEN) printf("\n{\"proved\":true}\n");
  else answer(&samples);
  return 0;
}
#endif
