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

enum { TABLE_AT = 64, NEXT_JOB = 0, SUBMIT_NOCHECK = 2, GCM_ENC = 24, GCM_DEC = 27, GCM_PRE = 48 };
/* Of IMB_CIPHER_MODE and IMB_HASH_ALG, IMB_CIPHER_DIRECTION, IMB_CHAIN_ORDER, IMB_STATUS. */
enum { CHACHA_CIPHER = 19, CHACHA_HASH = 29, ENCRYPT = 1, DECRYPT = 2, CIPHER_FIRST = 1, HASH_FIRST = 2, COMPLETED = 3 };
/* Larger than any version's gcm_key_data (1008 bytes in 1.3) and contexts (88 and 192 bytes), which want 64-byte alignment. */
enum { KEY_BYTES = 2048, CONTEXT_BYTES = 1024 };

typedef void (*gcm_fn)(const void *, void *, uint8_t *, const uint8_t *, uint64_t, const uint8_t *, const uint8_t *, uint64_t,
                       uint8_t *, uint64_t);
typedef void (*pre_fn)(const void *, void *);

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
  const void *aad;
  uint64_t aad_length, unused;
  int32_t status, cipher, direction, hash, order;
};
typedef struct job *(*job_fn)(void *);

struct expanded {
  _Alignas(64) uint8_t data[KEY_BYTES];
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

/* NIST SP 800-38D test case 2, and the block that RFC 8439 2.8.2 begins with under its key. */
static bool known_answers(void) {
  static const uint8_t gcm_text[16] = {0x03, 0x88, 0xda, 0xce, 0x60, 0xb6, 0xa3, 0x92,
                                       0xf3, 0x28, 0xc2, 0xb9, 0x71, 0xb2, 0xfe, 0x78};
  static const uint8_t gcm_tag[16] = {0xab, 0x6e, 0x47, 0xd4, 0x2c, 0xec, 0x13, 0xbd,
                                      0xf5, 0x3a, 0x67, 0xb2, 0x12, 0x57, 0xbd, 0xdf};
  static const uint8_t zero[32];
  struct expanded e;
  uint8_t text[16] = {0}, tag[16];
  memset(&e, 0, sizeof e);
  expand_gcm(&e, zero, 16);
  e.enc(e.data, context, text, text, 16, zero, zero, 0, tag, 16);
  if (memcmp(text, gcm_text, 16) != 0 || memcmp(tag, gcm_tag, 16) != 0) return false;

  static const char plain[] =
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
  static const uint8_t nonce[12] = {7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47};
  static const uint8_t aad[12] = {0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7};
  static const uint8_t chacha_tag[16] = {0x1a, 0xe1, 0x0b, 0x59, 0x4f, 0x09, 0xe2, 0x6a,
                                         0x7e, 0x90, 0x2e, 0xcb, 0xd0, 0x60, 0x06, 0x91};
  uint8_t key[32], message[sizeof plain - 1];
  for (int i = 0; i < 32; i++) key[i] = (uint8_t)(0x80 + i);
  memcpy(message, plain, sizeof message);
  if (!own_manager() || !chacha(manager, ENCRYPT, key, nonce, aad, sizeof aad, message, sizeof message, tag)) return false;
  if (memcmp(tag, chacha_tag, 16) != 0 || !chacha(manager, DECRYPT, key, nonce, aad, sizeof aad, message, sizeof message, tag)) return false;
  return memcmp(tag, chacha_tag, 16) == 0 && memcmp(message, plain, sizeof message) == 0;
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
  if (known_answers()) result = 0;
}

static int ready(void) {
  pthread_once(&once, find);
  return result;
}

static int32_t seal_gcm(struct esp_packet *packets, int32_t count) {
  uint8_t *scratch = context;
  for (struct esp_packet *p = packets; p < packets + count; p++) {
    const struct expanded *e = p->key->state;
    e->enc(e->data, scratch, p->text, p->text, p->length, p->nonce, p->aad, p->key->aad_length, p->text + p->length, p->key->icv);
    sealed(p);
  }
  return count;
}

static int32_t open_gcm(struct esp_packet *packets, int32_t count) {
  uint8_t *scratch = context, tag[16];
  int32_t done = 0;
  for (struct esp_packet *p = packets; p < packets + count; p++) {
    const struct expanded *e = p->key->state;
    e->dec(e->data, scratch, p->text, p->text, p->length, p->nonce, p->aad, p->key->aad_length, tag, p->key->icv);
    done += opened(p, equal_icv(tag, p->text + p->length, p->key->icv));
  }
  return done;
}

static int32_t seal_chacha(struct esp_packet *packets, int32_t count) {
  void *own = manager;
  int32_t done = 0;
  for (struct esp_packet *p = packets; p < packets + count; p++) {
    const struct expanded *e = p->key->state;
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
    const struct expanded *e = p->key->state;
    bool good = chacha(own, DECRYPT, e->data, p->nonce, p->aad, p->key->aad_length, p->text, p->length, tag);
    done += opened(p, good && equal_icv(tag, p->text + p->length, 16));
  }
  return done;
}

static int install(struct aead_key *key, const uint8_t *cipher, size_t length, const uint8_t *mac, size_t mac_length) {
  (void)mac;
  if (mac_length != 0) return -EOPNOTSUPP;
  if (key->kind == KIND_GCM && length != 16 && length != 24 && length != 32) return -EINVAL;
  if (key->kind == KIND_CHACHA && length != 32) return -EINVAL;
  if (key->kind != KIND_GCM && key->kind != KIND_CHACHA) return -EOPNOTSUPP;
  if (key->kind == KIND_CHACHA && !own_manager()) return -ENOMEM;
  struct expanded *e = aligned_alloc(64, sizeof *e);
  if (e == NULL) return -ENOMEM;
  memset(e, 0, sizeof *e);
  if (key->kind == KIND_GCM) expand_gcm(e, cipher, length);
  else memcpy(e->data, cipher, length);
  key->state = e;
  key->seal = key->kind == KIND_GCM ? seal_gcm : seal_chacha;
  key->open = key->kind == KIND_GCM ? open_gcm : open_chacha;
  return 0;
}

static void wipe(struct aead_key *key) {
  volatile uint8_t *bytes = key->state;
  for (size_t i = 0; i < sizeof(struct expanded); i++) bytes[i] = 0;
  free(key->state);
}

const struct aead_provider ipsec_mb_provider = {"ipsec-mb", ready, install, wipe};
