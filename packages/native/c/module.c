#include "aead.h"
#include "netlink.h"

#include <stdlib.h>
#include <string.h>

struct state *state_of(napi_env env) {
  void *data = NULL;
  napi_get_instance_data(env, &data);
  return data;
}

napi_value to_js(napi_env env, int32_t value) {
  napi_value out = NULL;
  napi_create_int32(env, value, &out);
  return out;
}

napi_value throw_type(napi_env env, const char *message) {
  napi_throw_type_error(env, "ERR_INVALID_ARG", message);
  return NULL;
}

bool read_ints(napi_env env, napi_callback_info info, size_t count, int32_t *out) {
  napi_value args[8];
  size_t argc = 8;
  if (napi_get_cb_info(env, info, &argc, args, NULL, NULL) != napi_ok || argc < count) {
    throw_type(env, "too few arguments");
    return false;
  }
  for (size_t i = 0; i < count; i++) {
    napi_valuetype type;
    if (napi_typeof(env, args[i], &type) != napi_ok || type != napi_number ||
        napi_get_value_int32(env, args[i], &out[i]) != napi_ok) {
      throw_type(env, "expected an integer");
      return false;
    }
  }
  return true;
}

bool read_name(napi_env env, napi_value value, char out[16]) {
  char text[32];
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, text, sizeof text, &length) != napi_ok || length == 0 || length > 15) {
    throw_type(env, "expected a device name of 1 to 15 bytes");
    return false;
  }
  memset(out, 0, 16);
  memcpy(out, text, length);
  return true;
}

bool read_burst(napi_env env, int32_t slab, int32_t list, int32_t from, int32_t count, struct burst *out) {
  struct state *state = state_of(env);
  if (slab < 0 || slab >= state->slabs_size || state->slabs[slab].bytes == NULL) {
    throw_type(env, "no such slab");
    return false;
  }
  if (list < 0 || list >= MAX_LISTS || state->lists[list].rows == NULL) {
    throw_type(env, "no such list");
    return false;
  }
  if (from < 0 || count < 0 || (size_t)from + (size_t)count > state->lists[list].length) {
    throw_type(env, "rows outside the list");
    return false;
  }
  out->slab = &state->slabs[slab];
  out->rows = state->lists[list].rows + from;
  out->count = count > MAX_BURST ? MAX_BURST : count;
  return true;
}

bool row_span(const struct slab *slab, int32_t row, uint8_t **start, size_t *length) {
  if (row < 0 || (uint32_t)row >= slab->frames) return false;
  int32_t from = slab->rows[row * ROW_WORDS + ROW_START];
  int32_t to = slab->rows[row * ROW_WORDS + ROW_END];
  if (from < 0 || to < from || (size_t)to > slab->length) return false;
  *start = slab->bytes + from;
  *length = (size_t)(to - from);
  return true;
}

static bool typed_array(napi_env env, napi_value value, napi_typedarray_type want, void **data, size_t *length) {
  bool is = false;
  napi_typedarray_type type;
  if (napi_is_typedarray(env, value, &is) != napi_ok || !is) return false;
  if (napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) != napi_ok) return false;
  return type == want && *data != NULL;
}

static bool more_slabs(struct state *state) {
  int32_t size = state->slabs_size == 0 ? 16 : state->slabs_size * 2;
  struct slab *slabs = realloc(state->slabs, (size_t)size * sizeof *slabs);
  if (slabs == NULL) return false;
  memset(slabs + state->slabs_size, 0, (size_t)(size - state->slabs_size) * sizeof *slabs);
  state->slabs = slabs;
  state->slabs_size = size;
  return true;
}

/* registerSlab(bytes: Uint8Array, rows: Int32Array, frames, frameSize, headroom, tailroom) -> id or -ENOSPC */
static napi_value register_slab(napi_env env, napi_callback_info info) {
  napi_value args[6];
  size_t argc = 6;
  void *bytes, *rows;
  size_t bytes_length, rows_length;
  int32_t n[4];
  if (napi_get_cb_info(env, info, &argc, args, NULL, NULL) != napi_ok || argc < 6)
    return throw_type(env, "too few arguments");
  if (!typed_array(env, args[0], napi_uint8_array, &bytes, &bytes_length) ||
      !typed_array(env, args[1], napi_int32_array, &rows, &rows_length))
    return throw_type(env, "expected a Uint8Array and an Int32Array");
  for (int i = 0; i < 4; i++)
    if (napi_get_value_int32(env, args[2 + i], &n[i]) != napi_ok || n[i] < 0)
      return throw_type(env, "expected a non-negative integer");
  if (n[0] < 1 || n[1] < 1 || (size_t)n[0] * (size_t)n[1] > bytes_length ||
      (size_t)n[0] * ROW_WORDS > rows_length || (int64_t)n[2] + n[3] >= n[1])
    return throw_type(env, "frames do not fit the slab");
  struct state *state = state_of(env);
  for (int32_t id = 0; id < MAX_SLABS; id++) {
    if (id == state->slabs_size && !more_slabs(state)) break;
    struct slab *slab = &state->slabs[id];
    if (slab->bytes != NULL) continue;
    if (napi_create_reference(env, args[0], 1, &slab->bytes_ref) != napi_ok ||
        napi_create_reference(env, args[1], 1, &slab->rows_ref) != napi_ok)
      return throw_type(env, "cannot keep the slab");
    slab->bytes = bytes;
    slab->rows = rows;
    slab->length = bytes_length;
    slab->frames = (uint32_t)n[0];
    slab->frame_size = (uint32_t)n[1];
    slab->headroom = (uint32_t)n[2];
    slab->tailroom = (uint32_t)n[3];
    return to_js(env, id);
  }
  return to_js(env, -28 /* ENOSPC */);
}

