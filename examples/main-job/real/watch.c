/* The observer and the attacker of the main job. Shares no code with the datapath: sockets, parsing and search are its own.
 *
 *   watch MARKER_HEX REPLAY_EVERY RECORDING KEEP_BYTES QUIET [PID_A IF_A PID_B IF_B]...   each link, named from both ends
 *
 * Reads every link from outside through mapped rings: frames that arrive at A and frames that arrive at B. Anything but ESP
 * is counted as plaintext, and so is a frame that carries the marker: a line for each, at most ten, unless QUIET is 1. Every
 * REPLAY_EVERYth ESP frame that B received on link i is sent again into link i + 1, which the receiver's other worker reads.
 *
 * Orders on stdin, one byte each: p pause the replays, r go on, k keep KEEP_BYTES more of what is seen in RECORDING, a
 * digit: follow the SAs of that link, e: no longer, m: nothing. Each is answered, when it is followed, by a line with the
 * number of SAs that have come up elsewhere. Prints one JSON object when stdin ends. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The most slots of a ring, and the least: a second of what B gets, where there is memory for it. */
enum { MAX_LINKS = 16, MAX_SAS = 256, SLOT = 2048, MOST_SLOTS = 32768, LEAST_SLOTS = 8192, BLOCK = 1 << 16 };

struct tap {
  int fd;
  uint8_t *ring;
  unsigned next, slots;
  int link, at_b;
};

static struct tap taps[MAX_LINKS * 2];
static int senders[MAX_LINKS];
static int links;
static uint8_t marker[64];
static size_t marker_length;
/* Where each SA was seen last, and when it was first seen elsewhere after the cut. */
struct sa {
  uint32_t spi;
  int link, cut;
  double moved;
};
static struct sa sas[MAX_SAS];
static int sa_count, following = -1;
/* Frames are read late, orders at once: what is followed is a stretch of the frames' own time. */
static double follow_from, follow_to, last_on[MAX_LINKS], last_on_cut;
static FILE *recording;
static long keep;
static int quiet;
static unsigned long frames, esp, plain, marked, replayed, replay_failed, lost, to_b[MAX_LINKS];

static void die(const char *what) {
  fprintf(stderr, "watch: %s: %s\n", what, strerror(errno));
  exit(2);
}

static void enter(const char *pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%s/ns/net", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) die(path);
  close(fd);
}

static int new_socket(void) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  return fd;
}

static void bind_to(int fd, const char *name, int protocol) {
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = (int)if_nametoindex(name)};
  if (address.sll_ifindex == 0) die(name);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
}

static void open_tap(struct tap *tap, const char *name) {
  int version = TPACKET_V2, on = 1;
  tap->fd = new_socket();
  if (setsockopt(tap->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) < 0 ||
      setsockopt(tap->fd, SOL_PACKET, 23 /* PACKET_IGNORE_OUTGOING */, &on, sizeof on) < 0)
    die("tap");
  for (tap->slots = tap->at_b ? MOST_SLOTS : LEAST_SLOTS;; tap->slots /= 2) {
    struct tpacket_req request = {BLOCK, tap->slots / (BLOCK / SLOT), SLOT, tap->slots};
    if (setsockopt(tap->fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) == 0) break;
    if (errno != ENOMEM || tap->slots == LEAST_SLOTS) die("ring");
  }
  bind_to(tap->fd, name, ETH_P_ALL);
  tap->ring = mmap(NULL, (size_t)tap->slots * SLOT, PROT_READ | PROT_WRITE, MAP_SHARED, tap->fd, 0);
  if (tap->ring == MAP_FAILED) die("mmap");
}

static int open_sender(const char *name) {
  int fd = new_socket();
  bind_to(fd, name, 0);
  return fd;
}

static int is_esp(const uint8_t *f, size_t n) {
  if (n < 34) return 0;
  if (f[12] == 0x08 && f[13] == 0x00) return f[14] >> 4 == 4 && f[23] == 50;
  if (f[12] == 0x86 && f[13] == 0xdd) return n >= 54 && f[14] >> 4 == 6 && f[20] == 50;
  return 0;
}

static void track(const uint8_t *f, int link, double now) {
  const uint8_t *e = f + 14 + (f[12] == 0x08 ? (f[14] & 15) * 4 : 40);
  uint32_t spi = (uint32_t)e[0] << 24 | (uint32_t)e[1] << 16 | (uint32_t)e[2] << 8 | e[3];
  struct sa *sa = NULL;
  for (int i = 0; i < sa_count && sa == NULL; i++)
    if (sas[i].spi == spi) sa = &sas[i];
  if (sa == NULL) {
    if (sa_count == MAX_SAS) return;
    sa = &sas[sa_count++];
    sa->spi = spi;
  }
  last_on[link] = now;
  if (following >= 0 && now >= follow_from) {
    if (now <= follow_to) {
      if (link == following) last_on_cut = now > last_on_cut ? now : last_on_cut;
      else if (sa->link == following && sa->moved == 0) sa->cut = 1, sa->moved = now;
    }
  } else if (link == following) {
    sa->cut = 1;
    last_on_cut = now;
  }
  sa->link = link;
}

