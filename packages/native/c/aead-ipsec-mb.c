/* libipsec-mb (Intel, BSD licence), loaded when it is on the machine. Its public calls are macros over a table of function
 * pointers in IMB_MGR; the places below are those of intel-ipsec-mb.h from 1.1 to 1.5 (soname 1), which its own comment
 * keeps stable: "function pointers at the end of the list". Another version is left alone, and a known answer is checked
 * before a key is taken. */
#include "aead.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
  TABLE_AT = 64, NEXT_JOB = 0, SUBMIT_NOCHECK = 2, FLUSH = 4, EXPAND_AES = 6, SHA256_BLOCK = 14, SHA384_BLOCK = 15,
  SHA512_BLOCK = 16, GCM_ENC = 24, GCM_DEC = 27, GCM_PRE = 48
};
/* Of IMB_CIPHER_MODE and IMB_HASH_ALG, IMB_CIPHER_DIRECTION, IMB_CHAIN_ORDER, IMB_STATUS. */
enum { CBC = 1, NO_CIPHER = 3, CHACHA_CIPHER = 19, HMAC_SHA256 = 3, HMAC_SHA384 = 4, HMAC_SHA512 = 5, CHACHA_HASH = 29 };
enum { ENCRYPT = 1, DECRYPT = 2, CIPHER_FIRST = 1, HASH_FIRST = 2, COMPLETED = 3 };
/* A CBC job of one takes as long as one of sixteen: fewer than these go through OpenSSL. */
enum { WORTH_JOBS = 4 };
/* Larger than any version's gcm_key_data (1008 bytes in 1.3) and contexts (88 and 192 bytes), which want 64-byte alignment. */
enum { KEY_BYTES = 2048, CONTEXT_BYTES = 1024 };

typedef void (*gcm_fn)(const void *, void *, uint8_t *, const uint8_t *, uint64_t, const uint8_t *, const uint8_t *, uint64_t,
                       uint8_t *, uint64_t);
typedef void (*pre_fn)(const void *, void *);
typedef void (*expand_fn)(const void *, void *, void *);

/* IMB_JOB as far as it is used; it lies in the library's own ring. */
struct job {
  const void *enc_keys, *dec_keys;
  uint64_t key_length;
  const uint8_t *src;
  uint8_t *dst;
  uint64_t cipher_at, cipher_length, hash_at, hash_length;
  const uint8_t *iv;
  uint64_t iv_length;
  uint8_t *tag;
  uint64_t tag_length;
  union {
    struct {
      const void *aad;
      uint64_t aad_length;
    };
    struct {
      const void *inner, *outer;
    };
    uint64_t of_hash[3];
  };
  int32_t status, cipher, direction, hash, order;
};
typedef struct job *(*job_fn)(void *);

struct expanded {
  union {
    _Alignas(64) uint8_t data[KEY_BYTES];
    struct {
      _Alignas(16) uint8_t enc[240], dec[240];
      /* The hash after the first block of HMAC's two. */
      uint8_t inner[64], outer[64];
      uint64_t length;
      int32_t hash;
    } cbc;
  };
  gcm_fn enc, dec;
};

static void **table;
static void *(*allocate)(uint64_t);
static void (*initialise)(void *, int *);
static void (*release)(void *);
static int result = -ENOENT;
static pthread_once_t once = PTHREAD_ONCE_INIT;
/* Frees a thread's manager when the thread ends. */
static pthread_key_t at_thread_end;
/* Jobs go through a manager's ring, so a thread that has any has a manager of its own (200 KB). */
static _Thread_local void *manager;
/* Scratch of one call; wiped by the library itself or overwritten by the next packet. */
static _Thread_local _Alignas(64) uint8_t context[CONTEXT_BYTES];

static void expand_gcm(struct expanded *e, const uint8_t *cipher, size_t length) {
  int which = length == 16 ? 0 : length == 24 ? 1 : 2;
  e->enc = (gcm_fn)table[GCM_ENC + which];
  e->dec = (gcm_fn)table[GCM_DEC + which];
  ((pre_fn)table[GCM_PRE + which])(cipher, e->data);
}

static bool own_manager(void) {
  if (manager != NULL) return true;
  void *made = allocate(0);
  if (made == NULL) return false;
  initialise(made, NULL);
  pthread_setspecific(at_thread_end, made);
  manager = made;
  return true;
}

