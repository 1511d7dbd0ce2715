/*
 * A load without a runtime: one WebSocket, messages that were made beforehand, so many of them unanswered at a time.
 *
 *   load PORT FILE OUTSTANDING MESSAGES FRAMES
 *
 * FILE holds pieces, each behind its length (32 bits, little-endian): the HTTP request of the handshake, hello, and
 * the messages, all as they travel; these are sent in turn, over and over. Each has so many FRAMES, which are answered
 * by as many, in whatever messages: a server that is behind answers several in one.
 * Prints the seconds from the first message to the last answer, and the bytes of all answers.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIECES_MAX 4096

static uint8_t *pieces[PIECES_MAX];
static uint32_t lengths[PIECES_MAX];
static int count;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void readPieces(const char *path) {
  FILE *file = fopen(path, "rb");
  uint8_t head[4];
  if (!file) fail(path);
  while (count < PIECES_MAX && fread(head, 4, 1, file) == 1) {
    uint32_t length = head[0] | head[1] << 8 | head[2] << 16 | (uint32_t)head[3] << 24;
    pieces[count] = malloc(length);
    if (!pieces[count] || fread(pieces[count], 1, length, file) != length) fail("read");
    lengths[count++] = length;
  }
  fclose(file);
}

static int openSocket(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

static uint8_t input[1 << 20];
static size_t held;
static uint64_t answeredBytes;

/* Where the CBOR item at `at` ends. */
static const uint8_t *endOf(const uint8_t *at) {
  int major = *at >> 5, info = *at & 31, bytes = info < 24 ? 0 : 1 << (info - 24);
  uint64_t value = info;
  if (bytes) value = 0;
  for (at++; bytes > 0; bytes--) value = value << 8 | *at++;
  if (major == 2 || major == 3) return at + value;
  if (major == 4 || major == 5) {
    for (value *= major - 3; value > 0; value--) at = endOf(at);
  }
  return at;
}

/* Takes whole messages and returns the number of their frames. */
static long answers(void) {
  size_t at = 0;
  long found = 0;
  for (;;) {
    size_t left = held - at;
    uint64_t length, head = 2;
    if (left < 2) break;
    length = input[at + 1] & 127;
    if (length == 126) {
      if (left < 4) break;
      length = input[at + 2] << 8 | input[at + 3];
      head = 4;
    } else if (length == 127) {
      if (left < 10) break;
      length = 0;
      for (int index = 2; index < 10; index++) length = length << 8 | input[at + index];
      head = 10;
    }
    if ((input[at] & 15) == 8) {
      fprintf(stderr, "closed by the server\n");
      exit(1);
    }
    if (left < head + length) break;
    const uint8_t *frame = input + at + head, *end = frame + length;
    /* A ping of the transport has no frames. */
    for (; (input[at] & 15) == 2 && frame < end; found++) frame = endOf(frame);
    answeredBytes += length;
    at += head + length;
  }
  memmove(input, input + at, held - at);
  held -= at;
  if (held == sizeof input) {
    fprintf(stderr, "a message is too long\n");
    exit(1);
  }
  return found;
}

static long receive(int fd) {
  ssize_t got = read(fd, input + held, sizeof input - held);
  if (got == 0) {
    fprintf(stderr, "cut off by the server\n");
    exit(1);
  }
  if (got < 0) {
    if (errno == EAGAIN) return 0;
    fail("read");
  }
  held += got;
  return answers();
}

static void sendAll(int fd, const uint8_t *bytes, size_t length) {
  while (length > 0) {
    ssize_t put = write(fd, bytes, length);
    if (put < 0) fail("write");
    bytes += put;
    length -= put;
  }
}

static void greet(int fd) {
  sendAll(fd, pieces[0], lengths[0]);
  for (;;) {
    ssize_t got = read(fd, input + held, 1);
    if (got <= 0) fail("handshake");
    held++;
    if (held >= 4 && !memcmp(input + held - 4, "\r\n\r\n", 4)) break;
  }
  if (memcmp(input, "HTTP/1.1 101", 12)) {
    fprintf(stderr, "refused: %.*s\n", (int)held, input);
    exit(1);
  }
  held = 0;
  sendAll(fd, pieces[1], lengths[1]);
  while (!receive(fd)) continue;
  answeredBytes = 0;
}

int main(int argc, char **argv) {
  struct timespec before, after;
  long outstanding, messages, frames, sent = 0, answered = 0;
  static uint8_t output[1 << 20];
  if (argc != 6) return 2;
  readPieces(argv[2]);
  outstanding = atol(argv[3]);
  messages = atol(argv[4]);
  frames = atol(argv[5]);
  int fd = openSocket(atoi(argv[1]));
  greet(fd);
  clock_gettime(CLOCK_MONOTONIC, &before);
  while (answered < messages * frames) {
    size_t length = 0;
    while (sent < messages && sent - answered / frames < outstanding) {
      int piece = 2 + sent % (count - 2);
      if (length + lengths[piece] > sizeof output) break;
      memcpy(output + length, pieces[piece], lengths[piece]);
      length += lengths[piece];
      sent++;
    }
    sendAll(fd, output, length);
    answered += receive(fd);
  }
  clock_gettime(CLOCK_MONOTONIC, &after);
  printf("%f %llu\n", after.tv_sec - before.tv_sec + (after.tv_nsec - before.tv_nsec) / 1e9,
         (unsigned long long)answeredBytes);
  return 0;
}
