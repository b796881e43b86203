/* The OpenSSL inside the node process: node exports its symbols, dlsym finds them, no header and no second library. */
#include "aead.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { CTRL_AEAD_SET_IVLEN = 0x9, CTRL_AEAD_GET_TAG = 0x10, CTRL_AEAD_SET_TAG = 0x11 };

static struct {
  void *(*ctx_new)(void);
  void (*ctx_free)(void *);
  int (*ctrl)(void *, int, int, void *);
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
      {(void **)&ssl.ctrl, "EVP_CIPHER_CTX_ctrl"},     {(void **)&ssl.set_padding, "EVP_CIPHER_CTX_set_padding"},
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
  result = 0;
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
  key->state = c;
  return 0;
}

/* OpenSSL cleanses what it frees. */
static void wipe(struct aead_key *key) { release(key->state); }

/* The ICV over SPI .. ciphertext, and the number's high half behind it with ESN (RFC 4303 2.2.1, RFC 4868). */
static bool authenticate(struct aead_key *key, const struct esp_packet *p, uint8_t out[64]) {
  struct contexts *c = key->state;
  uint32_t high = __builtin_bswap32(p->seq_hi);
  return ssl.hmac_init(c->mac, NULL, 0, NULL, NULL) == 1 &&
         ssl.hmac_update(c->mac, p->esp, (size_t)(p->icv - p->esp)) == 1 &&
         (!(key->flags & FLAG_ESN) || ssl.hmac_update(c->mac, (uint8_t *)&high, 4) == 1) &&
         ssl.hmac_final(c->mac, out, NULL) == 1;
}

static bool seal(struct aead_key *key, const struct esp_packet *p) {
  struct contexts *c = key->state;
  int n;
  if (key->kind == KIND_CBC_HMAC) {
    uint8_t mac[64];
    if (p->length % 16 != 0 || ssl.init(c->seal, NULL, NULL, NULL, p->esp + ESP_HEADER, -1) != 1 ||
        ssl.update(c->seal, p->text, &n, p->text, (int)p->length) != 1 || !authenticate(key, p, mac))
      return false;
    memcpy(p->icv, mac, key->icv);
    return true;
  }
  uint8_t rest[16];
  return ssl.init(c->seal, NULL, NULL, NULL, p->nonce, -1) == 1 &&
         ssl.update(c->seal, NULL, &n, p->aad, (int)p->aad_length) == 1 &&
         ssl.update(c->seal, p->text, &n, p->text, (int)p->length) == 1 && ssl.final(c->seal, rest, &n) == 1 &&
         ssl.ctrl(c->seal, CTRL_AEAD_GET_TAG, key->icv, p->icv) == 1;
}

static bool open_(struct aead_key *key, const struct esp_packet *p) {
  struct contexts *c = key->state;
  int n;
  if (key->kind == KIND_CBC_HMAC) {
    uint8_t mac[64];
    if (!authenticate(key, p, mac) || !equal_icv(mac, p->icv, key->icv)) return false;
    /* Part of a block is no ciphertext: it stays as it is, and who takes the trailer off calls it BAD_LENGTH. */
    if (p->length % 16 != 0) return true;
    return ssl.init(c->open, NULL, NULL, NULL, p->esp + ESP_HEADER, -1) == 1 &&
           ssl.update(c->open, p->text, &n, p->text, (int)p->length) == 1;
  }
  uint8_t rest[16];
  return ssl.init(c->open, NULL, NULL, NULL, p->nonce, -1) == 1 &&
         ssl.update(c->open, NULL, &n, p->aad, (int)p->aad_length) == 1 &&
         ssl.ctrl(c->open, CTRL_AEAD_SET_TAG, key->icv, p->icv) == 1 &&
         ssl.update(c->open, p->text, &n, p->text, (int)p->length) == 1 && ssl.final(c->open, rest, &n) == 1;
}

static bool random_(uint8_t *out, size_t length) { return ssl.random(out, (int)length) == 1; }

const struct aead_provider openssl_provider = {"openssl", ready, install, wipe, seal, open_, random_};
