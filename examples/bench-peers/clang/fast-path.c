/*
 * The fast path's two programs in C, for the bench: the same maps, the same questions in the same order, the same calls
 * of the kernel. src/ebpf/outbound-program.ts and inbound-program.ts are the originals; src/ebpf/layout.ts has the maps.
 */
#include <linux/bpf.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

/* Their addresses become the maps' descriptors, by name. */
extern char routes, peers, peer_counters, sources, locals, settings, totals;

static void *(*map_lookup)(void *, const void *) = (void *)1;
static u32 (*random_u32)(void) = (void *)7;
static long (*store_bytes)(struct __sk_buff *, u32, const void *, u32, u64) = (void *)9;
static long (*l3_csum_replace)(struct __sk_buff *, u32, u64, u64, u64) = (void *)10;
static long (*set_tunnel_key)(struct __sk_buff *, const void *, u32, u64) = (void *)21;
static long (*redirect)(u32, u64) = (void *)23;
static long (*load_bytes)(const void *, u32, void *, u32) = (void *)26;
static long (*pull_data)(struct __sk_buff *, u32) = (void *)39;
static long (*change_head)(struct __sk_buff *, u32, u64) = (void *)43;
static long (*adjust_room)(struct __sk_buff *, int, u32, u64) = (void *)50;
static long (*redirect_neigh)(u32, void *, int, u64) = (void *)152;
static u64 (*coarse_clock)(void) = (void *)160;

enum { GO_ON = -1, ETHERNET = 14, SLOW = 1, ANY_PEER = 0 };
enum { PACKETS, IN_BYTES, OUT_BYTES, SUPERPACKETS, FIRST_REASON };
enum { OFF, FROZEN, ODD, OPTIONS, FRAGMENT, NESTED };
enum { OUT_ROUTE = 6, OUT_PEER, OUT_TOO_BIG, OUT_UNDERLAY, OUT_REFUSED };
enum { IN_DESTINATION = 6, IN_PEER, IN_SOURCE, IN_ECN, IN_REFUSED };

struct ip {
  u8 version, tos;
  u16 length, id, fragment;
  u8 ttl, protocol;
  u16 checksum;
  u32 source, destination;
};
struct setting {
  u32 device, unused;
  u64 outbound, inbound;
};
/* family and hop are struct bpf_redir_neigh; 0: the kernel looks for the route. */
struct peer {
  u32 mtu, device, source, family, hop[4];
};
struct segments {
  u64 bytes, count, wire_bytes, is_super;
};

/* Where `bytes` of the packet can be read, or 0. */
INLINE const void *readable(struct __sk_buff *skb, u32 bytes) {
  const void *data = (const void *)(long)skb->data;
  return data + bytes > (const void *)(long)skb->data_end ? 0 : data;
}

INLINE int slow(u64 *total, int reason) {
  total[FIRST_REASON + reason]++;
  return GO_ON;
}

INLINE u32 sum_header(const struct ip *header) {
  const u32 *words = (const u32 *)header;
  u64 sum = (u64)words[0] + words[1] + words[2] + words[3] + words[4];
  sum = (sum >> 32) + (u32)sum;
  sum = (sum >> 16) + (sum & 0xffff);
  return (sum >> 16) + (sum & 0xffff);
}

/* 0, or why the header is the slow path's. */
INLINE int check_header(const struct ip *header, u32 length) {
  if (header->version >> 4 != 4) return ODD;
  if (header->version != 0x45) return OPTIONS;
  if (__builtin_bswap16(header->length) != length) return ODD;
  if (sum_header(header) != 0xffff) return ODD;
  return header->fragment & 0xff3f ? FRAGMENT : 0;
}

INLINE int measure(struct __sk_buff *skb, const struct ip *inner, u32 length, u32 at, struct segments *s) {
  s->bytes = s->wire_bytes = length;
  s->count = 1;
  s->is_super = 0;
  u32 size = skb->gso_size;
  if (!size) return 0;
  s->is_super = 1;
  u64 headers = 28;
  if (inner->protocol == 6) {
    const u8 *packet = readable(skb, at + 33);
    if (!packet) return ODD;
    u8 offset = packet[at + 32] >> 4;
    if (offset < 5) return ODD;
    headers = 20 + offset * 4;
  } else if (inner->protocol != 17)
    return ODD;
  if (length <= headers) return ODD;
  s->bytes = headers + size;
  s->count = (length - headers + size - 1) / size;
  s->wire_bytes = length + (s->count - 1) * headers;
  return 0;
}

