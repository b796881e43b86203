/* The addon: system calls in bursts, no policy. Every argument is checked here; nothing asserts on input.
 * Calls take integers and return counts, or -errno. A caller's bug (wrong type, unknown id) throws TypeError. */
#ifndef ESPALIER_H
#define ESPALIER_H

#define NAPI_VERSION 8
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Columns of a row; as packages/wire/src/burst.ts. */
enum {
  ROW_WORDS = 16, ROW_START = 0, ROW_END = 1, ROW_ESP = 3, ROW_KEY = 5, ROW_SEQ_LO = 6, ROW_SEQ_HI = 7, ROW_STATE = 8,
  ROW_FATE = 9, ROW_TCI = 11
};
enum { STATE_UNSET = 0, STATE_TO_SEAL = 1, STATE_SEALED = 2, STATE_RECEIVED = 4, STATE_OPENED = 5, STATE_ICV_BAD = 6 };

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

/* Arguments (args.c). A reader that answers false or NULL has left a pending TypeError. */
enum { MAX_ARGS = 8 };
bool read_args(napi_env env, napi_callback_info info, size_t count, napi_value *args);
bool read_int(napi_env env, napi_value value, int32_t *out);
bool read_ints(napi_env env, napi_callback_info info, size_t count, int32_t *out);
/* Elements of a typed array, at least so many; valid until JavaScript runs again. `length` may be NULL. */
bool read_array(napi_env env, napi_value value, napi_typedarray_type want, size_t least, void **data, size_t *length);
/* The same of shared memory, which never moves or shrinks: valid while something refers to it. */
bool read_shared(napi_env env, napi_value value, napi_typedarray_type want, void **data, size_t *length);
/* A device name into out[16], padded with zeros. */
bool read_name(napi_env env, napi_value value, char out[16]);
struct slab *slab_at(napi_env env, int32_t id);
struct list *list_at(napi_env env, int32_t id);

/* Rows list[from .. from + count) of a slab, at most MAX_BURST; the rows' numbers and words are not checked yet. */
struct burst {
  struct slab *slab;
  const int32_t *rows;
  int32_t count;
};
bool read_burst(napi_env env, int32_t slab, int32_t list, int32_t from, int32_t count, struct burst *out);
/* The bytes of each row, all inside the slab; read once, so that nothing can change after the check. */
bool read_spans(napi_env env, const struct burst *burst, struct iovec *out);
/* Words of row i and where a packet put into its frame starts. */
int32_t *read_frame(napi_env env, const struct burst *burst, int32_t i, size_t *start);
static inline size_t frame_room(const struct slab *slab) { return slab->frame_size - slab->headroom - slab->tailroom; }

/* Descriptors that JavaScript holds as numbers (fds.c): the descriptor, or -EMFILE and it is closed. */
int hand_out(int fd);
bool is_handed_out(int32_t fd);
/* Whether it was: the caller closes it. */
bool take_back(int32_t fd);

napi_value to_js(napi_env env, int32_t value);
napi_value throw_type(napi_env env, const char *message);

napi_value tun_open(napi_env env, napi_callback_info info);
napi_value tun_attach(napi_env env, napi_callback_info info);
napi_value tun_file(napi_env env, napi_callback_info info);
napi_value tun_detach(napi_env env, napi_callback_info info);
void tun_release(struct state *state);
napi_value tun_read(napi_env env, napi_callback_info info);
napi_value tun_write(napi_env env, napi_callback_info info);
napi_value udp_open(napi_env env, napi_callback_info info);
napi_value udp_path_mtu(napi_env env, napi_callback_info info);
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
napi_value xsk_zero_copy(napi_env env, napi_callback_info info);
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

#endif