/* The whole of a packet as one job, which takes half the time of the library's init, update and finalize. */
static bool chacha(void *own, int direction, const void *key, const uint8_t *nonce, const uint8_t *aad, size_t aad_length,
                   uint8_t *text, size_t length, uint8_t *tag) {
  void **calls = (void **)((uint8_t *)own + TABLE_AT);
  struct job *job = ((job_fn)calls[NEXT_JOB])(own);
  job->enc_keys = job->dec_keys = key;
  job->key_length = 32;
  job->src = job->dst = text;
  job->cipher_at = job->hash_at = 0;
  job->cipher_length = job->hash_length = length;
  job->iv = nonce;
  job->iv_length = 12;
  job->tag = tag;
  job->tag_length = 16;
  job->aad = aad;
  job->aad_length = aad_length;
  job->cipher = CHACHA_CIPHER;
  job->hash = CHACHA_HASH;
  job->direction = direction;
  job->order = direction == ENCRYPT ? CIPHER_FIRST : HASH_FIRST;
  return ((job_fn)calls[SUBMIT_NOCHECK])(own) == job && job->status == COMPLETED;
}

static int32_t seal_gcm(struct esp_packet *packets, int32_t count) {
  uint8_t *scratch = context;
  for (struct esp_packet *p = packets; p < packets + count; p++) {
    const struct expanded *e = p->key->expanded;
    e->enc(e->data, scratch, p->text, p->text, p->length, p->nonce, p->aad, p->key->aad_length, p->text + p->length, p->key->icv);
    sealed(p);
  }
  return count;
}

static int32_t open_gcm(struct esp_packet *packets, int32_t count) {
  uint8_t *scratch = context, tag[16];
  int32_t done = 0;
  for (struct esp_packet *p = packets; p < packets + count; p++) {
    const struct expanded *e = p->key->expanded;
    e->dec(e->data, scratch, p->text, p->text, p->length, p->nonce, p->aad, p->key->aad_length, tag, p->key->icv);
    done += opened(p, equal_icv(tag, p->text + p->length, p->key->icv));
  }
  return done;
}

static int32_t seal_chacha(struct esp_packet *packets, int32_t count) {
  void *own = manager;
  int32_t done = 0;
  for (struct esp_packet *p = packets; p < packets + count; p++) {
    const struct expanded *e = p->key->expanded;
    if (chacha(own, ENCRYPT, e->data, p->nonce, p->aad, p->key->aad_length, p->text, p->length, p->text + p->length))
      done += sealed(p);
  }
  return done;
}

static int32_t open_chacha(struct esp_packet *packets, int32_t count) {
  void *own = manager;
  uint8_t tag[16];
  int32_t done = 0;
  for (struct esp_packet *p = packets; p < packets + count; p++) {
    const struct expanded *e = p->key->expanded;
    bool good = chacha(own, DECRYPT, e->data, p->nonce, p->aad, p->key->aad_length, p->text, p->length, tag);
    done += opened(p, good && equal_icv(tag, p->text + p->length, 16));
  }
  return done;
}

static void expand_cbc(struct expanded *e, const uint8_t *cipher, size_t length, const uint8_t *mac, size_t mac_length) {
  int which = mac_length == 32 ? 0 : mac_length == 48 ? 1 : 2;
  size_t block = which == 0 ? 64 : 128;
  uint8_t padded[128];
  e->cbc.length = length;
  e->cbc.hash = HMAC_SHA256 + which;
  ((expand_fn)table[EXPAND_AES + (length - 16) / 8])(cipher, e->cbc.enc, e->cbc.dec);
  for (size_t i = 0; i < block; i++) padded[i] = (i < mac_length ? mac[i] : 0) ^ 0x36;
  ((pre_fn)table[SHA256_BLOCK + which])(padded, e->cbc.inner);
  for (size_t i = 0; i < block; i++) padded[i] ^= 0x36 ^ 0x5c;
  ((pre_fn)table[SHA256_BLOCK + which])(padded, e->cbc.outer);
  explicit_bzero(padded, sizeof padded);
}

/* One job for each packet, all in the library's hands at once. With ESN the high half is hashed behind the ciphertext
 * (RFC 4303 2.2.1), where the ICV is to be, or was. A job that is of no whole blocks hashes alone. */
static void jobs(int direction, struct esp_packet *packets, int32_t count, uint8_t *tags[], struct job *submitted[]) {
  void *own = manager, **calls = (void **)((uint8_t *)own + TABLE_AT);
  for (int32_t i = 0; i < count; i++) {
    const struct esp_packet *p = &packets[i];
    const struct expanded *e = p->key->expanded;
    struct job *job = submitted[i] = ((job_fn)calls[NEXT_JOB])(own);
    bool esn = (p->key->flags & FLAG_ESN) != 0;
    if (esn) memcpy(p->text + p->length, &p->seq_hi, 4);
    job->enc_keys = e->cbc.enc;
    job->dec_keys = e->cbc.dec;
    job->key_length = e->cbc.length;
    job->src = p->esp;
    job->dst = p->text;
    job->cipher_at = (uint64_t)(p->text - p->esp);
    job->cipher_length = p->length;
    job->hash_at = 0;
    job->hash_length = job->cipher_at + p->length + (esn ? 4 : 0);
    job->iv = p->esp + ESP_HEADER;
    job->iv_length = 16;
    job->tag = tags[i];
    job->tag_length = p->key->icv;
    job->inner = e->cbc.inner;
    job->outer = e->cbc.outer;
    job->cipher = p->length == 0 || p->length % 16 != 0 ? NO_CIPHER : CBC;
    job->hash = e->cbc.hash;
    job->direction = direction;
    job->order = direction == ENCRYPT ? CIPHER_FIRST : HASH_FIRST;
    ((job_fn)calls[SUBMIT_NOCHECK])(own);
  }
  while (((job_fn)calls[FLUSH])(own) != NULL) {}
}

