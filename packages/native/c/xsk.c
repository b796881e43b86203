/* AF_XDP: the system calls and nothing else. The rings are mapped over pages of the caller's own shared memory and driven
 * from there (Linux Documentation/networking/af_xdp.rst); only a kick is a call. */
#include "espalier.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif

enum { MAP_ENTRIES = 64, PAGE = 4096, RINGS = 4, OUT_WORDS = 16, SPEC_WORDS = 10, TX_BUDGET = 256 };
enum { MODE_DRIVER = 1, MODE_GENERIC = 2, LACP = 4 };

static int bpf(int command, union bpf_attr *attr, size_t size) { return (int)syscall(SYS_bpf, command, attr, size); }

/* One instruction. */
static struct bpf_insn op(uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm) {
  return (struct bpf_insn){.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm};
}

/*
 * ESP, UDP to port 4500 and, when asked, LACP go to the socket of their queue; everything else, ARP and neighbour discovery among it,
 * goes on to the kernel. Where no socket is bound to the queue everything does.
 *
 *   r6 = ctx, r2 = data, r3 = data_end; a frame is looked at only where `data + n <= data_end` has been checked.
 */
static size_t steering(struct bpf_insn *p, int map, bool lacp) {
  enum { PASS, TAKE, LABELS };
  struct { size_t at; int label; } jumps[24];
  size_t n = 0, jumped = 0;
#define I(...) p[n++] = op(__VA_ARGS__)
#define J(code, dst, imm, to) (jumps[jumped].at = n, jumps[jumped++].label = (to), I(code, dst, 0, 0, imm))
#define NEED(bytes)                                                        \
  I(BPF_ALU64 | BPF_MOV | BPF_X, 4, 2, 0, 0);                              \
  I(BPF_ALU64 | BPF_ADD | BPF_K, 4, 0, 0, (bytes));                        \
  (jumps[jumped].at = n, jumps[jumped++].label = PASS, I(BPF_JMP | BPF_JGT | BPF_X, 4, 3, 0, 0))
  I(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0);
  I(BPF_LDX | BPF_MEM | BPF_W, 2, 6, offsetof(struct xdp_md, data), 0);
  I(BPF_LDX | BPF_MEM | BPF_W, 3, 6, offsetof(struct xdp_md, data_end), 0);
  NEED(14);
  I(BPF_LDX | BPF_MEM | BPF_H, 5, 2, 12, 0);
  if (lacp) J(BPF_JMP | BPF_JEQ | BPF_K, 5, __builtin_bswap16(ETH_P_SLOW), TAKE);
  size_t not4 = n;
  I(BPF_JMP | BPF_JNE | BPF_K, 5, 0, 0, __builtin_bswap16(ETH_P_IP));
  /* IPv4: protocol at 23; ports behind the header, whose length is read and masked to 60 bytes. */
  NEED(34);
  I(BPF_LDX | BPF_MEM | BPF_B, 5, 2, 23, 0);
  J(BPF_JMP | BPF_JEQ | BPF_K, 5, 50, TAKE);
  J(BPF_JMP | BPF_JNE | BPF_K, 5, 17, PASS);
  /* A later fragment has no ports. */
  I(BPF_LDX | BPF_MEM | BPF_H, 5, 2, 20, 0);
  I(BPF_ALU64 | BPF_AND | BPF_K, 5, 0, 0, __builtin_bswap16(0x1fff));
  J(BPF_JMP | BPF_JNE | BPF_K, 5, 0, PASS);
  I(BPF_LDX | BPF_MEM | BPF_B, 5, 2, 14, 0);
  I(BPF_ALU64 | BPF_AND | BPF_K, 5, 0, 0, 15);
  I(BPF_ALU64 | BPF_LSH | BPF_K, 5, 0, 0, 2);
  I(BPF_ALU64 | BPF_ADD | BPF_X, 2, 5, 0, 0);
  NEED(18);
  I(BPF_LDX | BPF_MEM | BPF_H, 5, 2, 16, 0);
  J(BPF_JMP | BPF_JEQ | BPF_K, 5, __builtin_bswap16(4500), TAKE);
  J(BPF_JMP | BPF_JA, 0, 0, PASS);
  p[not4].off = (int16_t)(n - not4 - 1);
  J(BPF_JMP | BPF_JNE | BPF_K, 5, __builtin_bswap16(ETH_P_IPV6), PASS);
  NEED(58);
  I(BPF_LDX | BPF_MEM | BPF_B, 5, 2, 20, 0);
  J(BPF_JMP | BPF_JEQ | BPF_K, 5, 50, TAKE);
  J(BPF_JMP | BPF_JNE | BPF_K, 5, 17, PASS);
  I(BPF_LDX | BPF_MEM | BPF_H, 5, 2, 56, 0);
  J(BPF_JMP | BPF_JNE | BPF_K, 5, __builtin_bswap16(4500), PASS);
  size_t labels[LABELS];
  labels[TAKE] = n;
  I(BPF_LDX | BPF_MEM | BPF_W, 2, 6, offsetof(struct xdp_md, rx_queue_index), 0);
  I(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, map);
  I(0, 0, 0, 0, 0);
  I(BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, XDP_PASS);
  I(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map);
  I(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
  labels[PASS] = n;
  I(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS);
  I(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
#undef I
#undef J
#undef NEED
  for (size_t i = 0; i < jumped; i++) p[jumps[i].at].off = (int16_t)(labels[jumps[i].label] - jumps[i].at - 1);
  return n;
}

/* xskAttach(ifindex, mode, out: Int32Array(3)) -> 0 or -errno; mode 1 = in the driver, 2 = generic; with 4, LACP
 * comes to us as well. out = map, program and
 * link descriptors. The kernel takes the program off when the last holder of the link is gone, however it went. */
napi_value xsk_attach(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int32_t n[2], *out;
  void *data = NULL;
  if (!read_args(env, info, 3, args) || !read_int(env, args[0], &n[0]) || !read_int(env, args[1], &n[1]) ||
      !read_array(env, args[2], napi_int32_array, 3, &data, NULL))
    return NULL;
  if ((n[1] & ~LACP) != MODE_DRIVER && (n[1] & ~LACP) != MODE_GENERIC) return throw_type(env, "no such mode");
  out = data;
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.map_type = BPF_MAP_TYPE_XSKMAP;
  attr.key_size = 4;
  attr.value_size = 4;
  attr.max_entries = MAP_ENTRIES;
  int map = bpf(BPF_MAP_CREATE, &attr, sizeof attr);
  if (map < 0) return to_js(env, -errno);
  struct bpf_insn program[96];
  memset(&attr, 0, sizeof attr);
  attr.prog_type = BPF_PROG_TYPE_XDP;
  attr.expected_attach_type = BPF_XDP;
  attr.insns = (uint64_t)(uintptr_t)program;
  attr.insn_cnt = (uint32_t)steering(program, map, (n[1] & LACP) != 0);
  attr.license = (uint64_t)(uintptr_t) "Dual BSD/GPL";
  int prog = bpf(BPF_PROG_LOAD, &attr, sizeof attr);
  int error = prog < 0 ? errno : 0, link = -1;
  if (error == 0) {
    memset(&attr, 0, sizeof attr);
    attr.link_create.prog_fd = (uint32_t)prog;
    attr.link_create.target_ifindex = (uint32_t)n[0];
    attr.link_create.attach_type = BPF_XDP;
    attr.link_create.flags = (n[1] & ~LACP) == MODE_GENERIC ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
    link = bpf(BPF_LINK_CREATE, &attr, sizeof attr);
    if (link < 0) error = errno;
  }
  if (error != 0) {
    if (prog >= 0) close(prog);
    close(map);
    return to_js(env, -error);
  }
  /* A descriptor beyond the table would not be closed by number: none of the three is given out then. */
  const int fds[] = {map, prog, link};
  for (int i = 0; i < 3; i++)
    if ((out[i] = hand_out(fds[i])) < 0) {
      for (int j = 0; j < 3; j++)
        if (j > i || (j < i && take_back(fds[j]))) close(fds[j]);
      return to_js(env, -EMFILE);
    }
  return to_js(env, 0);
}

struct ring {
  int option;
  uint64_t page_offset;
  size_t entry;
};
static const struct ring rings[RINGS] = {{XDP_RX_RING, XDP_PGOFF_RX_RING, sizeof(struct xdp_desc)},
                                         {XDP_TX_RING, XDP_PGOFF_TX_RING, sizeof(struct xdp_desc)},
                                         {XDP_UMEM_FILL_RING, XDP_UMEM_PGOFF_FILL_RING, sizeof(uint64_t)},
                                         {XDP_UMEM_COMPLETION_RING, XDP_UMEM_PGOFF_COMPLETION_RING, sizeof(uint64_t)}};

/* Whether the descriptor is a map of AF_XDP sockets, as xskAttach makes it. It may have come from another process. */
static bool is_xsk_map(int fd) {
  struct bpf_map_info about;
  union bpf_attr attr;
  memset(&about, 0, sizeof about);
  memset(&attr, 0, sizeof attr);
  attr.info.bpf_fd = (uint32_t)fd;
  attr.info.info_len = sizeof about;
  attr.info.info = (uint64_t)(uintptr_t)&about;
  return bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof attr) == 0 && about.type == BPF_MAP_TYPE_XSKMAP;
}

static bool is_xsk(int fd) {
  int domain = 0;
  socklen_t length = sizeof domain;
  return is_handed_out(fd) && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_XDP;
}

/* xskOpen(memory: Uint8Array, out: Int32Array(16), spec: Int32Array(10)) -> descriptor or -errno.
 * spec = ifindex, queue, bytes of UMEM from the memory's start, frame size, where the rings' pages begin, bytes for each
 * ring, entries of each ring (a power of two), bind flags, descriptor that owns the UMEM already or -1, map or -1; -EBADF
 * where these two are something else.
 * out = per ring (rx, tx, fill, completion) the byte offsets in memory of producer, consumer, flags and entries. */
napi_value xsk_open(napi_env env, napi_callback_info info) {
  napi_value args[3];
  size_t memory_length;
  void *data[3];
  if (!read_args(env, info, 3, args) || !read_shared(env, args[0], napi_uint8_array, &data[0], &memory_length) ||
      !read_array(env, args[1], napi_int32_array, OUT_WORDS, &data[1], NULL) ||
      !read_array(env, args[2], napi_int32_array, SPEC_WORDS, &data[2], NULL))
    return NULL;
  uint8_t *memory = data[0];
  int32_t *out = data[1];
  int32_t spec[SPEC_WORDS];
  memcpy(spec, data[2], sizeof spec); /* once: it may be shared */
  int32_t umem = spec[2], frame = spec[3], pages = spec[4], each = spec[5], entries = spec[6];
  if (umem < PAGE || frame < 2048 || pages < umem || pages % PAGE != 0 || each < PAGE || each % PAGE != 0 || entries < 2 ||
      (entries & (entries - 1)) != 0 || memory_length > INT32_MAX ||
      (uint64_t)pages + (uint64_t)each * RINGS > memory_length ||
      (uintptr_t)memory % PAGE != 0)
    return throw_type(env, "rings and frames do not fit the memory");
  if ((spec[8] != -1 && !is_xsk(spec[8])) || (spec[9] != -1 && !is_xsk_map(spec[9]))) return to_js(env, -EBADF);
  int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return to_js(env, -errno);
  struct xdp_umem_reg reg = {.addr = (uint64_t)(uintptr_t)memory, .len = (uint64_t)umem, .chunk_size = (uint32_t)frame};
  if (spec[8] < 0 && setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg) < 0) goto failed;
  for (int i = 0; i < RINGS; i++)
    if (setsockopt(fd, SOL_XDP, rings[i].option, &entries, sizeof entries) < 0) goto failed;
  /* Since Linux 6.17 one kick may send more than 32 frames in copy mode; before, the caller kicks again. */
  int budget = entries < TX_BUDGET ? entries : TX_BUDGET;
  setsockopt(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof budget);
  struct xdp_mmap_offsets at;
  socklen_t length = sizeof at;
  if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &length) < 0) goto failed;
  const struct xdp_ring_offset *offsets[RINGS] = {&at.rx, &at.tx, &at.fr, &at.cr};
  for (int i = 0; i < RINGS; i++) {
    size_t bytes = offsets[i]->desc + (size_t)entries * rings[i].entry;
    if (bytes > (size_t)each) {
      errno = ENOSPC;
      goto failed;
    }
    uint8_t *to = memory + pages + (size_t)i * (size_t)each;
    if (mmap(to, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, (off_t)rings[i].page_offset) ==
        MAP_FAILED)
      goto failed;
    int32_t base = pages + i * each;
    out[i * 4] = base + (int32_t)offsets[i]->producer;
    out[i * 4 + 1] = base + (int32_t)offsets[i]->consumer;
    out[i * 4 + 2] = base + (int32_t)offsets[i]->flags;
    out[i * 4 + 3] = base + (int32_t)offsets[i]->desc;
  }
  struct sockaddr_xdp address = {.sxdp_family = AF_XDP,
                                 .sxdp_flags = (uint16_t)(spec[8] < 0 ? spec[7] : XDP_SHARED_UMEM),
                                 .sxdp_ifindex = (uint32_t)spec[0],
                                 .sxdp_queue_id = (uint32_t)spec[1],
                                 .sxdp_shared_umem_fd = spec[8] < 0 ? 0 : (uint32_t)spec[8]};
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) goto failed;
  if (spec[9] >= 0) {
    union bpf_attr attr;
    uint32_t key = (uint32_t)spec[1], value = (uint32_t)fd;
    memset(&attr, 0, sizeof attr);
    attr.map_fd = (uint32_t)spec[9];
    attr.key = (uint64_t)(uintptr_t)&key;
    attr.value = (uint64_t)(uintptr_t)&value;
    if (bpf(BPF_MAP_UPDATE_ELEM, &attr, sizeof attr) < 0) goto failed;
  }
  if (hand_out(fd) == fd) return to_js(env, fd);
  fd = -1;
  errno = EMFILE;
