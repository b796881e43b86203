#include "aead.h"
#include "netlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct state *state_of(napi_env env) {
  void *data = NULL;
  napi_get_instance_data(env, &data);
  return data;
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

/* registerSlab(bytes: Uint8Array, rows: Int32Array, frames, frameSize, headroom, tailroom) -> id or -ENOSPC. Both arrays are
 * of shared memory, less than 2 GiB, and live as long as they are registered. */
static napi_value register_slab(napi_env env, napi_callback_info info) {
  napi_value args[6];
  void *bytes, *rows;
  size_t bytes_length, rows_length;
  int32_t n[4];
  if (!read_args(env, info, 6, args) || !read_shared(env, args[0], napi_uint8_array, &bytes, &bytes_length) ||
      !read_shared(env, args[1], napi_int32_array, &rows, &rows_length))
    return NULL;
  for (int i = 0; i < 4; i++)
    if (!read_int(env, args[2 + i], &n[i])) return NULL;
  if (n[0] < 1 || n[1] < 1 || n[2] < 0 || n[3] < 0 || (int64_t)n[2] + n[3] >= n[1] || bytes_length > INT32_MAX ||
      (size_t)n[0] * (size_t)n[1] > bytes_length || (size_t)n[0] * ROW_WORDS > rows_length)
    return throw_type(env, "frames do not fit the slab");
  struct state *state = state_of(env);
  for (int32_t id = 0; id < MAX_SLABS; id++) {
    if (id == state->slabs_size && !more_slabs(state)) break;
    struct slab *slab = &state->slabs[id];
    if (slab->bytes != NULL) continue;
    if (napi_create_reference(env, args[0], 1, &slab->bytes_ref) != napi_ok) return throw_type(env, "cannot keep the slab");
    if (napi_create_reference(env, args[1], 1, &slab->rows_ref) != napi_ok) {
      napi_delete_reference(env, slab->bytes_ref);
      return throw_type(env, "cannot keep the slab");
    }
    slab->bytes = bytes;
    slab->rows = rows;
    slab->length = bytes_length;
    slab->frames = (uint32_t)n[0];
    slab->frame_size = (uint32_t)n[1];
    slab->headroom = (uint32_t)n[2];
    slab->tailroom = (uint32_t)n[3];
    return to_js(env, id);
  }
  return to_js(env, -ENOSPC);
}

/* unregisterSlab(id) */
static napi_value unregister_slab(napi_env env, napi_callback_info info) {
  int32_t id;
  struct slab *slab = read_ints(env, info, 1, &id) ? slab_at(env, id) : NULL;
  if (slab == NULL) return NULL;
  napi_delete_reference(env, slab->bytes_ref);
  napi_delete_reference(env, slab->rows_ref);
  memset(slab, 0, sizeof *slab);
  return to_js(env, 0);
}

/* registerList(list: Int32Array of shared memory) -> id or -ENOSPC */
static napi_value register_list(napi_env env, napi_callback_info info) {
  napi_value arg;
  size_t length;
  void *data;
  if (!read_args(env, info, 1, &arg) || !read_shared(env, arg, napi_int32_array, &data, &length)) return NULL;
  struct state *state = state_of(env);
  for (int id = 0; id < MAX_LISTS; id++) {
    struct list *list = &state->lists[id];
    if (list->rows != NULL) continue;
    if (napi_create_reference(env, arg, 1, &list->ref) != napi_ok) return throw_type(env, "cannot keep the list");
    list->rows = data;
    list->length = length;
    return to_js(env, id);
  }
  return to_js(env, -ENOSPC);
}

/* unregisterList(id) */
static napi_value unregister_list(napi_env env, napi_callback_info info) {
  int32_t id;
  struct list *list = read_ints(env, info, 1, &id) ? list_at(env, id) : NULL;
  if (list == NULL) return NULL;
  napi_delete_reference(env, list->ref);
  memset(list, 0, sizeof *list);
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
      {"registerSlab", register_slab},
      {"unregisterSlab", unregister_slab},
      {"registerList", register_list},
      {"unregisterList", unregister_list},
      {"tunOpen", tun_open},
      {"tunAttach", tun_attach},
      {"tunFile", tun_file},
      {"tunDetach", tun_detach},
      {"tunRead", tun_read},
      {"tunWrite", tun_write},
      {"packetOpen", packet_open},
      {"packetClose", packet_close},
      {"packetFd", packet_fd},
      {"packetDrops", packet_drops},
      {"packetReceive", packet_receive},
      {"packetSend", packet_send},
      {"udpOpen", udp_open},
      {"udpClose", udp_close},
      {"udpFd", udp_fd},
      {"udpPathMtu", udp_path_mtu},
      {"udpSend", udp_send},
      {"udpReceive", udp_receive},
      {"xskAttach", xsk_attach},
      {"xskOpen", xsk_open},
      {"xskClose", xsk_close},
      {"xskKick", xsk_kick},
      {"xskWake", xsk_wake},
      {"xskLost", xsk_lost},
      {"xskZeroCopy", xsk_zero_copy},
      {"linkGet", link_get},
      {"linkSet", link_set},
      {"netlinkOpen", netlink_open},
      {"netlinkSend", netlink_send},
      {"netlinkReceive", netlink_receive},
      {"netlinkPort", netlink_port},
      {"netlinkClose", netlink_close},
      {"wait", wait_fds},
      {"eventOpen", event_open},
      {"eventSignal", event_signal},
      {"close", close_fd},
      {"aeadReady", aead_ready},
      {"aeadInstall", aead_install},
      {"aeadRemove", aead_remove},
      {"aeadSeal", aead_seal},
      {"aeadOpen", aead_open},
  };
  for (size_t i = 0; i < sizeof exported / sizeof *exported; i++) {
    napi_value function;
    if (napi_create_function(env, exported[i].name, NAPI_AUTO_LENGTH, exported[i].function, NULL, &function) != napi_ok ||
        napi_set_named_property(env, exports, exported[i].name, function) != napi_ok)
      return throw_type(env, "cannot export");
  }
  return exports;
}
