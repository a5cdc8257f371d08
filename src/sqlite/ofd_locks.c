/* Locks that belong to an open file, not to the process.
 *
 * A POSIX record lock belongs to the whole process and is dropped when any descriptor of the file is closed, so two
 * copies of SQLite in one process drop each other's locks. Open-file-description locks don't. SQLite calls this in
 * place of fcntl: its lock commands are turned into their open-file-description forms, all else is passed on. */

#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64 /* struct flock as the SQLite amalgamation lays it out */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#ifdef F_OFD_SETLK

/* Set once by a kernel that doesn't know the commands; from then on locks are the POSIX ones. */
static volatile int unsupported;

static int lock(int descriptor, int command, int ofd_command, struct flock *range) {
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

#endif

int driftlock_ofd_fcntl(int descriptor, int command, ...) {
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
