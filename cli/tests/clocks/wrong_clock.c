// Preloaded into a process, it shows another time of day: as many seconds later as the file WRONG_CLOCK says. Clocks that
// measure how long something takes are left alone, and so are libraries that ask the C library for timeouts.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *now) {
  static int (*asked)(clockid_t, struct timespec *);
  if (!asked) asked = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int failed = asked(id, now);
  const char *path = getenv("WRONG_CLOCK");
  if (failed || id != CLOCK_REALTIME || !path) return failed;
  FILE *file = fopen(path, "r");
  if (!file) return failed;
  long seconds = 0;
  if (fscanf(file, "%ld", &seconds) == 1) now->tv_sec += seconds;
  fclose(file);
  return failed;
}
