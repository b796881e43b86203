#include "aead.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_KEYS = 1 << 20 };

static const struct aead_provider *const providers[PROVIDERS] = {
    NULL, &ipsec_mb_provider, &openssl_provider};

static void wipe(volatile uint8_t *bytes, size_t length) {
  while (length-- > 0) *bytes++ = 0;
}

/* aeadReady(provider) -> 0, -ENOENT or -ENOSYS */
napi_value aead_ready(napi_env env, napi_callback_info info) {
  int32_t n;
  if (!read_ints(env, info, 1, &n)) return NULL;
  if (n <= 0 || n >= PROVIDERS) return throw_type(env, "no such provider");
  return to_js(env, providers[n]->ready());
}

static int32_t free_key(struct state *state) {
  for (uint32_t i = state->keys_hint == 0 ? 1 : state->keys_hint; i < state->keys_size; i++)
    if (state->keys[i] == NULL) return (int32_t)i;
  uint32_t size = state->keys_size == 0 ? 64 : state->keys_size * 2;
  if (size > MOST_KEYS) return -ENOSPC;
  struct aead_key **keys = realloc(state->keys, size * sizeof *keys);
  if (keys == NULL) return -ENOMEM;
  memset(keys + state->keys_size, 0, (size - state->keys_size) * sizeof *keys);
  uint32_t first = state->keys_size == 0 ? 1 : state->keys_size;
  state->keys = keys;
  state->keys_size = size;
  return (int32_t)first;
}

/* Whether these lengths are those of a transform (RFC 4106, 7634, 8750, 4868): what is laid out by them stays in the row. */
static bool shape_fits(int32_t kind, int32_t flags, int32_t iv, int32_t icv, int32_t salt, int32_t mac) {
  if (flags < 0 || flags > (FLAG_ESN | FLAG_IMPLICIT_IV)) return false;
  bool implicit = (flags & FLAG_IMPLICIT_IV) != 0;
  if (kind == KIND_CBC_HMAC)
    return !implicit && iv == 16 && salt == 0 && (mac == 32 || mac == 48 || mac == 64) && icv == mac / 2;
  if (salt != 4 || mac != 0 || iv != (implicit ? 0 : 8)) return false;
  return kind == KIND_GCM ? icv == 8 || icv == 12 || icv == 16 : kind == KIND_CHACHA && icv == 16;
}

/* aeadInstall(material: Uint8Array, provider, kind, flags, ivLength, icvLength, saltLength, macLength) -> key number above
 * 0, or -errno. Material: cipher key, salt, HMAC key. */
napi_value aead_install(napi_env env, napi_callback_info info) {
  napi_value args[8];
  size_t length = 0;
  int32_t n[7];
  void *data = NULL;
  if (!read_args(env, info, 8, args) || !read_array(env, args[0], napi_uint8_array, 1, &data, &length)) return NULL;
  for (int i = 0; i < 7; i++)
    if (!read_int(env, args[1 + i], &n[i])) return NULL;
  if (n[0] <= 0 || n[0] >= PROVIDERS) return throw_type(env, "no such provider");
  if (!shape_fits(n[1], n[2], n[3], n[4], n[5], n[6]) || length <= (size_t)n[5] + (size_t)n[6])
    return throw_type(env, "no such transform");
  const struct aead_provider *provider = providers[n[0]];
  int error = provider->ready();
  if (error != 0) return to_js(env, error);
  struct state *state = state_of(env);
  int32_t number = free_key(state);
  if (number < 0) return to_js(env, number);
  struct aead_key *key = calloc(1, sizeof *key);
  if (key == NULL) return to_js(env, -ENOMEM);
  size_t mac = (size_t)n[6], cipher = length - mac - (size_t)n[5];
  const uint8_t *bytes = data;
  key->provider = provider;
  key->kind = (uint8_t)n[1];
  key->flags = (uint8_t)n[2];
  key->iv = (uint8_t)n[3];
  key->icv = (uint8_t)n[4];
  key->overhead = (uint8_t)(ESP_HEADER + n[3] + n[4]);
  key->aad_length = key->flags & FLAG_ESN ? 12 : 8;
  key->partial = key->kind == KIND_CBC_HMAC ? 15 : 0;
  memcpy(&key->salt, bytes + cipher, (size_t)n[5]);
  error = provider->install(key, bytes, cipher, bytes + cipher + n[5], mac);
  if (error != 0) {
    wipe((uint8_t *)key, sizeof *key);
    free(key);
    return to_js(env, error);
  }
  state->keys[number] = key;
  state->keys_hint = (uint32_t)number + 1;
  return to_js(env, number);
}

