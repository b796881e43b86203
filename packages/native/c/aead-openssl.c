/* The OpenSSL inside the node process: node exports its symbols, dlsym finds them, no header and no second library. */
#include "aead.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* OSSL_PARAM, and its type of an octet string. */
struct param {
  const char *key;
  unsigned type;
  void *data;
  size_t size, got;
};
enum { OCTETS = 5 };

static struct {
  void *(*ctx_new)(void);
  void (*ctx_free)(void *);
  int (*get)(void *, struct param *);
  int (*set)(void *, const struct param *);
  int (*set_padding)(void *, int);
  int (*init)(void *, const void *, void *, const uint8_t *, const uint8_t *, int);
  int (*update)(void *, uint8_t *, int *, const uint8_t *, int);
  int (*final)(void *, uint8_t *, int *);
  void *(*hmac_new)(void);
  void (*hmac_free)(void *);
  int (*hmac_init)(void *, const void *, int, const void *, void *);
  int (*hmac_update)(void *, const uint8_t *, size_t);
  int (*hmac_final)(void *, uint8_t *, unsigned *);
  int (*random)(uint8_t *, int);
} ssl;
static int result = -ENOENT;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find(void) {
  static const struct {
    void **to;
    const char *name;
  } wanted[] = {
      {(void **)&ssl.ctx_new, "EVP_CIPHER_CTX_new"},   {(void **)&ssl.ctx_free, "EVP_CIPHER_CTX_free"},
      {(void **)&ssl.get, "EVP_CIPHER_CTX_get_params"}, {(void **)&ssl.set, "EVP_CIPHER_CTX_set_params"},
      {(void **)&ssl.set_padding, "EVP_CIPHER_CTX_set_padding"},
      {(void **)&ssl.init, "EVP_CipherInit_ex"},       {(void **)&ssl.update, "EVP_CipherUpdate"},
      {(void **)&ssl.final, "EVP_CipherFinal_ex"},     {(void **)&ssl.hmac_new, "HMAC_CTX_new"},
      {(void **)&ssl.hmac_free, "HMAC_CTX_free"},      {(void **)&ssl.hmac_init, "HMAC_Init_ex"},
      {(void **)&ssl.hmac_update, "HMAC_Update"},      {(void **)&ssl.hmac_final, "HMAC_Final"},
      {(void **)&ssl.random, "RAND_bytes"},
  };
  for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
    *wanted[i].to = dlsym(RTLD_DEFAULT, wanted[i].name);
    if (*wanted[i].to == NULL) return;
  }
  result = aead_known_answers(&openssl_provider) ? 0 : -ENOSYS;
}

static int ready(void) {
  pthread_once(&once, find);
  return result;
}

/* Contexts with the key in them; per packet only the nonce is set. */
struct contexts {
  void *seal, *open, *mac;
};

static const void *algorithm(const char *name) {
  const void *(*get)(void) = (const void *(*)(void))dlsym(RTLD_DEFAULT, name);
  return get == NULL ? NULL : get();
}

static const char *cipher_name(int kind, size_t length) {
  if (kind == KIND_CHACHA) return length == 32 ? "EVP_chacha20_poly1305" : NULL;
  int which = length == 16 ? 0 : length == 24 ? 1 : length == 32 ? 2 : -1;
  static const char *const gcm[] = {"EVP_aes_128_gcm", "EVP_aes_192_gcm", "EVP_aes_256_gcm"};
  static const char *const cbc[] = {"EVP_aes_128_cbc", "EVP_aes_192_cbc", "EVP_aes_256_cbc"};
  if (which < 0) return NULL;
  return kind == KIND_GCM ? gcm[which] : kind == KIND_CBC_HMAC ? cbc[which] : NULL;
}

static void release(struct contexts *c) {
  if (c->seal != NULL) ssl.ctx_free(c->seal);
  if (c->open != NULL) ssl.ctx_free(c->open);
  if (c->mac != NULL) ssl.hmac_free(c->mac);
  free(c);
}

/* The ICV over SPI .. ciphertext, and the number's high half behind it with ESN (RFC 4303 2.2.1, RFC 4868). */
static bool authenticate(const struct esp_packet *p, uint8_t out[64]) {
  const struct contexts *c = p->key->contexts;
  return ssl.hmac_init(c->mac, NULL, 0, NULL, NULL) == 1 &&
         ssl.hmac_update(c->mac, p->esp, (size_t)(p->text - p->esp) + p->length) == 1 &&
         (!(p->key->flags & FLAG_ESN) || ssl.hmac_update(c->mac, (const uint8_t *)&p->seq_hi, 4) == 1) &&
         ssl.hmac_final(c->mac, out, NULL) == 1;
}

/* IVs drawn ahead, each used once: a draw takes 580 ns for 16 bytes and 830 for all of these. */
static _Thread_local struct {
  uint8_t bytes[128][16];
  int left;
} drawn;

bool openssl_ivs(const struct esp_packet *packets, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    if (drawn.left == 0) {
      if (ssl.random(drawn.bytes[0], sizeof drawn.bytes) != 1) return false;
      drawn.left = 128;
    }
    memcpy(packets[i].esp + ESP_HEADER, drawn.bytes[--drawn.left], 16);
  }
  return true;
}

