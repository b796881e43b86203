/*
 * AF_XDP in C, with raw system calls: frames go round between the two ends of a veth pair, received on one and sent on from
 * there, in batches of 64 over one UMEM. `xdp-loop A B FRAMES SIZE MS`; nanoseconds per packet received and sent.
 */
#include "contender.h"
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FRAMES 4096u
#define FRAME_SIZE 2048u
#define ENTRIES 2048u
#define BATCH 64u
#define PACKETS_A_SAMPLE 4096
#define WARM_UP_NS 300000000ull

struct ring {
  uint32_t *producer, *consumer, *flags, own;
  void *entries;
};

struct end {
  int fd;
  struct ring rx, tx, fill, completion;
  uint32_t stock;
};

static uint8_t *umem;
static uint64_t pool[FRAMES];
static uint32_t free_frames;

static int bpf(int command, union bpf_attr *attr) { return (int)syscall(SYS_bpf, command, attr, sizeof *attr); }

/* Everything that a queue receives goes to its socket. */
static int attach(int ifindex) {
  union bpf_attr attr = {.map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 1};
  int map = bpf(BPF_MAP_CREATE, &attr);
  struct bpf_insn code[] = {
      {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = offsetof(struct xdp_md, rx_queue_index)},
      {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map},
      {0},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
      {.code = BPF_JMP | BPF_EXIT},
  };
  memset(&attr, 0, sizeof attr);
  attr.prog_type = BPF_PROG_TYPE_XDP;
  attr.insns = (uint64_t)(uintptr_t)code;
  attr.insn_cnt = sizeof code / sizeof *code;
  attr.license = (uint64_t)(uintptr_t) "Dual BSD/GPL";
  int program = bpf(BPF_PROG_LOAD, &attr);
  memset(&attr, 0, sizeof attr);
  attr.link_create.prog_fd = (uint32_t)program;
  attr.link_create.target_ifindex = (uint32_t)ifindex;
  attr.link_create.attach_type = BPF_XDP;
  attr.link_create.flags = XDP_FLAGS_DRV_MODE;
  if (map < 0 || program < 0 || bpf(BPF_LINK_CREATE, &attr) < 0) fail("cannot attach the program");
  return map;
}

static void map_ring(struct end *e, struct ring *r, const struct xdp_ring_offset *at, uint64_t page, size_t entry) {
  uint8_t *base = mmap(NULL, at->desc + ENTRIES * entry, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, e->fd, (off_t)page);
  if (base == MAP_FAILED) fail("cannot map a ring");
  r->producer = (uint32_t *)(base + at->producer);
  r->consumer = (uint32_t *)(base + at->consumer);
  r->flags = (uint32_t *)(base + at->flags);
  r->entries = base + at->desc;
}

static void open_end(struct end *e, const char *name, int share) {
  int ifindex = (int)if_nametoindex(name), entries = ENTRIES;
  if (ifindex == 0) fail("no such interface");
  e->fd = socket(AF_XDP, SOCK_RAW, 0);
  struct xdp_umem_reg reg = {.addr = (uint64_t)(uintptr_t)umem, .len = FRAMES * FRAME_SIZE, .chunk_size = FRAME_SIZE};
  if (share < 0 && setsockopt(e->fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof reg)) fail("XDP_UMEM_REG");
  for (int option = XDP_RX_RING; option <= XDP_UMEM_COMPLETION_RING; option++)
    if (option != XDP_UMEM_REG && setsockopt(e->fd, SOL_XDP, option, &entries, sizeof entries)) fail("ring size");
  struct xdp_mmap_offsets offsets;
  socklen_t length = sizeof offsets;
  if (getsockopt(e->fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length)) fail("XDP_MMAP_OFFSETS");
  map_ring(e, &e->rx, &offsets.rx, XDP_PGOFF_RX_RING, sizeof(struct xdp_desc));
  map_ring(e, &e->tx, &offsets.tx, XDP_PGOFF_TX_RING, sizeof(struct xdp_desc));
  map_ring(e, &e->fill, &offsets.fr, XDP_UMEM_PGOFF_FILL_RING, 8);
  map_ring(e, &e->completion, &offsets.cr, XDP_UMEM_PGOFF_COMPLETION_RING, 8);
  struct sockaddr_xdp to = {.sxdp_family = AF_XDP,
                            .sxdp_flags = (uint16_t)(share < 0 ? XDP_USE_NEED_WAKEUP : XDP_SHARED_UMEM),
                            .sxdp_ifindex = (uint32_t)ifindex,
                            .sxdp_shared_umem_fd = share < 0 ? 0 : (uint32_t)share};
  /* The queue of a socket that has just been closed stays busy for a while. */
  for (int i = 0; bind(e->fd, (struct sockaddr *)&to, sizeof to); i++) {
    if (errno != EBUSY || i == 200) fail("cannot bind the AF_XDP socket");
    usleep(10000);
  }
  union bpf_attr attr = {0};
  uint32_t key = 0;
  attr.map_fd = (uint32_t)attach(ifindex);
  attr.key = (uint64_t)(uintptr_t)&key;
  attr.value = (uint64_t)(uintptr_t)&e->fd;
  if (bpf(BPF_MAP_UPDATE_ELEM, &attr)) fail("cannot put the socket into the map");
}

