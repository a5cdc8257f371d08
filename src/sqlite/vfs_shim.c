/* What our copy of SQLite calls in place of some system calls.
 *
 * Locks belong to an open file, not to the process. A POSIX record lock belongs to the whole process and is dropped
 * when any descriptor of the file is closed, so two copies of SQLite in one process drop each other's locks.
 * Open-file-description locks don't. The lock commands of fcntl are turned into their open-file-description forms, all
 * else is passed on.
 *
 * Whoever begins to read announces in a mark of the log how far: SQLite locks the mark for writing, releases it, and locks
 * it for reading (walTryBeginRead). The release waits here for the next call: mostly that is the lock for reading, and one
 * call turns the one lock into the other; before any other call it is made up for. That next call follows within the
 * same function of SQLite; until then the mark is locked as it was, which keeps others from that mark and from nothing
 * else. SQLite's own mutex of the shared memory serialises these calls.
 *
 * A frame of the log is written by one system call instead of two. SQLite writes its header of 24 bytes and then, as
 * the next thing, its page (walWriteOneFrame); the header waits here for the page. The only other headers that it writes
 * are those of frames that it has just read (walRewriteChecksums); no page follows them, and they don't wait. */

#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64 /* struct flock and off_t as the SQLite amalgamation lays them out */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef F_OFD_SETLK

/* Set once by a kernel that doesn't know the commands; from then on locks are the POSIX ones. */
static volatile int unsupported;

static int set_lock(int descriptor, int command, int ofd_command, struct flock *range) {
  if (!unsupported) {
    range->l_pid = 0; /* required, else EINVAL */
    int result = fcntl(descriptor, ofd_command, range);
    if (result != -1 || errno != EINVAL) {
      return result;
    }
    unsupported = 1;
  }
  return fcntl(descriptor, command, range);
}

#ifdef __linux__

enum {
  LOCKED_DESCRIPTORS = 65536,
  FIRST_MARK = 124, /* WAL_READ_LOCK(1) to (4), at the bytes of the -shm file from UNIX_SHM_BASE on */
  LAST_MARK = 127,
  WAITS = 128
};

/* For each descriptor the mark that its last call has locked for writing, with WAITS if it has been released since and
 * the release waits. */
static unsigned char marks[LOCKED_DESCRIPTORS];

static int lock(int descriptor, int command, int ofd_command, struct flock *range) {
  if (unsupported || ofd_command != F_OFD_SETLK || descriptor < 0 || descriptor >= LOCKED_DESCRIPTORS) {
    return set_lock(descriptor, command, ofd_command, range);
  }
  int is_mark = range->l_len == 1 && range->l_start >= FIRST_MARK && range->l_start <= LAST_MARK;
  int mark = is_mark ? (int)range->l_start : 0;
  int last = marks[descriptor];
  if (mark && last == mark && range->l_type == F_UNLCK) {
    marks[descriptor] = mark | WAITS;
    return 0;
  }
  marks[descriptor] = 0;
  int becomes_shared = mark && last == (mark | WAITS) && range->l_type == F_RDLCK;
  struct flock release = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = last & ~WAITS, .l_len = 1};
  if ((last & WAITS) && !becomes_shared) {
    set_lock(descriptor, F_SETLK, F_OFD_SETLK, &release);
  }
  int result = set_lock(descriptor, command, ofd_command, range);
  if (result == -1 && becomes_shared) {
    int reason = errno;
    set_lock(descriptor, F_SETLK, F_OFD_SETLK, &release);
    errno = reason;
  }
  if (result != -1 && mark && range->l_type == F_WRLCK) {
    marks[descriptor] = mark;
  }
  return result;
}

#else
#define lock set_lock
#endif
#endif

int driftlock_fcntl(int descriptor, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  /* As libc itself does: the kernel takes from the word what the command needs. */
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  switch (command) {
#ifdef F_OFD_SETLK
  case F_SETLK:
    return lock(descriptor, F_SETLK, F_OFD_SETLK, argument);
  case F_SETLKW:
    return lock(descriptor, F_SETLKW, F_OFD_SETLKW, argument);
  case F_GETLK:
    return lock(descriptor, F_GETLK, F_OFD_GETLK, argument);
#endif
  default:
    return fcntl(descriptor, command, argument);
  }
}

#ifdef __linux__

enum { HEADER = 24, DESCRIPTORS = 65536, BITS = 8 * sizeof(unsigned long) };

/* Which descriptors are logs. One beyond the table is written as SQLite writes it. */
static unsigned long logs[DESCRIPTORS / BITS];

/* The header that waits for its page, of the one frame that this thread is just writing. */
static _Thread_local struct {
  int descriptor; /* -1: none */
  off_t offset;
  char bytes[HEADER];
} header = {-1, 0, {0}};

/* What this thread has read last of a log. */
static _Thread_local struct {
  int descriptor;
  off_t offset;
} last_read = {-1, 0};

static void mark(int descriptor, int is_log) {
  if (descriptor < 0 || descriptor >= DESCRIPTORS) {
    return;
  }
  unsigned long bit = 1UL << (descriptor % BITS);
  if (is_log) {
    __atomic_fetch_or(&logs[descriptor / BITS], bit, __ATOMIC_RELAXED);
  } else {
    __atomic_fetch_and(&logs[descriptor / BITS], ~bit, __ATOMIC_RELAXED);
  }
}

static int is_log(int descriptor) {
  return descriptor >= 0 && descriptor < DESCRIPTORS &&
         (__atomic_load_n(&logs[descriptor / BITS], __ATOMIC_RELAXED) >> (descriptor % BITS) & 1);
}

int driftlock_open(const char *path, int flags, int mode) {
  int descriptor = open(path, flags, mode);
  size_t length = strlen(path);
  mark(descriptor, length > 4 && strcmp(path + length - 4, "-wal") == 0);
  return descriptor;
}

int driftlock_close(int descriptor) {
  mark(descriptor, 0);
#ifdef F_OFD_SETLK
  if (descriptor >= 0 && descriptor < LOCKED_DESCRIPTORS) {
    marks[descriptor] = 0;
  }
#endif
  return close(descriptor);
}

ssize_t driftlock_pread(int descriptor, void *data, size_t length, off_t offset) {
  if (is_log(descriptor)) {
    last_read.descriptor = descriptor;
    last_read.offset = offset;
  }
  return pread(descriptor, data, length, offset);
}

ssize_t driftlock_pwrite(int descriptor, const void *data, size_t length, off_t offset) {
  if (!is_log(descriptor)) {
    return pwrite(descriptor, data, length, offset);
  }
  if (length == HEADER && !(descriptor == last_read.descriptor && offset == last_read.offset)) {
    header.descriptor = descriptor;
    header.offset = offset;
    memcpy(header.bytes, data, HEADER);
    last_read.descriptor = -1;
    return HEADER;
  }
  if (descriptor != header.descriptor || offset != header.offset + HEADER) {
    return pwrite(descriptor, data, length, offset);
  }
  struct iovec frame[2] = {{header.bytes, HEADER}, {(void *)data, length}};
  ssize_t written = pwritev(descriptor, frame, 2, header.offset);
  if (written < 0 && errno == EINTR) {
    return written; /* SQLite tries the page again, which the header still waits for. */
  }
  header.descriptor = -1;
  if (written < 0) {
    return written;
  }
  /* Of the page nothing: as on a full disk. */
  return written < HEADER ? 0 : written - HEADER;
}

#endif
