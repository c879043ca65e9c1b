/* Preloaded into a process: a clock that runs many times as fast, the same in all processes with the same FAST_CLOCK.

   That is a file, mapped here, in which somebody who gets his turn every millisecond writes how far the clock has come.
   Between two entries it runs on by itself for a while and then stands: when the machine has no time for anybody, the
   clock waits, too. Whoever waits for a time waits the SPEEDth part of it, at least a millisecond. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL
#define REAL(name) ((__typeof__(&name))real(#name))

struct page {
    int64_t entry;         /* odd while it is being written */
    int64_t at_ns;         /* the real monotonic time of this entry */
    int64_t passed_ns;     /* how far the clock had come then */
    int64_t most_ns;       /* real time: for so long it runs on */
    int64_t speed;
    int64_t mono_ns;       /* where both clocks began */
    int64_t wall_ns;
};

static volatile struct page *page;
static double speed = 1;

__attribute__((constructor)) static void map(void) {
    int fd = open(getenv("FAST_CLOCK"), O_RDONLY | O_CLOEXEC);
    void *mapped = mmap(NULL, sizeof *page, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED) return;
    page = mapped;
    speed = (double)page->speed;
}

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static int64_t ns_of(const struct timespec *t) { return t->tv_sec * NS + t->tv_nsec; }

static struct timespec spec_of(int64_t ns) { return (struct timespec){ns / NS, ns % NS}; }

static int64_t real_now(clockid_t id) {
    struct timespec now;
    syscall(SYS_clock_gettime, id, &now);
    return ns_of(&now);
}

static int is_wall(clockid_t id) { return id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE; }

static int is_mono(clockid_t id) {
    return id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_RAW || id == CLOCK_MONOTONIC_COARSE || id == CLOCK_BOOTTIME;
}

static int64_t fast_now(clockid_t id) {
    int64_t entry, at, passed, length;
    if (!page) return real_now(id);
    do {
        entry = __atomic_load_n(&page->entry, __ATOMIC_ACQUIRE);
        at = page->at_ns, passed = page->passed_ns;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while (entry % 2 || entry != page->entry);
    length = real_now(CLOCK_MONOTONIC) - at;
    passed += page->speed * (length < page->most_ns ? length : page->most_ns);
    return (is_wall(id) ? page->wall_ns : page->mono_ns) + passed;
}

/* A span of fast time in real time, and a moment of a fast clock as one of the real clock. */
static int64_t span(int64_t ns) { return ns <= 0 ? ns : (int64_t)(ns / speed) + 1; }

static int span_ms(int ms) { return ms <= 0 ? ms : (int)((ms + speed - 1) / speed); }

static struct timespec moment(clockid_t id, const struct timespec *fast) {
    int64_t left = span(ns_of(fast) - fast_now(id));
    return spec_of(real_now(id) + (left > 0 ? left : 0));
}

int clock_gettime(clockid_t id, struct timespec *now) {
    if (!is_wall(id) && !is_mono(id)) return (int)syscall(SYS_clock_gettime, id, now);
    *now = spec_of(fast_now(id));
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int64_t ns = fast_now(CLOCK_REALTIME);
    (void)zone;
    *now = (struct timeval){ns / NS, ns % NS / 1000};
    return 0;
}

time_t time(time_t *seconds) {
    time_t now = fast_now(CLOCK_REALTIME) / NS;
    if (seconds) *seconds = now;
    return now;
}

int poll(struct pollfd *fds, nfds_t count, int ms) { return REAL(poll)(fds, count, span_ms(ms)); }

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask) {
    struct timespec shorter = timeout ? spec_of(span(ns_of(timeout))) : spec_of(0);
    return REAL(ppoll)(fds, count, timeout ? &shorter : NULL, mask);
}

int epoll_wait(int fd, struct epoll_event *events, int most, int ms) {
    return REAL(epoll_wait)(fd, events, most, span_ms(ms));
}

int epoll_pwait(int fd, struct epoll_event *events, int most, int ms, const sigset_t *mask) {
    return REAL(epoll_pwait)(fd, events, most, span_ms(ms), mask);
}

int select(int count, fd_set *restrict in, fd_set *restrict out, fd_set *restrict err, struct timeval *restrict t) {
    struct timespec shorter = t ? spec_of(span(t->tv_sec * NS + t->tv_usec * 1000)) : spec_of(0);
    return REAL(pselect)(count, in, out, err, t ? &shorter : NULL, NULL);
}

int nanosleep(const struct timespec *length, struct timespec *left) {
    struct timespec shorter = spec_of(span(ns_of(length)));
    int result = REAL(nanosleep)(&shorter, left);
    if (result && left) *left = spec_of((int64_t)(ns_of(left) * speed));
    return result;
}

int usleep(useconds_t us) {
    struct timespec length = spec_of(us * 1000LL);
    return nanosleep(&length, NULL);
}

int clock_nanosleep(clockid_t id, int flags, const struct timespec *length, struct timespec *left) {
    struct timespec real_length = flags & TIMER_ABSTIME ? moment(id, length) : spec_of(span(ns_of(length)));
    int result = REAL(clock_nanosleep)(id, flags, &real_length, left);
    if (result && left && !(flags & TIMER_ABSTIME)) *left = spec_of((int64_t)(ns_of(left) * speed));
    return result;
}

int setitimer(__itimer_which_t which, const struct itimerval *restrict value, struct itimerval *restrict old) {
    int64_t next = span(value->it_value.tv_sec * NS + value->it_value.tv_usec * 1000);
    int64_t every = span(value->it_interval.tv_sec * NS + value->it_interval.tv_usec * 1000);
    struct itimerval shorter = {{every / NS, (every % NS + 999) / 1000}, {next / NS, (next % NS + 999) / 1000}};
    return REAL(setitimer)(which, which == ITIMER_REAL ? &shorter : value, old);
}

int sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict info, const struct timespec *restrict timeout) {
    struct timespec shorter = timeout ? spec_of(span(ns_of(timeout))) : spec_of(0);
    return REAL(sigtimedwait)(set, info, timeout ? &shorter : NULL);
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until) {
    struct timespec sooner = moment(CLOCK_REALTIME, until);
    return REAL(sem_timedwait)(sem, &sooner);
}

int sem_clockwait(sem_t *restrict sem, clockid_t id, const struct timespec *restrict until) {
    struct timespec sooner = moment(id, until);
    return REAL(sem_clockwait)(sem, id, &sooner);
}

/* Which clock a condition has is its own secret; seconds since the start of a machine are no year we live in. */
int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    struct timespec sooner = moment(until->tv_sec > 1000000000 ? CLOCK_REALTIME : CLOCK_MONOTONIC, until);
    return REAL(pthread_cond_timedwait)(cond, mutex, &sooner);
}

int pthread_cond_clockwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, clockid_t id,
                           const struct timespec *restrict until) {
    struct timespec sooner = moment(id, until);
    return REAL(pthread_cond_clockwait)(cond, mutex, id, &sooner);
}
