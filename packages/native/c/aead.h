/* Bursts of ESP seals and opens, in place. No cipher of our own: libipsec-mb where it is installed, else the OpenSSL that
 * is inside the node process. A key belongs to one environment (thread); providers are found at the first use. */
#ifndef ESPALIER_AEAD_H
#define ESPALIER_AEAD_H

#include "espalier.h"

enum { PROVIDER_IPSEC_MB = 1, PROVIDER_OPENSSL = 2, PROVIDERS = 3 };
enum { KIND_GCM = 1, KIND_CHACHA = 2, KIND_CBC_HMAC = 3 };
enum { FLAG_ESN = 1, FLAG_IMPLICIT_IV = 2 };
enum { ESP_HEADER = 8, MAX_ICV = 32 };

/* One packet, as a provider sees it. Everything lies in the slab except nonce and aad. */
struct esp_packet {
  uint8_t *esp;     /* SPI | low number | IV | text | ICV */
  uint8_t *text;    /* encrypted part */
  size_t length;    /* of text */
  uint8_t *icv;
  uint32_t seq_hi;
  uint8_t nonce[16]; /* salt | IV */
  uint8_t aad[12];
  size_t aad_length;
};

struct aead_key {
  const struct aead_provider *provider;
  uint8_t kind, flags, iv, icv, salt_length, hash; /* hash: bytes of the HMAC's digest, 0 for an AEAD */
  uint8_t salt[4];
  void *state; /* the provider's */
};

struct aead_provider {
  const char *name;
  /* 0, or -ENOENT (not on this machine), -ENOSYS (found, but not usable). Finds and tests itself once. */
  int (*ready)(void);
  /* Expands the key. 0 or -errno. */
  int (*install)(struct aead_key *key, const uint8_t *cipher, size_t cipher_length, const uint8_t *mac, size_t mac_length);
  /* Forgets it, wiping what was derived from it. */
  void (*wipe)(struct aead_key *key);
  bool (*seal)(struct aead_key *key, const struct esp_packet *packet);
  /* Decrypts in place; false when the ICV did not hold (the caller zeroes the text). */
  bool (*open)(struct aead_key *key, const struct esp_packet *packet);
  /* Unpredictable bytes; NULL where the provider has no CBC. */
  bool (*random)(uint8_t *out, size_t length);
};

extern const struct aead_provider ipsec_mb_provider, openssl_provider;

/* Compares without a branch on the bytes. */
bool equal_icv(const uint8_t *a, const uint8_t *b, size_t length);

void aead_release(struct state *state);

napi_value aead_ready(napi_env env, napi_callback_info info);
napi_value aead_install(napi_env env, napi_callback_info info);
napi_value aead_remove(napi_env env, napi_callback_info info);
napi_value aead_seal(napi_env env, napi_callback_info info);
napi_value aead_open(napi_env env, napi_callback_info info);

#endif