failed:;
  int error = errno;
  /* Plain pages again under the rings: the memory stays whole whatever happens to the socket. */
  mmap(memory + pages, (size_t)each * RINGS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
  if (fd >= 0) close(fd);
  return to_js(env, -error);
}

/* xskClose(fd, memory: Uint8Array, pages, bytes) -> 0 or -EBADF: the rings' pages become plain memory again */
napi_value xsk_close(napi_env env, napi_callback_info info) {
  napi_value args[4];
  size_t length;
  void *memory;
  int32_t n[3];
  if (!read_args(env, info, 4, args) || !read_int(env, args[0], &n[0]) ||
      !read_shared(env, args[1], napi_uint8_array, &memory, &length) || !read_int(env, args[2], &n[1]) ||
      !read_int(env, args[3], &n[2]))
    return NULL;
  if (n[1] < 0 || n[2] < 0 || n[1] % PAGE != 0 || n[2] % PAGE != 0 || (uint64_t)n[1] + (uint64_t)n[2] > length ||
      (uintptr_t)memory % PAGE != 0)
    return throw_type(env, "pages outside the memory");
  if (!take_back(n[0])) return to_js(env, -EBADF);
  close(n[0]);
  mmap((uint8_t *)memory + n[1], (size_t)n[2], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
  return to_js(env, 0);
}

/* xskKick(fd) -> 0 or -errno: the device shall look at the TX ring */
napi_value xsk_kick(napi_env env, napi_callback_info info) {
  int32_t fd;
  if (!read_ints(env, info, 1, &fd)) return NULL;
  if (!is_handed_out(fd)) return to_js(env, -EBADF);
  return to_js(env, sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? -errno : 0);
}

/* xskWake(fd) -> 0 or -errno: the device shall look at the fill ring */
napi_value xsk_wake(napi_env env, napi_callback_info info) {
  int32_t fd;
  if (!read_ints(env, info, 1, &fd)) return NULL;
  if (!is_handed_out(fd)) return to_js(env, -EBADF);
  return to_js(env, recvfrom(fd, NULL, 0, MSG_DONTWAIT, NULL, NULL) < 0 ? -errno : 0);
}

/* xskZeroCopy(fd) -> 1 when the driver sends and receives in the frames themselves, 0 when it copies, or -errno */
napi_value xsk_zero_copy(napi_env env, napi_callback_info info) {
  int32_t fd;
  if (!read_ints(env, info, 1, &fd)) return NULL;
  if (!is_handed_out(fd)) return to_js(env, -EBADF);
  struct xdp_options options;
  socklen_t length = sizeof options;
  memset(&options, 0, sizeof options);
  if (getsockopt(fd, SOL_XDP, XDP_OPTIONS, &options, &length) < 0) return to_js(env, -errno);
  return to_js(env, (options.flags & XDP_OPTIONS_ZEROCOPY) != 0);
}

/* xskLost(fd) -> frames the device dropped for want of a ring entry or frame, in all. What found the fill ring empty is among
 * rx_dropped too (xsk_rcv, __xsk_rcv of net/xdp/xsk.c). */
napi_value xsk_lost(napi_env env, napi_callback_info info) {
  int32_t fd;
  if (!read_ints(env, info, 1, &fd)) return NULL;
  if (!is_handed_out(fd)) return to_js(env, -EBADF);
  struct xdp_statistics stats;
  socklen_t length = sizeof stats;
  memset(&stats, 0, sizeof stats);
  if (getsockopt(fd, SOL_XDP, XDP_STATISTICS, &stats, &length) < 0) return to_js(env, -errno);
  uint64_t lost = stats.rx_dropped + stats.rx_ring_full;
  return to_js(env, (int32_t)(lost & 0x7fffffff));
}
