/*
 * strongSwan's libipsec as a contender, its openssl plugin as the cipher: what its processor does with a packet between the
 * TUN device and the socket, without the queues between its threads. It knows no ESN; its window is of 128.
 * Debian has no headers of it: the places of methods are those of 5.9 (public interfaces esp_packet_t, packet_t, ip_packet_t,
 * esp_context_t, host_t), as tables of functions, and a known packet shows whether they hold.
 */
#include "esp-contender.h"
#include <arpa/inet.h>
#include <stdbool.h>

typedef struct {
  uint8_t *bytes;
  size_t length;
} chunk;
typedef void *object;

bool library_init(char *settings, const char *name);
object plugin_loader_create(void);
void plugin_loader_add_plugindirs(char *base, char *plugins);
object host_create_from_string(char *text, uint16_t port);
object packet_create_from_data(object source, object destination, chunk data);
object ip_packet_create(chunk packet);
object esp_context_create(int cipher, chunk cipher_key, int mac, chunk mac_key, bool inbound);
object esp_packet_create_from_payload(object source, object destination, object payload);
object esp_packet_create_from_packet(object packet);
void dbg_default_set_level(int level);

/* Method `n` of an object: every one begins with its table. */
#define METHOD(of, n, type) (((__typeof__(type) *)(of))[n])
enum { LOADER_LOAD = 1, HOST_CLONE = 0, PACKET_GET_DATA = 4, IP_ENCODING = 4, IP_DESTROY = 7 };
enum { ESP_PARSE = 15, ESP_DECRYPT, ESP_ENCRYPT, ESP_NEXT_HEADER, ESP_GET_PAYLOAD, ESP_EXTRACT, ESP_DESTROY };
enum { CONTEXT_DESTROY = 5, AES_GCM_16 = 20, CHACHA20_POLY1305 = 28 };
typedef object (*object_fn)(object);
typedef void (*void_fn)(object);
typedef chunk (*chunk_fn)(object);

static object context, source, destination;
static const struct job *task;
static chunk wire[BUFFERS];
static object held[BUFFERS];

static void fresh_sa(void) {
  static uint8_t key[36];
  int length = task->chacha ? 36 : 20;
  material(key, length);
  if (context) METHOD(context, CONTEXT_DESTROY, void_fn)(context);
  context = esp_context_create(task->chacha ? CHACHA20_POLY1305 : AES_GCM_16, (chunk){key, (size_t)length}, 0,
                               (chunk){NULL, 0}, !task->encap);
  if (!context) fail("libipsec has no such cipher");
}

/* As the bytes lie behind read() or recv(): on the heap, the library's from then on. */
static void put_packet(int i, int received, const uint8_t *bytes, unsigned length) {
  (void)received;
  if (held[i]) METHOD(held[i], task->encap ? ESP_DESTROY : IP_DESTROY, void_fn)(held[i]);
  held[i] = NULL;
  wire[i] = (chunk){malloc(length), length};
  memcpy(wire[i].bytes, bytes, length);
}

static const uint8_t *packet(int i, unsigned *length) {
  chunk c = METHOD(held[i], task->encap ? PACKET_GET_DATA : IP_ENCODING, chunk_fn)(held[i]);
  *length = (unsigned)c.length;
  return c.bytes;
}

static object address(object host) { return METHOD(host, HOST_CLONE, object_fn)(host); }

static void run_burst(int from, int encap) {
  for (int i = from; i < from + BURST; i++) {
    if (encap) {
      object inner = ip_packet_create(wire[i]);
      object esp = esp_packet_create_from_payload(address(source), address(destination), inner);
      if (METHOD(esp, ESP_ENCRYPT, int (*)(object, object, uint32_t))(esp, context, htonl(SPI))) fail("not sealed");
      held[i] = esp;
    } else {
      object esp = esp_packet_create_from_packet(packet_create_from_data(address(source), address(destination), wire[i]));
      uint32_t spi;
      if (!METHOD(esp, ESP_PARSE, bool (*)(object, uint32_t *))(esp, &spi) || spi != htonl(SPI)) fail("no such SPI");
      if (METHOD(esp, ESP_DECRYPT, int (*)(object, object))(esp, context)) fail("not opened");
      held[i] = METHOD(esp, ESP_EXTRACT, object_fn)(esp);
      METHOD(esp, ESP_DESTROY, void_fn)(esp);
    }
  }
}

int main(int argc, char **argv) {
  struct job job = read_job(argc, argv);
  task = &job;
  dbg_default_set_level(-1);
  if (!library_init(NULL, "espalier-bench")) fail("library_init");
  object loader = plugin_loader_create();
  if (!METHOD(loader, LOADER_LOAD, bool (*)(object, char *))(loader, "nonce random openssl")) fail("no openssl plugin");
  source = host_create_from_string("192.0.2.1", 4500);
  destination = host_create_from_string("192.0.2.2", 4500);
  return perform(&job);
}
