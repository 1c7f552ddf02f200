/*
 * What the userspace path does, in C and with nothing around it, for the bench: the same device, the same sockets, the same
 * calls in the same order and in batches of the same size; segmentation, sums and coalescing; one thread for each
 * direction, which asks again for a moment before it sleeps. There is one peer and no table, what a packet claims of itself is
 * mostly believed, nothing is counted, and nothing is answered. So it says what those system calls allow.
 *
 *     tunnel ipip|udp DEVICE INTERFACE LOCAL REMOTE      makes DEVICE, and stays
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef struct virtio_net_hdr vnet;

/* Of the C library's headers only the newest know these. */
enum { TUN_USO4 = 0x20, TUN_USO6 = 0x40, GSO_UDP = 5 };
enum { SOL_UDP_ = 17, UDP_SEGMENT_ = 103, UDP_GRO_ = 104, PACKET_VNET_HDR_ = 15, IP_PMTUDISC_DO_ = 2 };
enum { IPIP = 4, TCP = 6, UDP = 17, PORT = 5555 };
enum { IPV4 = 20, ETHERNET = 14, ROOM = 64, SLOT = ROOM + sizeof(vnet) + 65536 };
/* Packets read from the device in one go, and their bytes; packets received in one go. */
enum { READS = 64, READ_BYTES = 192 << 10, RAW_PACKETS = 64, RAW_SLOT = 9344, DATAGRAMS = 8, DATAGRAM_SLOT = 65536 };
/* Messages and pieces of a batch to send; the most segments of a packet, and of a datagram that the kernel segments its bytes. */
enum { MESSAGES = 320, PIECES = 2 * MESSAGES, SEGMENTS = 64, SEGMENTS_BYTES = 65507 };
enum { FIN_PSH = 0x09, SPIN_NS = 50000, SOCKET_BYTES = 16 << 20 };

static int device, receiver, sender, is_udp;
static struct sockaddr_ll by_interface;
static struct sockaddr_in to_peer;
static u32 local;
static u8 ethernet[ETHERNET];

static u16 get16(const u8 *at) { return (u16)(at[0] << 8 | at[1]); }
static u32 get32(const u8 *at) { return (u32)get16(at) << 16 | get16(at + 2); }
static void put16(u8 *at, u32 value) { at[0] = (u8)(value >> 8), at[1] = (u8)value; }
static void put32(u8 *at, u32 value) { put16(at, value >> 16), put16(at + 2, value); }

/* RFC 1071: in the order of the packet's bytes, four sums side by side, which the compiler makes vectors of. */
static u64 add(const u8 *bytes, size_t count, u64 sum) {
  u64 sums[4] = {sum, 0, 0, 0};
  for (; count >= 16; bytes += 16, count -= 16) {
    u32 words[4];
    memcpy(words, bytes, 16);
    for (int i = 0; i < 4; i++) sums[i] += words[i];
  }
  for (; count >= 2; bytes += 2, count -= 2) {
    u16 word;
    memcpy(&word, bytes, 2);
    sums[0] += word;
  }
  return sums[0] + sums[1] + sums[2] + sums[3] + (count ? *bytes : 0);
}

static u16 fold(u64 sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (u16)sum;
}

static void store(u8 *at, u16 checksum) { memcpy(at, &checksum, 2); }

/* Source, destination, protocol and length, as TCP and UDP have them in their sums. */
static u64 pseudo_header(const u8 *ip, u32 header, u32 bytes) {
  return add(ip + 12, 8, htons(ip[9]) + (u64)htons((u16)(bytes - header)));
}

static void finish_ipv4(u8 *ip, u32 header, u32 bytes) {
  put16(ip + 2, bytes);
  put16(ip + 10, 0);
  store(ip + 10, (u16)~fold(add(ip, header, 0)));
}

static void wait_for(int fd) {
  struct pollfd one = {.fd = fd, .events = POLLIN};
  struct timespec now, began;
  clock_gettime(CLOCK_MONOTONIC, &began);
  do {
    if (poll(&one, 1, 0) > 0) return;
    sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - began.tv_sec) * 1000000000L + now.tv_nsec - began.tv_nsec < SPIN_NS);
  poll(&one, 1, -1);
}

/* Outbound: device -> segment, encapsulate -> batch -> socket. */

static struct mmsghdr messages[MESSAGES];
static struct iovec pieces[PIECES];
static u8 headers[MESSAGES][4 * ROOM];
static struct segments {
  u32 size, last, bytes, count;
  char control[CMSG_SPACE(sizeof(u16))];
} segments[MESSAGES];
static int message_count, piece_count, header_count;

