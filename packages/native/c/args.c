/* Reading what JavaScript passed. Nothing is coerced, rounded or wrapped: what is not exactly wanted is a TypeError. */
#include "espalier.h"

#include <string.h>

napi_value to_js(napi_env env, int32_t value) {
  napi_value out = NULL;
  napi_create_int32(env, value, &out);
  return out;
}

napi_value throw_type(napi_env env, const char *message) {
  napi_throw_type_error(env, "ERR_INVALID_ARG", message);
  return NULL;
}

bool read_args(napi_env env, napi_callback_info info, size_t count, napi_value *args) {
  size_t argc = count;
  if (napi_get_cb_info(env, info, &argc, args, NULL, NULL) == napi_ok && argc >= count) return true;
  throw_type(env, "too few arguments");
  return false;
}

bool read_int(napi_env env, napi_value value, int32_t *out) {
  double number;
  if (napi_get_value_double(env, value, &number) == napi_ok && number >= INT32_MIN && number <= INT32_MAX &&
      number == (double)(int32_t)number) {
    *out = (int32_t)number;
    return true;
  }
  throw_type(env, "expected a 32-bit integer");
  return false;
}

bool read_ints(napi_env env, napi_callback_info info, size_t count, int32_t *out) {
  napi_value args[MAX_ARGS];
  if (!read_args(env, info, count, args)) return false;
  for (size_t i = 0; i < count; i++)
    if (!read_int(env, args[i], &out[i])) return false;
  return true;
}

bool read_array(napi_env env, napi_value value, napi_typedarray_type want, size_t least, void **data, size_t *length) {
  napi_typedarray_type type;
  bool is = false;
  size_t elements = 0;
  if (napi_is_typedarray(env, value, &is) == napi_ok && is &&
      napi_get_typedarray_info(env, value, &type, &elements, data, NULL, NULL) == napi_ok && type == want &&
      elements >= least && (elements == 0 || *data != NULL)) {
    if (length != NULL) *length = elements;
    return true;
  }
  throw_type(env, want == napi_uint8_array ? "expected a Uint8Array, long enough" : "expected an Int32Array, long enough");
  return false;
}

bool read_shared(napi_env env, napi_value value, napi_typedarray_type want, void **data, size_t *length) {
  napi_value buffer;
  bool movable = true;
  if (!read_array(env, value, want, 1, data, length)) return false;
  if (napi_get_typedarray_info(env, value, NULL, NULL, NULL, &buffer, NULL) == napi_ok &&
      napi_is_arraybuffer(env, buffer, &movable) == napi_ok && !movable)
    return true;
  throw_type(env, "expected shared memory: other memory can be detached or shrink");
  return false;
}

bool read_name(napi_env env, napi_value value, char out[16]) {
  char text[32];
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, text, sizeof text, &length) != napi_ok || length == 0 || length > 15 ||
      memchr(text, 0, length) != NULL) {
    throw_type(env, "expected a device name of 1 to 15 bytes");
    return false;
  }
  memset(out, 0, 16);
  memcpy(out, text, length);
  return true;
}

struct slab *slab_at(napi_env env, int32_t id) {
  struct state *state = state_of(env);
  if (id >= 0 && id < state->slabs_size && state->slabs[id].bytes != NULL) return &state->slabs[id];
  throw_type(env, "no such slab");
  return NULL;
}

struct list *list_at(napi_env env, int32_t id) {
  struct state *state = state_of(env);
  if (id >= 0 && id < MAX_LISTS && state->lists[id].rows != NULL) return &state->lists[id];
  throw_type(env, "no such list");
  return NULL;
}

bool read_burst(napi_env env, int32_t slab, int32_t list, int32_t from, int32_t count, struct burst *out) {
  struct slab *memory = slab_at(env, slab);
  struct list *rows = memory == NULL ? NULL : list_at(env, list);
  if (rows == NULL) return false;
  if (from < 0 || count < 0 || (size_t)from + (size_t)count > rows->length) {
    throw_type(env, "rows outside the list");
    return false;
  }
  out->slab = memory;
  out->rows = rows->rows + from;
  out->count = count > MAX_BURST ? MAX_BURST : count;
  return true;
}

bool read_spans(napi_env env, const struct burst *burst, struct iovec *out) {
  const struct slab *slab = burst->slab;
  for (int32_t i = 0; i < burst->count; i++) {
    uint32_t row = (uint32_t)burst->rows[i];
    const int32_t *words = row < slab->frames ? slab->rows + (size_t)row * ROW_WORDS : NULL;
    int32_t from = words == NULL ? -1 : words[ROW_START], to = words == NULL ? -1 : words[ROW_END];
    if (from < 0 || to < from || (size_t)to > slab->length) {
      throw_type(env, "row outside the slab");
      return false;
    }
    out[i].iov_base = slab->bytes + from;
    out[i].iov_len = (size_t)(to - from);
  }
  return true;
}

int32_t *read_frame(napi_env env, const struct burst *burst, int32_t i, size_t *start) {
  uint32_t row = (uint32_t)burst->rows[i];
  if (row >= burst->slab->frames) {
    throw_type(env, "no such row");
    return NULL;
  }
  *start = (size_t)row * burst->slab->frame_size + burst->slab->headroom;
  return burst->slab->rows + (size_t)row * ROW_WORDS;
}