static uint32_t load(const uint32_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static void publish(uint32_t *word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

static void refill(struct end *e) {
  uint64_t *entries = e->fill.entries;
  uint32_t n = 0;
  for (; e->stock < FRAMES / 4 && free_frames > 0; e->stock++, n++)
    entries[(e->fill.own + n) & (ENTRIES - 1)] = pool[--free_frames];
  if (n == 0) return;
  publish(e->fill.producer, e->fill.own += n);
  if (*e->fill.flags & XDP_RING_NEED_WAKEUP) recvfrom(e->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

static void complete(struct end *e) {
  uint32_t n = load(e->completion.producer) - e->completion.own;
  const uint64_t *entries = e->completion.entries;
  for (uint32_t i = 0; i < n; i++)
    pool[free_frames++] = entries[(e->completion.own + i) & (ENTRIES - 1)] & ~(uint64_t)(FRAME_SIZE - 1);
  if (n > 0) publish(e->completion.consumer, e->completion.own += n);
}

static void kick(struct end *e) {
  /* 32 frames a call in copy mode; EAGAIN says that there are more. */
  while (sendto(e->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno == EAGAIN) continue;
}

/* Receives a batch on one end and sends it on from there. */
static uint32_t forward(struct end *e) {
  uint32_t n = load(e->rx.producer) - e->rx.own;
  if (n > BATCH) n = BATCH;
  if (n == 0) return 0;
  const struct xdp_desc *from = e->rx.entries;
  struct xdp_desc *to = e->tx.entries;
  for (uint32_t i = 0; i < n; i++) to[(e->tx.own + i) & (ENTRIES - 1)] = from[(e->rx.own + i) & (ENTRIES - 1)];
  publish(e->rx.consumer, e->rx.own += n);
  e->stock -= n;
  complete(e);
  refill(e);
  publish(e->tx.producer, e->tx.own += n);
  if (*e->tx.flags & XDP_RING_NEED_WAKEUP) kick(e);
  return n;
}

int main(int argc, char **argv) {
  if (argc != 6) fail("usage: xdp-loop A B FRAMES SIZE MS");
  uint32_t going = (uint32_t)atoi(argv[3]), size = (uint32_t)atoi(argv[4]);
  umem = mmap(NULL, FRAMES * FRAME_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (umem == MAP_FAILED || going > BATCH || size > FRAME_SIZE) fail("no memory, or no such frames");
  for (; free_frames < FRAMES; free_frames++) pool[free_frames] = (uint64_t)free_frames * FRAME_SIZE;
  struct end ends[2] = {0};
  open_end(&ends[0], argv[1], -1);
  open_end(&ends[1], argv[2], ends[0].fd);
  refill(&ends[0]);
  refill(&ends[1]);
  struct xdp_desc *first = ends[0].tx.entries;
  for (uint32_t i = 0; i < going; i++) {
    uint64_t at = pool[--free_frames];
    memset(umem + at, 2, 12);
    umem[at + 12] = 8, umem[at + 13] = 0, umem[at + 14] = 0x45, umem[at + 23] = 50;
    first[i] = (struct xdp_desc){.addr = at, .len = size};
  }
  publish(ends[0].tx.producer, ends[0].tx.own = going);
  kick(&ends[0]);

  struct samples samples = {0};
  uint64_t began = now_ns(), until = began + WARM_UP_NS + strtoull(argv[5], NULL, 10) * 1000000, start;
  while ((start = now_ns()) < until) {
    uint32_t packets = 0;
    while (packets < PACKETS_A_SAMPLE) {
      uint32_t n = forward(&ends[0]) + forward(&ends[1]);
      packets += n;
      if (n == 0 && now_ns() - start > 1000000000ull) fail("the frames are lost");
    }
    if (start - began >= WARM_UP_NS) sample(&samples, (double)(now_ns() - start) / packets);
  }
  answer(&samples);
  return 0;
}