static void forget(struct state *state, uint32_t number) {
  struct aead_key *key = state->keys[number];
  key->provider->wipe(key);
  wipe((uint8_t *)key, sizeof *key);
  free(key);
  state->keys[number] = NULL;
  if (number < state->keys_hint) state->keys_hint = number;
}

/* aeadRemove(key) */
napi_value aead_remove(napi_env env, napi_callback_info info) {
  int32_t n;
  if (!read_ints(env, info, 1, &n)) return NULL;
  struct state *state = state_of(env);
  if (n <= 0 || (uint32_t)n >= state->keys_size || state->keys[n] == NULL) return throw_type(env, "no such key");
  forget(state, (uint32_t)n);
  return to_js(env, 0);
}

void aead_release(struct state *state) {
  for (uint32_t i = 1; i < state->keys_size; i++)
    if (state->keys[i] != NULL) forget(state, i);
  free(state->keys);
}

/* A burst whose list comes as an argument: aead calls take (slab, list: Int32Array, count). */
static bool read_rows(napi_env env, napi_callback_info info, struct burst *out) {
  napi_value args[3];
  size_t length = 0;
  int32_t slab, count;
  void *data = NULL;
  if (!read_args(env, info, 3, args) || !read_int(env, args[0], &slab) || !read_int(env, args[2], &count) ||
      !read_array(env, args[1], napi_int32_array, 0, &data, &length))
    return false;
  struct slab *memory = slab_at(env, slab);
  if (memory == NULL) return false;
  if (count < 0 || (size_t)count > length) {
    throw_type(env, "rows outside the list");
    return false;
  }
  out->slab = memory;
  out->rows = data;
  out->count = count;
  return true;
}

/* The row's words when it is to be worked on in `state`, else NULL. */
static inline int32_t *row_in(const struct burst *burst, int32_t i, int32_t state) {
  uint32_t row = (uint32_t)burst->rows[i];
  if (row >= burst->slab->frames) return NULL;
  int32_t *words = burst->slab->rows + (size_t)row * ROW_WORDS;
  return words[ROW_STATE] == state && words[ROW_FATE] == 0 ? words : NULL;
}

static inline struct aead_key *key_at(const struct state *state, uint32_t number) {
  return number < state->keys_size ? state->keys[number] : NULL;
}

/* Lays the packet out; false when the row does not describe one inside the slab. */
static inline bool lay_out(const struct burst *burst, int32_t *words, struct aead_key *key, struct esp_packet *p) {
  int64_t esp = words[ROW_ESP], end = words[ROW_END], length = end - esp - key->overhead;
  if ((esp | length) < 0 || end > (int64_t)burst->slab->length) return false;
  p->key = key;
  p->words = words;
  p->esp = burst->slab->bytes + esp;
  p->text = p->esp + ESP_HEADER + key->iv;
  p->length = (size_t)length;
  p->seq_hi = key->flags & FLAG_ESN ? __builtin_bswap32((uint32_t)words[ROW_SEQ_HI]) : 0;
  return true;
}

/* The low half that the ESP header says, big endian. */
static inline uint32_t header_number(const struct esp_packet *p) {
  uint32_t seq_lo;
  memcpy(&seq_lo, p->esp + 4, 4);
  return seq_lo;
}