static void flush(void) {
  for (int done = 0; done < message_count;) {
    int sent = sendmmsg(sender, messages + done, (unsigned)(message_count - done), MSG_DONTWAIT);
    if (sent > 0) done += sent;
    else if (errno == EAGAIN || errno == ENOBUFS) poll(&(struct pollfd){.fd = sender, .events = POLLOUT}, 1, 50);
    else done++;
  }
  message_count = piece_count = header_count = 0;
}

static void add_piece(u8 *at, u32 bytes) {
  if (bytes == 0) return;
  pieces[piece_count++] = (struct iovec){at, bytes};
  messages[message_count - 1].msg_hdr.msg_iovlen++;
}

static void new_message(void *name, socklen_t bytes) {
  messages[message_count++].msg_hdr = (struct msghdr){.msg_name = name, .msg_namelen = bytes, .msg_iov = pieces + piece_count};
}

/* A datagram of its own, or one more of the last message, which the kernel segments. */
static void end_datagram(u32 bytes) {
  struct segments *last = message_count > 0 ? &segments[message_count - 1] : 0;
  if (last && last->last == last->size && bytes <= last->size && last->count < SEGMENTS &&
      last->bytes + bytes <= SEGMENTS_BYTES) {
    struct msghdr *message = &messages[message_count - 1].msg_hdr;
    struct cmsghdr *control = (struct cmsghdr *)last->control;
    *control = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(u16)), .cmsg_level = SOL_UDP_, .cmsg_type = UDP_SEGMENT_};
    memcpy(CMSG_DATA(control), &(u16){(u16)last->size}, sizeof(u16));
    message->msg_control = control;
    message->msg_controllen = sizeof last->control;
    last->count++, last->bytes += bytes, last->last = bytes;
    return;
  }
  segments[message_count] = (struct segments){.size = bytes, .last = bytes, .bytes = bytes, .count = 1};
  new_message(&to_peer, sizeof to_peer);
}

/* One packet: its headers, before which there is room, and its payload where that lies elsewhere. */
static void emit(u8 *ip, u32 header_bytes, u8 *payload, u32 payload_bytes) {
  u32 bytes = header_bytes + payload_bytes;
  if (is_udp) {
    end_datagram(bytes);
  } else {
    u8 *outer = ip - IPV4;
    put32(outer, 0x45000000);
    put32(outer + 4, 0x4000);
    put32(outer + 8, 64 << 24 | IPIP << 16);
    memcpy(outer + 12, &local, 4);
    memcpy(outer + 16, &to_peer.sin_addr, 4);
    finish_ipv4(outer, IPV4, IPV4 + bytes);
    memcpy(outer - ETHERNET, ethernet, ETHERNET);
    ip = outer - ETHERNET - sizeof(vnet);
    *(vnet *)ip = (vnet){.hdr_len = (u16)(ETHERNET + IPV4 + bytes)};
    header_bytes += ETHERNET + IPV4 + sizeof(vnet);
    new_message(&by_interface, sizeof by_interface);
  }
  add_piece(ip, header_bytes);
  add_piece(payload, payload_bytes);
}

static void segment(const vnet *head, u8 *ip, u32 bytes) {
  u32 network = (ip[0] & 15) * 4u, header = network + (ip[network + 12] >> 4) * 4u;
  u32 sequence = get32(ip + network + 4), id = get16(ip + 4);
  for (u32 at = header; at < bytes; at += head->gso_size) {
    u32 payload = bytes - at < head->gso_size ? bytes - at : head->gso_size;
    u8 *copy = headers[header_count++] + ROOM;
    memcpy(copy, ip, header);
    put16(copy + 4, id++);
    finish_ipv4(copy, network, header + payload);
    put32(copy + network + 4, sequence + at - header);
    if (at + payload < bytes) copy[network + 13] &= (u8)~FIN_PSH;
    put16(copy + network + 16, 0);
    u64 sum = add(copy + network, header - network, pseudo_header(copy, network, header + payload));
    store(copy + network + 16, (u16)~fold(add(ip + at, payload, sum)));
    emit(copy, header, ip + at, payload);
  }
}