static double real_time(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void follow(int link) {
  if (link < 0) {
    follow_to = real_time();
    return;
  }
  following = link;
  follow_from = real_time();
  follow_to = 1e300;
  last_on_cut = last_on[link];
  for (int i = 0; i < sa_count; i++) sas[i].cut = sas[i].link == link;
}

static int moved_count(void) {
  int count = 0;
  for (int i = 0; i < sa_count; i++) count += sas[i].moved != 0;
  return count;
}

static void record(const struct tap *tap, const uint8_t *f, size_t n, const struct tpacket2_hdr *h) {
  /* 32: what a packet costs in a pcapng file beside its bytes. */
  if (recording == NULL || keep < (long)(n + 32 + 4)) return;
  keep -= (long)(n + 32 + 4);
  uint32_t head[3] = {htole32(h->tp_sec), htole32(h->tp_nsec), htole32((uint32_t)n | (uint32_t)(tap->link * 2 + tap->at_b) << 16)};
  fwrite(head, sizeof head, 1, recording);
  fwrite(f, n, 1, recording);
}

static void look(struct tap *tap, const uint8_t *f, size_t n, const struct tpacket2_hdr *h, long every) {
  frames++;
  int bad = 0;
  if (is_esp(f, n)) {
    esp++;
    track(f, tap->link, h->tp_sec + h->tp_nsec / 1e9);
  } else {
    plain++;
    bad = 1;
  }
  if (marker_length > 0 && memmem(f, n, marker, marker_length) != NULL) {
    marked++;
    bad = 1;
  }
  record(tap, f, n, h);
  if (bad && !quiet && plain + marked <= 10) {
    fprintf(stderr, "watch: link %d: ", tap->link);
    for (size_t i = 0; i < n && i < 40; i++) fprintf(stderr, "%02x", f[i]);
    fprintf(stderr, " (%zu bytes)\n", n);
  }
  if (tap->at_b && !bad) {
    if (every > 0 && ++to_b[tap->link] % (unsigned long)every == 0) {
      if (send(senders[(tap->link + 1) % links], f, n, MSG_DONTWAIT) == (ssize_t)n) replayed++;
      else replay_failed++;
    }
  }
}

static int drain(struct tap *tap, long every) {
  int n = 0;
  for (; n < 256; n++) {
    struct tpacket2_hdr *slot = (struct tpacket2_hdr *)(tap->ring + (size_t)tap->next * SLOT);
    if ((__atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) == 0) break;
    look(tap, (uint8_t *)slot + slot->tp_mac, slot->tp_snaplen, slot, every);
    __atomic_store_n(&slot->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    tap->next = (tap->next + 1) % tap->slots;
  }
  return n;
}

int main(int argc, char **argv) {
  enum { FIRST = 6 };
  if (argc < FIRST + 4 || (argc - FIRST) % 4 != 0 || (argc - FIRST) / 4 > MAX_LINKS) {
    fprintf(stderr, "usage: watch MARKER_HEX REPLAY_EVERY RECORDING KEEP_BYTES QUIET PID_A IF_A PID_B IF_B ...\n");
    return 2;
  }
  for (const char *h = argv[1]; h[0] && h[1] && marker_length < sizeof marker; h += 2) {
    unsigned byte;
    sscanf(h, "%2x", &byte);
    marker[marker_length++] = (uint8_t)byte;
  }
  long every = atol(argv[2]);
  recording = fopen(argv[3], "wb");
  if (recording == NULL) die(argv[3]);
  long more = keep = atol(argv[4]);
  quiet = atoi(argv[5]);
  links = (argc - FIRST) / 4;
  /* What it misses it cannot vouch for: where it may, it goes before what it watches. */
  (void)setpriority(PRIO_PROCESS, 0, -10);
  int count = 0;
  for (int i = 0; i < links; i++)
    for (int at_b = 0; at_b < 2; at_b++) {
      char **end = argv + FIRST + i * 4 + at_b * 2;
      enter(end[0]);
      struct tap *tap = &taps[count++];
      tap->link = i;
      tap->at_b = at_b;
      open_tap(tap, end[1]);
      if (!at_b) senders[i] = open_sender(end[1]);
    }
  printf("ready\n");
  fflush(stdout);
  int ending = 0;
  for (;;) {
    int moved = 0;
    for (int i = 0; i < count; i++) moved += drain(&taps[i], every);
    if (moved == 0 && ending) break;
    struct pollfd fds[MAX_LINKS * 2 + 1];
    for (int i = 0; i < count; i++) fds[i] = (struct pollfd){.fd = taps[i].fd, .events = POLLIN};
    fds[count] = (struct pollfd){.fd = 0, .events = POLLIN};
    poll(fds, (nfds_t)count + 1, moved > 0 ? 0 : 100);
    if (fds[count].revents) {
      char order[16];
      ssize_t n = read(0, order, sizeof order);
      if (n <= 0) ending = 1;
      for (ssize_t i = 0; i < n; i++) {
        if (order[i] == 'p') every = -labs(every);
        else if (order[i] == 'r') every = labs(every);
        else if (order[i] == 'k') keep = more;
        else if (order[i] == 'e') follow(-1);
        else if (order[i] >= '0' && order[i] < '0' + links) follow(order[i] - '0');
        printf("%d\n", moved_count());
      }
      fflush(stdout);
    }
  }
  for (int i = 0; i < count; i++) {
    struct tpacket_stats stats;
    socklen_t length = sizeof stats;
    if (getsockopt(taps[i].fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0) lost += stats.tp_drops;
  }
  fclose(recording);
  int cut = 0;
  for (int i = 0; i < sa_count; i++) cut += sas[i].cut;
  printf("{\"frames\":%lu,\"esp\":%lu,\"plaintext\":%lu,\"marked\":%lu,\"replayed\":%lu,\"replayFailed\":%lu,\"lost\":%lu,\"cut\":%d,\"moved\":[",
         frames, esp, plain, marked, replayed, replay_failed, lost, cut);
  for (int i = 0, first = 1; i < sa_count; i++)
    if (sas[i].moved != 0) printf("%s%.3f", first ? "" : ",", (sas[i].moved - last_on_cut) * 1e3), first = 0;
  printf("]}\n");
  return 0;
}
