/* Bursts of ESP seals and opens, in place. No cipher of our own: libipsec-mb where it is installed, else the OpenSSL that
 * is inside the node process. A key belongs to one environment (thread); providers are found at the first use. */
#ifndef ESPALIER_AEAD_H
#define ESPALIER_AEAD_H

#include "espalier.h"

#include <string.h>

enum { PROVIDER_IPSEC_MB = 1, PROVIDER_OPENSSL = 2, PROVIDERS = 3 };
enum { KIND_GCM = 1, KIND_CHACHA = 2, KIND_CBC_HMAC = 3 };
enum { FLAG_ESN = 1, FLAG_IMPLICIT_IV = 2 };
enum { ESP_HEADER = 8 };

/* One packet, as a provider sees it: SPI | low number | IV | text | ICV in the slab; nonce and aad not of CBC. */
struct esp_packet {
  _Alignas(16) uint8_t nonce[16]; /* salt | IV */
  uint8_t aad[16];
  struct aead_key *key;
  uint8_t *text; /* encrypted part; the ICV follows it */
  size_t length; /* of text */
  int32_t *words;
  uint8_t *esp;
  uint32_t seq_hi; /* big endian; 0 without ESN */
};

/* Seals or opens packets of one kind, in place, whatever their keys; how many it did. Each is finished by what follows. */
enum { AEAD_RUN = 32 }; /* at most so many */
typedef int32_t (*aead_run)(struct esp_packet *packets, int32_t count);

/* A packet is UNSET from its check on: one whose cipher failed half way is never taken for plaintext, nor sealed again. */
static inline int32_t sealed(const struct esp_packet *packet) {
  packet->words[ROW_STATE] = STATE_SEALED;
  return 1;
}

/* A packet is ICV_BAD from its check on. */
static inline int32_t opened(const struct esp_packet *packet, bool authentic) {
  if (authentic) packet->words[ROW_STATE] = STATE_OPENED;
  else memset(packet->text, 0, packet->length);
  return authentic;
}

/* Keys as libipsec-mb and OpenSSL expand them. */
struct expanded;
struct contexts;

struct aead_key {
  aead_run seal, open;
  struct expanded *expanded;
  struct contexts *contexts;
  const struct aead_provider *provider;
  uint8_t kind, flags, iv, icv;
  uint8_t overhead;   /* ESP header, IV and ICV */
  uint8_t aad_length;
  uint8_t partial;    /* bits of a length that is no whole number of blocks */
  uint32_t salt;      /* as it lies in memory */
};

struct aead_provider {
  const char *name;
  /* 0, or -ENOENT (not on this machine), -ENOSYS (found, but not usable). Finds and tests itself once. */
  int (*ready)(void);
  /* Expands the key and sets its seal and open. 0, or -errno and nothing is kept. */
  int (*install)(struct aead_key *key, const uint8_t *cipher, size_t cipher_length, const uint8_t *mac, size_t mac_length);
  /* Forgets it, wiping what was derived from it. */
  void (*wipe)(struct aead_key *key);
};

extern const struct aead_provider ipsec_mb_provider, openssl_provider;

/* Whether a provider's seals and opens are those that two others made; it need not be ready. */
bool aead_known_answers(const struct aead_provider *provider);

/* Unpredictable IVs for a run; CBC with the IVs that are there. */
bool openssl_ivs(const struct esp_packet *packets, int32_t count);
int32_t openssl_seal_cbc(struct esp_packet *packets, int32_t count);
int32_t openssl_open_cbc(struct esp_packet *packets, int32_t count);

/* 8 bytes or more, in time that depends on the length alone; the barrier keeps a compiler from leaving at the first
 * difference. */
static inline bool equal_icv(const uint8_t *a, const uint8_t *b, size_t length) {
  uint64_t x, y, difference = 0;
  for (size_t at = 0; at < length; at += 8) {
    /* The last eight overlap those before when it is no multiple of eight. */
    size_t from = at + 8 <= length ? at : length - 8;
    memcpy(&x, a + from, 8);
    memcpy(&y, b + from, 8);
    difference |= x ^ y;
    __asm__ volatile("" : "+r"(difference));
  }
  return difference == 0;
}

void aead_release(struct state *state);

napi_value aead_ready(napi_env env, napi_callback_info info);
napi_value aead_install(napi_env env, napi_callback_info info);
napi_value aead_remove(napi_env env, napi_callback_info info);
napi_value aead_seal(napi_env env, napi_callback_info info);
napi_value aead_open(napi_env env, napi_callback_info info);

#endif