static void *outbound(void *unused) {
  static u8 slots[READS][SLOT];
  for (;;) {
    int count = 0, bytes = 0;
    while (count < READS && bytes < READ_BYTES) {
      u8 *slot = slots[count] + ROOM, *ip = slot + sizeof(vnet);
      ssize_t got = read(device, slot, SLOT - ROOM);
      if (got < 0) break;
      count++, bytes += (int)got;
      u32 length = (u32)(got - (ssize_t)sizeof(vnet));
      vnet head = *(vnet *)slot;
      if (ip[0] >> 4 != 4) continue;
      if (message_count + SEGMENTS > MESSAGES || header_count + SEGMENTS > MESSAGES) flush();
      if (head.gso_type) {
        segment(&head, ip, length);
        continue;
      }
      if (head.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
        store(ip + head.csum_start + head.csum_offset, (u16)~fold(add(ip + head.csum_start, length - head.csum_start, 0)));
      emit(ip, length, 0, 0);
    }
    if (message_count > 0) flush();
    if (count == 0) wait_for(device);
  }
  return unused;
}

/* Inbound: socket -> decapsulate, coalesce -> device. */

struct packet {
  u8 *ip;
  u32 bytes;
};

static int is_whole(struct packet one) {
  u32 network = (one.ip[0] & 15) * 4u;
  return fold(add(one.ip + network, one.bytes - network, pseudo_header(one.ip, network, one.bytes))) == 0xffff;
}

/* Whether `next` goes on where `first`, of which the stream has come to `sequence`, ended. */
static int continues(struct packet first, struct packet next, u32 header, u32 sequence) {
  u8 *a = first.ip, *b = next.ip;
  if (next.bytes <= header || next.bytes > first.bytes || memcmp(a + 8, b + 8, 2) || memcmp(a + 12, b + 12, 12)) return 0;
  if (a[9] == UDP) return 1;
  return get32(b + IPV4 + 4) == sequence && !memcmp(a + IPV4 + 8, b + IPV4 + 8, 5) &&
         !((a[IPV4 + 13] ^ b[IPV4 + 13]) & ~FIN_PSH) && !memcmp(a + IPV4 + 20, b + IPV4 + 20, header - IPV4 - 20);
}

static void write_run(const struct packet *run, int count, u32 header, struct iovec *vectors, int used, u32 bytes) {
  u8 *ip = run->ip;
  vnet head = {0};
  if (count == 1) {
    head.flags = VIRTIO_NET_HDR_F_DATA_VALID;
  } else {
    u16 field = ip[9] == TCP ? 16 : 6;
    head = (vnet){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = ip[9] == TCP ? VIRTIO_NET_HDR_GSO_TCPV4 : GSO_UDP};
    head.hdr_len = (u16)header, head.gso_size = (u16)(run->bytes - header);
    head.csum_start = IPV4, head.csum_offset = field;
    finish_ipv4(ip, IPV4, bytes);
    if (ip[9] == UDP) put16(ip + IPV4 + 4, bytes - IPV4);
    store(ip + IPV4 + field, fold(pseudo_header(ip, IPV4, bytes)));
  }
  vectors[0] = (struct iovec){&head, sizeof head};
  vectors[1] = (struct iovec){ip, run->bytes};
  if (writev(device, vectors, used) < 0) warn("writing to the device");
}

/* As many of the packets as make one; returns how many. */
static int coalesce(const struct packet *packets, int count) {
  struct iovec vectors[SEGMENTS + 2];
  struct packet first = packets[0];
  u32 bytes = first.bytes, header = 0, sequence = 0;
  int run = 1, used = 2;
  if (first.ip[0] == 0x45 && (first.ip[9] == TCP || first.ip[9] == UDP) && is_whole(first)) {
    header = IPV4 + (first.ip[9] == UDP ? 8 : (first.ip[IPV4 + 12] >> 4) * 4u);
    sequence = get32(first.ip + IPV4 + 4) + bytes - header;
    while (bytes > header && run < count && used < SEGMENTS + 2) {
      struct packet next = packets[run];
      u32 payload = next.bytes - header;
      if (bytes + payload > 65535 || !continues(first, next, header, sequence) || !is_whole(next)) break;
      vectors[used++] = (struct iovec){next.ip + header, payload};
      if (first.ip[9] == TCP) first.ip[IPV4 + 13] |= next.ip[IPV4 + 13] & FIN_PSH;
      bytes += payload, sequence += payload, run++;
      if (next.bytes < first.bytes) break;
    }
  }
  write_run(packets, run, header, vectors, used, bytes);
  return run;
}

static u32 segment_size(struct msghdr *message, u32 whole) {
  for (struct cmsghdr *one = CMSG_FIRSTHDR(message); one; one = CMSG_NXTHDR(message, one)) {
    int size;
    if (one->cmsg_level != SOL_UDP_ || one->cmsg_type != UDP_GRO_) continue;
    memcpy(&size, CMSG_DATA(one), sizeof size);
    return (u32)size;
  }
  return whole;
}

static void inbound(void) {
  static u8 memory[RAW_PACKETS * RAW_SLOT > DATAGRAMS * DATAGRAM_SLOT ? RAW_PACKETS * RAW_SLOT : DATAGRAMS * DATAGRAM_SLOT];
  static struct mmsghdr received[RAW_PACKETS];
  static struct iovec vectors[RAW_PACKETS];
  static char control[RAW_PACKETS][64];
  static struct packet packets[DATAGRAM_SLOT];
  int capacity = is_udp ? DATAGRAMS : RAW_PACKETS;
  size_t slot = is_udp ? DATAGRAM_SLOT : RAW_SLOT;
  for (;;) {
    for (int i = 0; i < capacity; i++) {
      vectors[i] = (struct iovec){memory + (size_t)i * slot, slot};
      received[i].msg_hdr = (struct msghdr){.msg_iov = vectors + i, .msg_iovlen = 1};
      if (is_udp) received[i].msg_hdr.msg_control = control[i], received[i].msg_hdr.msg_controllen = sizeof control[i];
    }
    int got = recvmmsg(receiver, received, (unsigned)capacity, MSG_DONTWAIT, 0), count = 0;
    if (got <= 0) wait_for(receiver);
    for (int i = 0; i < got; i++) {
      u8 *at = memory + (size_t)i * slot;
      u32 bytes = received[i].msg_len, size = is_udp ? segment_size(&received[i].msg_hdr, bytes) : bytes;
      u32 outer = is_udp ? 0 : IPV4;
      /* The other side's question for its next hop is empty. */
      for (u32 from = 0; from < bytes && size > outer; from += size)
        packets[count++] = (struct packet){at + from + outer, (bytes - from < size ? bytes - from : size) - outer};
    }
    for (int done = 0; done < count;) done += coalesce(packets + done, count - done);
  }
}

/* Set-up. */

static void option(int fd, int level, int name, int value, const char *what) {
  if (setsockopt(fd, level, name, &value, sizeof value) < 0) err(1, "%s", what);
}

static int open_device(const char *name) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
  unsigned offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0) err(1, "making %s", name);
  if (ioctl(fd, TUNSETOFFLOAD, offloads | TUN_USO4 | TUN_USO6) < 0 && ioctl(fd, TUNSETOFFLOAD, offloads) < 0)
    err(1, "offloads of %s", name);
  return fd;
}