/* unregisterSlab(id) */
static napi_value unregister_slab(napi_env env, napi_callback_info info) {
  int32_t id;
  if (!read_ints(env, info, 1, &id)) return NULL;
  struct state *state = state_of(env);
  if (id < 0 || id >= state->slabs_size || state->slabs[id].bytes == NULL) return throw_type(env, "no such slab");
  napi_delete_reference(env, state->slabs[id].bytes_ref);
  napi_delete_reference(env, state->slabs[id].rows_ref);
  memset(&state->slabs[id], 0, sizeof state->slabs[id]);
  return to_js(env, 0);
}

/* registerList(list: Int32Array) -> id or -ENOSPC */
static napi_value register_list(napi_env env, napi_callback_info info) {
  napi_value arg;
  size_t argc = 1, length;
  void *data;
  if (napi_get_cb_info(env, info, &argc, &arg, NULL, NULL) != napi_ok || argc < 1 ||
      !typed_array(env, arg, napi_int32_array, &data, &length))
    return throw_type(env, "expected an Int32Array");
  struct state *state = state_of(env);
  for (int id = 0; id < MAX_LISTS; id++) {
    struct list *list = &state->lists[id];
    if (list->rows != NULL) continue;
    if (napi_create_reference(env, arg, 1, &list->ref) != napi_ok) return throw_type(env, "cannot keep the list");
    list->rows = data;
    list->length = length;
    return to_js(env, id);
  }
  return to_js(env, -28 /* ENOSPC */);
}

/* unregisterList(id) */
static napi_value unregister_list(napi_env env, napi_callback_info info) {
  int32_t id;
  if (!read_ints(env, info, 1, &id)) return NULL;
  struct state *state = state_of(env);
  if (id < 0 || id >= MAX_LISTS || state->lists[id].rows == NULL) return throw_type(env, "no such list");
  napi_delete_reference(env, state->lists[id].ref);
  memset(&state->lists[id], 0, sizeof state->lists[id]);
  return to_js(env, 0);
}

/* The environment goes away: sockets and rings go with it. References die with the environment by themselves. */
static void finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct state *state = data;
  for (int i = 0; i < MAX_PACKETS; i++)
    if (state->packets[i].fd >= 0) packet_release(&state->packets[i]);
  aead_release(state);
  tun_release(state);
  udp_release(state);
  free(state->slabs);
  free(state);
}

NAPI_MODULE_INIT() {
  struct state *state = calloc(1, sizeof *state);
  if (state == NULL) return throw_type(env, "out of memory");
  for (int i = 0; i < MAX_PACKETS; i++) state->packets[i].fd = -1;
  if (napi_set_instance_data(env, state, finalize, NULL) != napi_ok) {
    free(state);
    return throw_type(env, "cannot keep state");
  }
  static const struct {
    const char *name;
    napi_callback function;
  } exported[] = {
      {"registerSlab", register_slab},   {"unregisterSlab", unregister_slab}, {"registerList", register_list},
      {"unregisterList", unregister_list}, {"tunOpen", tun_open},             {"tunRead", tun_read},
      {"tunWrite", tun_write},           {"packetOpen", packet_open},         {"packetClose", packet_close},
      {"packetFd", packet_fd},           {"packetDrops", packet_drops},       {"packetReceive", packet_receive},
      {"packetSend", packet_send},       {"linkGet", link_get},               {"linkSet", link_set},
      {"wait", wait_fds},                {"eventOpen", event_open},           {"eventSignal", event_signal},
      {"close", close_fd},               {"aeadReady", aead_ready},         {"aeadInstall", aead_install},
      {"udpOpen", udp_open},             {"udpClose", udp_close},             {"udpFd", udp_fd},
      {"udpSend", udp_send},             {"udpReceive", udp_receive},
      {"xskAttach", xsk_attach},         {"xskOpen", xsk_open},               {"xskClose", xsk_close},
      {"xskKick", xsk_kick},             {"xskWake", xsk_wake},               {"xskLost", xsk_lost},
      {"tunAttach", tun_attach},         {"tunDetach", tun_detach},
      {"netlinkOpen", netlink_open},     {"netlinkSend", netlink_send},       {"netlinkReceive", netlink_receive},
      {"netlinkClose", netlink_close},
      {"aeadRemove", aead_remove},       {"aeadSeal", aead_seal},           {"aeadOpen", aead_open},
  };
  for (size_t i = 0; i < sizeof exported / sizeof *exported; i++) {
    napi_value function;
    if (napi_create_function(env, exported[i].name, NAPI_AUTO_LENGTH, exported[i].function, NULL, &function) != napi_ok ||
        napi_set_named_property(env, exports, exported[i].name, function) != napi_ok)
      return throw_type(env, "cannot export");
  }
  return exports;
}
