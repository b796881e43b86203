/* The addon: system calls in bursts, no policy. Every argument is checked here; nothing asserts on input.
 * Calls take integers and return counts, or -errno. A caller's bug (wrong type, unknown id) throws TypeError. */
#ifndef ESPALIER_H
#define ESPALIER_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Columns of a row; as packages/wire/src/burst.ts. */
enum {
  ROW_WORDS = 16, ROW_START = 0, ROW_END = 1, ROW_ESP = 3, ROW_KEY = 5, ROW_SEQ_LO = 6, ROW_SEQ_HI = 7, ROW_STATE = 8,
  ROW_FATE = 9, ROW_TCI = 11
};
enum { STATE_TO_SEAL = 1, STATE_SEALED = 2, STATE_RECEIVED = 4, STATE_OPENED = 5, STATE_ICV_BAD = 6 };

enum { MAX_SLABS = 1 << 16, MAX_LISTS = 256, MAX_PACKETS = 256, MAX_TUNS = 64, MAX_UDPS = 256, MAX_NETLINKS = 16, MAX_BURST = 256 };

struct slab {
  napi_ref bytes_ref, rows_ref;
  uint8_t *bytes;
  int32_t *rows;
  size_t length;
  uint32_t frames, frame_size, headroom, tailroom;
};

struct list {
  napi_ref ref;
  int32_t *rows;
  size_t length;
};

/* One AF_PACKET socket, with a TPACKET_V2 receive ring or none. */
struct packet {
  int fd; /* -1 = free */
  uint8_t *ring;
  size_t ring_bytes;
  uint32_t slots, slot_size, next;
  uint64_t drops;
};

/* Of one environment (one thread). */
struct state {
  struct slab *slabs; /* grows */
  int32_t slabs_size;
  struct list lists[MAX_LISTS];
  struct packet packets[MAX_PACKETS];
  struct tun *tuns[MAX_TUNS];
  struct udp *udps[MAX_UDPS];
  struct netlink *netlinks[MAX_NETLINKS];
  struct aead_key **keys; /* by number; 0 is no key */
  uint32_t keys_size, keys_hint;
};

struct state *state_of(napi_env env);
/* Reads `count` int32 arguments; false (and a pending TypeError) when one is not a number. */
bool read_ints(napi_env env, napi_callback_info info, size_t count, int32_t *out);
napi_value to_js(napi_env env, int32_t value);
napi_value throw_type(napi_env env, const char *message);

/* A checked burst: slab, and rows list[from .. from + count). NULL slab (and a pending TypeError) when something is off. */
struct burst {
  struct slab *slab;
  const int32_t *rows;
  int32_t count;
};
bool read_burst(napi_env env, int32_t slab, int32_t list, int32_t from, int32_t count, struct burst *out);
/* Bytes of a row; false when START and END are not inside the slab. */
bool row_span(const struct slab *slab, int32_t row, uint8_t **start, size_t *length);

napi_value tun_open(napi_env env, napi_callback_info info);
napi_value tun_attach(napi_env env, napi_callback_info info);
napi_value tun_detach(napi_env env, napi_callback_info info);
void tun_release(struct state *state);
napi_value tun_read(napi_env env, napi_callback_info info);
napi_value tun_write(napi_env env, napi_callback_info info);
napi_value udp_open(napi_env env, napi_callback_info info);
napi_value udp_close(napi_env env, napi_callback_info info);
napi_value udp_fd(napi_env env, napi_callback_info info);
napi_value udp_send(napi_env env, napi_callback_info info);
napi_value udp_receive(napi_env env, napi_callback_info info);
void udp_release(struct state *state);
napi_value xsk_attach(napi_env env, napi_callback_info info);
napi_value xsk_open(napi_env env, napi_callback_info info);
napi_value xsk_close(napi_env env, napi_callback_info info);
napi_value xsk_kick(napi_env env, napi_callback_info info);
napi_value xsk_wake(napi_env env, napi_callback_info info);
napi_value xsk_lost(napi_env env, napi_callback_info info);
napi_value packet_open(napi_env env, napi_callback_info info);
napi_value packet_close(napi_env env, napi_callback_info info);
napi_value packet_fd(napi_env env, napi_callback_info info);
napi_value packet_drops(napi_env env, napi_callback_info info);
napi_value packet_receive(napi_env env, napi_callback_info info);
napi_value packet_send(napi_env env, napi_callback_info info);
void packet_release(struct packet *packet);
napi_value link_get(napi_env env, napi_callback_info info);
napi_value link_set(napi_env env, napi_callback_info info);
napi_value wait_fds(napi_env env, napi_callback_info info);
napi_value event_open(napi_env env, napi_callback_info info);
napi_value event_signal(napi_env env, napi_callback_info info);
napi_value close_fd(napi_env env, napi_callback_info info);

/* Reads a device name argument into out[16]; false with a pending TypeError when it is no name. */
bool read_name(napi_env env, napi_value value, char out[16]);

#endif
