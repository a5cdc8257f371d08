// Preloaded into a process, makes its file operations fail on purpose, or writes them down.
//
// Only files below $FAULT_FOLDER matter. Operations are told apart by class. $FAULT_CONTROL names a file of 32-bit
// words that the process writes while it runs:
//
//   word 0   the class that fails (1 << class), 0 for none
//   word 1   how many more of its calls succeed before that
//   word 2   how many calls fail then
//   word 3   the errno; a negative one: only half of the bytes are written, and the call after that fails with it
//   word 4   how many calls have failed
//   word 5+  how often each class was called
//
// $FAULT_RECORD, if set, names a file that gets a record of each operation that succeeded: see record().
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, WRITE, TRUNCATE, RENAME, SYNC, MKDIR, UNLINK, ALLOCATE, READ, STAT, CLASSES };
enum { DO_CREATE = 1, DO_WRITE, DO_TRUNCATE, DO_RENAME, DO_SYNC, DO_MKDIR, DO_UNLINK, DO_SYNC_FOLDER };

static const char *folder;
static size_t folder_length;
static volatile int32_t *control;
static int recording = -1;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

// One recorded operation at a time, among the threads of all processes that share the record.
static void begin_turn(void) {
  pthread_mutex_lock(&turn);
  syscall(SYS_flock, recording, LOCK_EX);
}
static void end_turn(void) {
  syscall(SYS_flock, recording, LOCK_UN);
  pthread_mutex_unlock(&turn);
}

