/* Counts what a process makes durable or sends, and kills it at a given point.
 *
 * Loaded with LD_PRELOAD. It sees the calls of the C library, so it sees all code alike: Python's,
 * and that of libraries in C or Rust. An event is a call that changes a file or moves bytes through
 * a socket; each makes two points, right before it and right after it. tripwire_arm(n) begins to
 * count; at point n the process gets the signal: SIGKILL, as by a power cut, or SIGSTOP, as by a
 * machine that is put to sleep. With n = 0 it gets none, and tripwire_count() tells how many points
 * there were. tripwire_trace(fd) writes a line per event there: what, and the path or "socket".
 *
 * Files under TRIPWIRE_DIR alone count, so that a log or a bytecode cache is no event. That is told
 * by the path behind the descriptor.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long points;
static atomic_long deadline;
static atomic_int armed;
static int number = SIGKILL;
static int trace = -1;

void tripwire_arm(long n, int signal_number) {
  atomic_store(&points, 0);
  atomic_store(&deadline, n);
  number = signal_number;
  atomic_store(&armed, 1);
}

void tripwire_trace(int fd) { trace = fd; }

long tripwire_count(void) { return atomic_load(&points); }

static void point(void) {
  if (atomic_load(&armed) && atomic_fetch_add(&points, 1) + 1 == atomic_load(&deadline))
    kill(getpid(), number);
}

static int is_ours(const char *path) {
  const char *top = getenv("TRIPWIRE_DIR");
  return top && strncmp(path, top, strlen(top)) == 0;
}

static void note(const char *what, const char *path) {
  if (trace >= 0) dprintf(trace, "%s %s\n", what, path);
}

/* Whether the descriptor is a socket to another process or a file that counts. */
static int counts(const char *what, int fd) {
  struct stat about;
  if (!atomic_load(&armed) || fstat(fd, &about)) return 0;
  if (S_ISSOCK(about.st_mode)) {
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &size)) return 0;
    /* Python wakes its own loop through a pair of sockets without a name, which is no event. */
    if (peer.ss_family == AF_UNIX && size <= sizeof(sa_family_t)) return 0;
    note(what, "socket");
    return 1;
  }
  if (!S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode)) return 0;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (!is_ours(path)) return 0;
  note(what, path);
  return 1;
}

static int names(const char *what, const char *path) {
  if (!atomic_load(&armed) || !is_ours(path)) return 0;
  note(what, path);
  return 1;
}

#define REAL(name) \
  static __typeof__(name) *real; \
  if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define WRAP(type, name, parameters, arguments, ours) \
  type name parameters { \
    REAL(name); \
    if (!(ours)) return real arguments; \
    point(); \
    type result = real arguments; \
    point(); \
    return result; \
  }

WRAP(int, fsync, (int fd), (fd), counts("fsync", fd))
WRAP(int, fdatasync, (int fd), (fd), counts("fdatasync", fd))
WRAP(int, ftruncate, (int fd, off_t size), (fd, size), counts("ftruncate", fd))
WRAP(int, ftruncate64, (int fd, off64_t size), (fd, size), counts("ftruncate64", fd))
WRAP(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), counts("write", fd))
WRAP(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), counts("pwrite", fd))
WRAP(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), counts("pwrite64", fd))
WRAP(ssize_t, writev, (int fd, const struct iovec *parts, int n), (fd, parts, n), counts("writev", fd))
WRAP(ssize_t, send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags), counts("send", fd))
WRAP(ssize_t, sendto,
     (int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length),
     (fd, data, size, flags, to, length), counts("sendto", fd))
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags), counts("sendmsg", fd))
WRAP(ssize_t, recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags), counts("recv", fd))
WRAP(ssize_t, recvfrom,
     (int fd, void *data, size_t size, int flags, struct sockaddr *from, socklen_t *length),
     (fd, data, size, flags, from, length), counts("recvfrom", fd))
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags), counts("recvmsg", fd))
WRAP(int, rename, (const char *from, const char *to), (from, to), names("rename", to))
WRAP(int, renameat, (int d, const char *from, int e, const char *to), (d, from, e, to), names("renameat", to))
WRAP(int, link, (const char *from, const char *to), (from, to), names("link", to))
WRAP(int, linkat, (int d, const char *from, int e, const char *to, int flags), (d, from, e, to, flags), names("linkat", to))
WRAP(int, unlink, (const char *path), (path), names("unlink", path))
WRAP(int, unlinkat, (int d, const char *path, int flags), (d, path, flags), names("unlinkat", path))