static int32_t seal_cbc(struct esp_packet *packets, int32_t count) {
  if (count < WORTH_JOBS) return openssl_seal_cbc(packets, count);
  uint8_t *tags[AEAD_RUN];
  struct job *submitted[AEAD_RUN];
  int32_t done = 0;
  for (int32_t i = 0; i < count; i++) tags[i] = packets[i].text + packets[i].length;
  jobs(ENCRYPT, packets, count, tags, submitted);
  for (int32_t i = 0; i < count; i++)
    if (submitted[i]->status == COMPLETED) done += sealed(&packets[i]);
  return done;
}

static int32_t open_cbc(struct esp_packet *packets, int32_t count) {
  if (count < WORTH_JOBS) return openssl_open_cbc(packets, count);
  uint8_t made[AEAD_RUN][32], *tags[AEAD_RUN], icvs[AEAD_RUN][4];
  struct job *submitted[AEAD_RUN];
  int32_t done = 0;
  for (int32_t i = 0; i < count; i++) {
    tags[i] = made[i];
    memcpy(icvs[i], packets[i].text + packets[i].length, 4);
  }
  jobs(DECRYPT, packets, count, tags, submitted);
  for (int32_t i = 0; i < count; i++) {
    const struct esp_packet *p = &packets[i];
    uint8_t *icv = p->text + p->length;
    memcpy(icv, icvs[i], 4);
    bool good = submitted[i]->status == COMPLETED && equal_icv(made[i], icv, p->key->icv);
    done += opened(p, good);
  }
  return done;
}

static void find(void) {
  void *library = dlopen("libIPSec_MB.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return;
  result = -ENOSYS;
  unsigned (*version)(void) = (unsigned (*)(void))dlsym(library, "imb_get_version");
  allocate = (void *(*)(uint64_t))dlsym(library, "alloc_mb_mgr");
  release = (void (*)(void *))dlsym(library, "free_mb_mgr");
  initialise = (void (*)(void *, int *))dlsym(library, "init_mb_mgr_auto");
  if (version == NULL || allocate == NULL || release == NULL || initialise == NULL) return;
  unsigned number = version();
  if (number < 0x10100 || number >= 0x10600 || pthread_key_create(&at_thread_end, release) != 0) return;
  uint8_t *shared = allocate(0);
  if (shared == NULL) return;
  initialise(shared, NULL);
  table = (void **)(shared + TABLE_AT);
  if (aead_known_answers(&ipsec_mb_provider)) result = 0;
}

static int ready(void) {
  pthread_once(&once, find);
  return result;
}

static int install(struct aead_key *key, const uint8_t *cipher, size_t length, const uint8_t *mac, size_t mac_length) {
  if (key->kind == KIND_CHACHA ? length != 32 : length != 16 && length != 24 && length != 32) return -EINVAL;
  if (key->kind != KIND_GCM && !own_manager()) return -ENOMEM;
  struct expanded *e = aligned_alloc(64, sizeof *e);
  if (e == NULL) return -ENOMEM;
  memset(e, 0, sizeof *e);
  if (key->kind == KIND_CBC_HMAC) {
    if (openssl_provider.ready() != 0 || openssl_provider.install(key, cipher, length, mac, mac_length) != 0) {
      free(e);
      return -EOPNOTSUPP;
    }
    expand_cbc(e, cipher, length, mac, mac_length);
    key->seal = seal_cbc;
    key->open = open_cbc;
  } else if (key->kind == KIND_CHACHA) {
    memcpy(e->data, cipher, length);
    key->seal = seal_chacha;
    key->open = open_chacha;
  } else {
    expand_gcm(e, cipher, length);
    key->seal = seal_gcm;
    key->open = open_gcm;
  }
  key->expanded = e;
  return 0;
}

static void wipe(struct aead_key *key) {
  if (key->contexts != NULL) openssl_provider.wipe(key);
  explicit_bzero(key->expanded, sizeof *key->expanded);
  free(key->expanded);
}

const struct aead_provider ipsec_mb_provider = {"ipsec-mb", ready, install, wipe};