SECTION("outbound") int encapsulate(struct __sk_buff *skb) {
  u32 key = 0;
  u64 *total = map_lookup(&totals, &key);
  if (!total) return GO_ON;
  struct setting *setting = map_lookup(&settings, &key);
  if (!setting) return GO_ON;
  u64 until = setting->outbound;
  if (coarse_clock() > until) return slow(total, until ? FROZEN : OFF);

  if (skb->protocol != 8) return slow(total, ODD);
  const struct ip *inner = readable(skb, 20);
  if (!inner) {
    pull_data(skb, 20);
    inner = readable(skb, 20);
    if (!inner) return slow(total, ODD);
  }
  u32 length = skb->len;
  int wrong = check_header(inner, length);
  if (wrong) return slow(total, wrong);
  if (!inner->ttl) return slow(total, ODD);
  if (inner->protocol == 4) return slow(total, NESTED);

  u32 prefix[2] = {32, inner->destination};
  u32 *route = map_lookup(&routes, prefix);
  if (!route || *route == SLOW) return slow(total, OUT_ROUTE);
  struct ip outer;
  outer.destination = *route;
  struct peer *peer = map_lookup(&peers, &outer.destination);
  if (!peer || !peer->mtu) return slow(total, OUT_PEER);
  u32 mtu = peer->mtu, device = peer->device;
  if (!device || device == setting->device) return slow(total, OUT_UNDERLAY);
  u64 *counters = map_lookup(&peer_counters, &outer.destination);
  if (!counters) return slow(total, OUT_PEER);

  struct segments s;
  if (measure(skb, inner, length, 0, &s)) return slow(total, ODD);
  if (s.bytes + 20 > mtu || length + 20 > 0xffff) return slow(total, OUT_TOO_BIG);

  outer.version = 0x45;
  outer.tos = inner->tos;
  outer.length = __builtin_bswap16(length + 20);
  outer.fragment = inner->fragment & 0x40;
  outer.id = outer.fragment ? 0 : random_u32();
  outer.source = peer->source;
  outer.ttl = 64;
  outer.protocol = 4;
  outer.checksum = 0;
  outer.checksum = 0xffff - sum_header(&outer);

  if (adjust_room(skb, 20, 1, 3)) return slow(total, OUT_REFUSED);
  if (store_bytes(skb, 0, &outer, 20, 0) || change_head(skb, ETHERNET, 0)) {
    adjust_room(skb, -20, 1, 1);
    return slow(total, OUT_REFUSED);
  }
  total[PACKETS] += s.count;
  total[IN_BYTES] += length;
  total[OUT_BYTES] += s.wire_bytes;
  total[SUPERPACKETS] += s.is_super;
  counters[0] += s.count;
  counters[1] += s.wire_bytes;
  if (!peer->family) return redirect_neigh(device, 0, 0, 0);
  /* In the place of the route into the tunnel device: see src/ebpf/outbound-program.ts. */
  set_tunnel_key(skb, &peer->hop[1], 8, 0);
  return redirect_neigh(device, &peer->family, 20, 0);
}

SECTION("inbound") int decapsulate(struct __sk_buff *skb) {
  if (skb->protocol != 8) return GO_ON;
  const u8 *packet = readable(skb, ETHERNET + 20);
  if (!packet) {
    u8 protocol;
    if (load_bytes(skb, ETHERNET + 9, &protocol, 1) || protocol != 4) return GO_ON;
    pull_data(skb, ETHERNET + 40);
  } else if (packet[ETHERNET + 9] != 4)
    return GO_ON;
  if (skb->pkt_type || skb->vlan_present) return GO_ON;
  u32 key = 1;
  u64 *total = map_lookup(&totals, &key);
  if (!total) return GO_ON;
  key = 0;
  struct setting *setting = map_lookup(&settings, &key);
  if (!setting) return GO_ON;
  u64 until = setting->inbound;
  if (coarse_clock() > until) return slow(total, until ? FROZEN : OFF);

  packet = readable(skb, ETHERNET + 20);
  if (!packet) return slow(total, ODD);
  const struct ip *outer = (const void *)packet + ETHERNET;
  int wrong = check_header(outer, skb->len - ETHERNET);
  if (wrong) return slow(total, wrong);
  if (!map_lookup(&locals, &outer->destination)) return slow(total, IN_DESTINATION);
  u64 *counters = map_lookup(&peer_counters, &outer->source);
  if (!counters) return slow(total, IN_PEER);

  packet = readable(skb, ETHERNET + 40);
  if (!packet) return slow(total, ODD);
  outer = (const void *)packet + ETHERNET;
  const struct ip *inner = outer + 1;
  u32 length = skb->len - ETHERNET - 20;
  wrong = check_header(inner, length);
  if (wrong) return slow(total, wrong);
  if (inner->protocol == 4) return slow(total, NESTED);
  u32 prefix[2] = {32, inner->source};
  u32 *owner = map_lookup(&sources, prefix);
  if (!owner || *owner == SLOW || (*owner != ANY_PEER && *owner != outer->source)) return slow(total, IN_SOURCE);

  /* RFC 6040 */
  u16 before = *(const u16 *)inner;
  u8 tos = inner->tos, inside = tos & 3, outside = outer->tos & 3;
  if (outside == 3) {
    if (!inside) return slow(total, IN_ECN);
    tos |= 3;
  } else if (outside == 1 && inside == 2)
    tos -= 1;

  struct segments s;
  if (measure(skb, inner, length, ETHERNET + 20, &s)) return slow(total, ODD);
  if (adjust_room(skb, -20, 1, 1)) return slow(total, IN_REFUSED);
  u16 after = (u16)(0x45 | tos << 8);
  if (after != before) {
    l3_csum_replace(skb, ETHERNET + 10, before, after, 2);
    store_bytes(skb, ETHERNET + 1, &tos, 1, 0);
  }
  total[PACKETS] += s.count;
  total[IN_BYTES] += length + 20;
  total[OUT_BYTES] += length;
  total[SUPERPACKETS] += s.is_super;
  counters[2] += s.count;
  counters[3] += length;
  return redirect(setting->device, 1);
}