int32_t openssl_seal_cbc(struct esp_packet *packets, int32_t count) {
  uint8_t mac[64];
  int32_t done = 0;
  int n;
  for (struct esp_packet *p = packets; p < packets + count; p++) {
    const struct contexts *c = p->key->contexts;
    if (ssl.init(c->seal, NULL, NULL, NULL, p->esp + ESP_HEADER, -1) != 1 ||
        ssl.update(c->seal, p->text, &n, p->text, (int)p->length) != 1 || !authenticate(p, mac))
      continue;
    memcpy(p->text + p->length, mac, p->key->icv);
    done += sealed(p);
  }
  return done;
}

/* Part of a block is no ciphertext: it stays as it is, and who takes the trailer off calls it BAD_LENGTH. */
int32_t openssl_open_cbc(struct esp_packet *packets, int32_t count) {
  uint8_t mac[64];
  int32_t done = 0;
  int n;
  for (struct esp_packet *p = packets; p < packets + count; p++) {
    const struct contexts *c = p->key->contexts;
    bool good = authenticate(p, mac) && equal_icv(mac, p->text + p->length, p->key->icv) &&
                (p->length % 16 != 0 || (ssl.init(c->open, NULL, NULL, NULL, p->esp + ESP_HEADER, -1) == 1 &&
                                         ssl.update(c->open, p->text, &n, p->text, (int)p->length) == 1));
    done += opened(p, good);
  }
  return done;
}

/* The next nonce. As if it were all of it that TLS calls fixed: an init has GCM look for the nonce's length by name, which
 * takes 35 ns. ChaCha20-Poly1305 has no such way. */
static bool set_nonce(void *c, struct esp_packet *p) {
  const struct param whole[2] = {{"tlsivfixed", OCTETS, p->nonce, (size_t)-1, 0}, {0}};
  return p->key->kind == KIND_GCM ? ssl.set(c, whole) == 1 : ssl.init(c, NULL, NULL, NULL, p->nonce, -1) == 1;
}

static int32_t seal_aead(struct esp_packet *packets, int32_t count) {
  uint8_t rest[16];
  int32_t done = 0;
  int n;
  for (struct esp_packet *p = packets; p < packets + count; p++) {
    void *c = p->key->contexts->seal;
    struct param icv[2] = {{"tag", OCTETS, p->text + p->length, p->key->icv, 0}, {0}};
    if (set_nonce(c, p) && ssl.update(c, NULL, &n, p->aad, p->key->aad_length) == 1 &&
        ssl.update(c, p->text, &n, p->text, (int)p->length) == 1 && ssl.final(c, rest, &n) == 1 && ssl.get(c, icv) == 1)
      done += sealed(p);
  }
  return done;
}

static int32_t open_aead(struct esp_packet *packets, int32_t count) {
  uint8_t rest[16];
  int32_t done = 0;
  int n;
  for (struct esp_packet *p = packets; p < packets + count; p++) {
    void *c = p->key->contexts->open;
    const struct param icv[2] = {{"tag", OCTETS, p->text + p->length, p->key->icv, 0}, {0}};
    bool good = set_nonce(c, p) && ssl.update(c, NULL, &n, p->aad, p->key->aad_length) == 1 && ssl.set(c, icv) == 1 &&
                ssl.update(c, p->text, &n, p->text, (int)p->length) == 1 && ssl.final(c, rest, &n) == 1;
    done += opened(p, good);
  }
  return done;
}

static int install(struct aead_key *key, const uint8_t *cipher, size_t length, const uint8_t *mac, size_t mac_length) {
  const char *name = cipher_name(key->kind, length);
  const void *type = name == NULL ? NULL : algorithm(name);
  if (type == NULL) return -EOPNOTSUPP;
  struct contexts *c = calloc(1, sizeof *c);
  if (c == NULL) return -ENOMEM;
  int good = (c->seal = ssl.ctx_new()) != NULL && (c->open = ssl.ctx_new()) != NULL &&
             ssl.init(c->seal, type, NULL, cipher, NULL, 1) == 1 && ssl.init(c->open, type, NULL, cipher, NULL, 0) == 1;
  if (good && key->kind == KIND_CBC_HMAC) {
    const char *hash = mac_length == 32 ? "EVP_sha256" : mac_length == 48 ? "EVP_sha384" : mac_length == 64 ? "EVP_sha512" : "";
    const void *digest = *hash == '\0' ? NULL : algorithm(hash);
    good = digest != NULL && (c->mac = ssl.hmac_new()) != NULL &&
           ssl.hmac_init(c->mac, mac, (int)mac_length, digest, NULL) == 1 && ssl.set_padding(c->seal, 0) == 1 &&
           ssl.set_padding(c->open, 0) == 1;
  }
  if (!good) {
    release(c);
    return -EOPNOTSUPP;
  }
  key->contexts = c;
  key->seal = key->kind == KIND_CBC_HMAC ? openssl_seal_cbc : seal_aead;
  key->open = key->kind == KIND_CBC_HMAC ? openssl_open_cbc : open_aead;
  return 0;
}

/* OpenSSL cleanses what it frees. */
static void wipe(struct aead_key *key) { release(key->contexts); }

const struct aead_provider openssl_provider = {"openssl", ready, install, wipe};