__attribute__((constructor)) static void start(void) {
  folder = getenv("FAULT_FOLDER");
  if (!folder) return;
  folder_length = strlen(folder);
  const char *path = getenv("FAULT_CONTROL");
  int fd = path ? (int)syscall(SYS_open, path, O_RDWR | O_CLOEXEC, 0) : -1;
  if (fd >= 0) {
    void *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (words != MAP_FAILED) control = words;
    syscall(SYS_close, fd);
  }
  path = getenv("FAULT_RECORD");
  if (path) recording = (int)syscall(SYS_open, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int below(const char *path) {
  return folder && path && strncmp(path, folder, folder_length) == 0 &&
         (path[folder_length] == '/' || path[folder_length] == 0);
}

static int path_of(int fd, char *path) {
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = syscall(SYS_readlink, link, path, 4095);
  if (length < 0) return 0;
  path[length] = 0;
  return below(path);
}

// The errno with which this call is to fail, 0 if it is not, -1 if it is to write only half.
static int fault(int class) {
  if (!control) return 0;
  __atomic_fetch_add(&control[5 + class], 1, __ATOMIC_SEQ_CST);
  if (!(control[0] & (1 << class))) return 0;
  if (__atomic_fetch_sub(&control[1], 1, __ATOMIC_SEQ_CST) > 0) return 0;
  if (__atomic_fetch_sub(&control[2], 1, __ATOMIC_SEQ_CST) <= 0) return 0;
  __atomic_fetch_add(&control[4], 1, __ATOMIC_SEQ_CST);
  int error = control[3];
  if (error >= 0) return error;
  control[3] = -error;
  return class == WRITE ? -1 : -error;
}

#define FAIL_IF_DUE(class, is_ours)            \
  do {                                         \
    int error_ = (is_ours) ? fault(class) : 0; \
    if (error_ > 0) {                          \
      errno = error_;                          \
      return -1;                               \
    }                                          \
  } while (0)

// A record: six 64-bit words (what, inode, offset, bytes of path, of second path, of data), then these.
static void record(uint64_t what, uint64_t inode, uint64_t offset, const char *path, const char *other,
                   const void *data, uint64_t length) {
  uint64_t head[6] = {what, inode, offset, path ? strlen(path) : 0, other ? strlen(other) : 0, length};
  struct iovec parts[4] = {{head, sizeof head},
                           {(void *)path, head[3]},
                           {(void *)other, head[4]},
                           {(void *)data, length}};
  syscall(SYS_writev, recording, parts, 4);
}

static uint64_t inode_of(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

static int open_at(int at, const char *path, int flags, mode_t mode) {
  int ours = below(path);
  FAIL_IF_DUE(OPEN, ours);
  if (!ours || recording < 0) return (int)syscall(SYS_openat, at, path, flags, mode);
  begin_turn();
  int is_new = (flags & O_CREAT) && syscall(SYS_access, path, F_OK) != 0;
  int fd = (int)syscall(SYS_openat, at, path, flags, mode);
  int error = errno;
  if (fd >= 0 && is_new) record(DO_CREATE, inode_of(fd), 0, path, NULL, NULL, 0);
  if (fd >= 0 && !is_new && (flags & O_TRUNC)) record(DO_TRUNCATE, inode_of(fd), 0, path, NULL, NULL, 0);
  end_turn();
  errno = error;
  return fd;
}

#define MODE(flags)                                 \
  mode_t mode = 0;                                  \
  if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) { \
    va_list rest;                                   \
    va_start(rest, flags);                          \
    mode = va_arg(rest, mode_t);                    \
    va_end(rest);                                   \
  }

int open(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return open_at(at, path, flags, mode); }

static ssize_t write_at(int fd, const void *data, size_t length, off_t offset) {
  char path[4096];
  int error = errno, ours = folder && fd != recording && path_of(fd, path);
  errno = error;
  int due = ours ? fault(WRITE) : 0;
  if (due > 0) {
    errno = due;
    return -1;
  }
  if (due < 0 && length > 1) {
    length /= 2;
    control[2] = control[2] + 1;
  }
  int recorded = ours && recording >= 0;
  off_t start = offset;
  if (recorded) {
    begin_turn();
    struct stat status;
    if (start < 0 || (fcntl(fd, F_GETFL) & O_APPEND)) start = fstat(fd, &status) == 0 ? status.st_size : 0;
    if (offset < 0 && !(fcntl(fd, F_GETFL) & O_APPEND)) start = syscall(SYS_lseek, fd, 0, SEEK_CUR);
  }
  ssize_t written = offset < 0 ? syscall(SYS_write, fd, data, length) : syscall(SYS_pwrite64, fd, data, length, offset);
  error = errno;
  if (recorded) {
    if (written > 0) record(DO_WRITE, inode_of(fd), (uint64_t)start, path, NULL, data, (uint64_t)written);
    end_turn();
  }
  errno = error;
  return written;
}

ssize_t write(int fd, const void *data, size_t length) { return write_at(fd, data, length, -1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return write_at(fd, data, length, at); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) { return write_at(fd, data, length, at); }

// As one write of all parts.
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
  size_t length = 0;
  for (int i = 0; i < count; i++) length += parts[i].iov_len;
  char *data = malloc(length ? length : 1);
  if (!data) return -1;
  size_t filled = 0;
  for (int i = 0; i < count; filled += parts[i].iov_len, i++) memcpy(data + filled, parts[i].iov_base, parts[i].iov_len);
  ssize_t written = write_at(fd, data, length, at);
  int error = errno;
  free(data);
  errno = error;
  return written;
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) { return pwritev(fd, parts, count, at); }

// What copies in the kernel is made to copy by reads and writes instead, which are seen.
ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t length, unsigned flags) {
  (void)in, (void)in_at, (void)out, (void)out_at, (void)length, (void)flags;
  errno = ENOSYS;
  return -1;
}
ssize_t sendfile64(int out, int in, off_t *at, size_t length) {
  (void)out, (void)in, (void)at, (void)length;
  errno = EINVAL;
  return -1;
}
ssize_t sendfile(int out, int in, off_t *at, size_t length) { return sendfile64(out, in, at, length); }

static ssize_t read_at(int fd, void *data, size_t length, off_t offset) {
  char path[4096];
  int error = errno;
  int ours = control && (control[0] & (1 << READ)) && path_of(fd, path);
  errno = error;
  FAIL_IF_DUE(READ, ours);
  return offset < 0 ? syscall(SYS_read, fd, data, length) : syscall(SYS_pread64, fd, data, length, offset);
}

ssize_t read(int fd, void *data, size_t length) { return read_at(fd, data, length, -1); }
ssize_t pread(int fd, void *data, size_t length, off_t at) { return read_at(fd, data, length, at); }
ssize_t pread64(int fd, void *data, size_t length, off_t at) { return read_at(fd, data, length, at); }

int ftruncate64(int fd, off_t length) {
  char path[4096];
  int ours = folder && path_of(fd, path);
  FAIL_IF_DUE(TRUNCATE, ours);
  int recorded = ours && recording >= 0;
  if (recorded) begin_turn();
  int result = (int)syscall(SYS_ftruncate, fd, length);
  int error = errno;
  if (recorded) {
    if (result == 0) record(DO_TRUNCATE, inode_of(fd), (uint64_t)length, path, NULL, NULL, 0);
    end_turn();
  }
  errno = error;
  return result;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int sync_it(int fd, long call) {
  char path[4096];
  int ours = folder && path_of(fd, path);
  FAIL_IF_DUE(SYNC, ours);
  int recorded = ours && recording >= 0;
  if (!recorded) return (int)syscall(call, fd);
  // The replayed disk is all that has to be in sync.
  begin_turn();
  struct stat status;
  int is_folder = fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
  record(is_folder ? DO_SYNC_FOLDER : DO_SYNC, status.st_ino, 0, path, NULL, NULL, 0);
  end_turn();
  return 0;
}
int fsync(int fd) { return sync_it(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_it(fd, SYS_fdatasync); }

#define ON_PATH(class, what, path, other, call)                 \
  do {                                                          \
    int ours_ = below(path);                                    \
    FAIL_IF_DUE(class, ours_);                                  \
    int recorded_ = ours_ && recording >= 0;                    \
    if (recorded_) begin_turn();                   \
    int result_ = (int)(call);                                  \
    int error_ = errno;                                         \
    if (recorded_) {                                            \
      if (result_ == 0) record(what, 0, 0, path, other, NULL, 0); \
      end_turn();                              \
    }                                                           \
    errno = error_;                                             \
    return result_;                                             \
  } while (0)

int rename(const char *from, const char *to) { ON_PATH(RENAME, DO_RENAME, from, to, syscall(SYS_rename, from, to)); }
int mkdir(const char *path, mode_t mode) { ON_PATH(MKDIR, DO_MKDIR, path, NULL, syscall(SYS_mkdir, path, mode)); }
int unlink(const char *path) { ON_PATH(UNLINK, DO_UNLINK, path, NULL, syscall(SYS_unlink, path)); }

int fallocate64(int fd, int mode, off_t offset, off_t length) {
  char path[4096];
  FAIL_IF_DUE(ALLOCATE, folder && path_of(fd, path));
  return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }
int posix_fallocate64(int fd, off_t offset, off_t length) {
  return fallocate64(fd, 0, offset, length) == 0 ? 0 : errno;
}
int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

int statx(int at, const char *path, int flags, unsigned mask, struct statx *status) {
  FAIL_IF_DUE(STAT, below(path));
  return (int)syscall(SYS_statx, at, path, flags, mask, status);
}