/* Nonce and associated data (RFC 4106 4 and 5, RFC 7634 2, RFC 8750 2). */
static inline void prepare(const struct aead_key *key, struct esp_packet *p, uint32_t seq_lo) {
  memcpy(p->nonce, &key->salt, 4);
  if (key->flags & FLAG_IMPLICIT_IV) {
    memcpy(p->nonce + 4, &p->seq_hi, 4);
    memcpy(p->nonce + 8, &seq_lo, 4);
  } else {
    memcpy(p->nonce + 4, p->esp + ESP_HEADER, 8);
  }
  memcpy(p->aad, p->esp, 4);
  /* Eight bytes of it without ESN. */
  memcpy(p->aad + 4, key->flags & FLAG_ESN ? &p->seq_hi : &seq_lo, 4);
  memcpy(p->aad + 8, &seq_lo, 4);
}

/* aeadSeal(slab, list, count) -> rows sealed. A row that describes nothing inside the slab is left as it is; one whose
 * cipher failed is UNSET. A run is laid out before the first of it goes through the cipher, which reads nonce and associated
 * data as vectors: they would have to wait for the narrower stores that have only just made them. */
napi_value aead_seal(napi_env env, napi_callback_info info) {
  struct burst burst;
  if (!read_rows(env, info, &burst)) return NULL;
  struct state *state = state_of(env);
  struct esp_packet packets[AEAD_RUN];
  struct aead_key *key = NULL;
  uint32_t number = 0;
  int32_t done = 0;
  for (int32_t i = 0; i < burst.count;) {
    struct esp_packet *p = packets;
    aead_run run = NULL;
    for (; i < burst.count && p < packets + AEAD_RUN; i++) {
      int32_t *words = row_in(&burst, i, STATE_TO_SEAL);
      if (words == NULL) continue;
      if ((uint32_t)words[ROW_KEY] != number) key = key_at(state, number = (uint32_t)words[ROW_KEY]);
      if (key == NULL) continue;
      if (key->seal != run) {
        if (run != NULL) break;
        run = key->seal;
      }
      if (!lay_out(&burst, words, key, p) || (p->length & key->partial) != 0) continue;
      words[ROW_STATE] = STATE_UNSET;
      if (key->kind != KIND_CBC_HMAC) {
        /* The IV is the number, on every engine and lower alike; one store, since the nonce is read from it at once. */
        if (key->iv == 8) {
          uint64_t iv = (uint64_t)__builtin_bswap32((uint32_t)words[ROW_SEQ_LO]) << 32 | p->seq_hi;
          memcpy(p->esp + ESP_HEADER, &iv, 8);
        }
        prepare(key, p, header_number(p));
      }
      p++;
    }
    int32_t n = (int32_t)(p - packets);
    if (n > 0 && (packets->key->kind != KIND_CBC_HMAC || openssl_ivs(packets, n))) done += run(packets, n);
  }
  return to_js(env, done);
}

/* aeadOpen(slab, list, count) -> rows opened; the others with a key are ICV_BAD and their text is zeroed. */
napi_value aead_open(napi_env env, napi_callback_info info) {
  struct burst burst;
  if (!read_rows(env, info, &burst)) return NULL;
  struct state *state = state_of(env);
  struct esp_packet packets[AEAD_RUN];
  struct aead_key *key = NULL;
  uint32_t number = 0;
  int32_t done = 0;
  for (int32_t i = 0; i < burst.count;) {
    struct esp_packet *p = packets;
    aead_run run = NULL;
    for (; i < burst.count && p < packets + AEAD_RUN; i++) {
      int32_t *words = row_in(&burst, i, STATE_RECEIVED);
      if (words == NULL) continue;
      if ((uint32_t)words[ROW_KEY] != number) key = key_at(state, number = (uint32_t)words[ROW_KEY]);
      if (key == NULL) continue;
      if (key->open != run) {
        if (run != NULL) break;
        run = key->open;
      }
      words[ROW_STATE] = STATE_ICV_BAD;
      if (!lay_out(&burst, words, key, p)) continue;
      /* The window has judged the row's number: if the bytes have come to say another since, no ICV makes up for it. */
      uint32_t seq_lo = __builtin_bswap32((uint32_t)words[ROW_SEQ_LO]);
      if (header_number(p) != seq_lo) {
        opened(p, false);
        continue;
      }
      if (key->kind != KIND_CBC_HMAC) prepare(key, p, seq_lo);
      p++;
    }
    if (p > packets) done += run(packets, (int32_t)(p - packets));
  }
  return to_js(env, done);
}