static void open_datagrams(void) {
  struct sockaddr_in self = {.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr = {local}};
  receiver = sender = socket(AF_INET, SOCK_DGRAM, 0);
  if (bind(receiver, (struct sockaddr *)&self, sizeof self) < 0) err(1, "binding port %d", PORT);
  option(receiver, SOL_UDP_, UDP_GRO_, 1, "UDP_GRO");
  option(receiver, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO_, "IP_MTU_DISCOVER");
}

/* The next hop's Ethernet address is asked of the kernel once: on the bench's hosts there is one, the router. */
static void open_frames(const char *interface) {
  struct ifreq own = {0};
  receiver = socket(AF_INET, SOCK_RAW, IPIP);
  sender = socket(AF_PACKET, SOCK_RAW, 0);
  if (receiver < 0 || sender < 0) err(1, "opening sockets");
  option(sender, SOL_PACKET, PACKET_VNET_HDR_, 1, "PACKET_VNET_HDR");
  snprintf(own.ifr_name, sizeof own.ifr_name, "%s", interface);
  if (ioctl(receiver, SIOCGIFHWADDR, &own) < 0) err(1, "the Ethernet address of %s", interface);
  by_interface = (struct sockaddr_ll){.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP)};
  by_interface.sll_ifindex = (int)if_nametoindex(interface);
  memcpy(ethernet + 6, own.ifr_hwaddr.sa_data, 6);
  put16(ethernet + 12, ETH_P_IP);
  for (int tries = 0; tries < 200; tries++, usleep(50000)) {
    char line[256];
    unsigned mac[6] = {0};
    FILE *neighbours = fopen("/proc/net/arp", "r");
    sendto(receiver, "", 0, 0, (struct sockaddr *)&to_peer, sizeof to_peer);
    while (neighbours && fgets(line, sizeof line, neighbours))
      if (sscanf(line, "%*s %*s 0x2 %x:%x:%x:%x:%x:%x", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) == 6) break;
    if (neighbours) fclose(neighbours);
    for (int i = 0; i < 6; i++) ethernet[i] = (u8)mac[i];
    if (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) return;
  }
  errx(1, "no Ethernet address of the next hop within 10 s");
}

int main(int count, char **words) {
  pthread_t thread;
  if (count != 6) errx(2, "expected: ipip|udp DEVICE INTERFACE LOCAL REMOTE");
  is_udp = strcmp(words[1], "udp") == 0;
  to_peer = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(is_udp ? PORT : 0)};
  if (!inet_aton(words[4], (struct in_addr *)&local) || !inet_aton(words[5], &to_peer.sin_addr))
    errx(2, "expected two IPv4 addresses, got %s and %s", words[4], words[5]);
  device = open_device(words[2]);
  if (is_udp) open_datagrams();
  else open_frames(words[3]);
  option(receiver, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BYTES, "SO_RCVBUFFORCE");
  option(sender, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BYTES, "SO_SNDBUFFORCE");
  errno = pthread_create(&thread, NULL, outbound, NULL);
  if (errno) err(1, "starting a thread");
  inbound();
}
