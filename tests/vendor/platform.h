/* Threads, locks and clocks under one name each, on POSIX and on Windows. */
#ifndef FAKE_PLATFORM_H
#define FAKE_PLATFORM_H

#include <stdint.h>

#if defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#define EXPORT __declspec(dllexport)
#define CALL __stdcall /* methods and callbacks; the two exports and the controls stay cdecl */

typedef SRWLOCK Mutex;
typedef CONDITION_VARIABLE Condition;
typedef HANDLE Thread;
#define MUTEX_READY SRWLOCK_INIT
#define CONDITION_READY CONDITION_VARIABLE_INIT
#define THREAD_FUNCTION(name) DWORD WINAPI name(LPVOID argument)
#define SLEEP_GRAIN_NS 16000000 /* Sleep() steps by 15.6 ms: spin for what is shorter */

static inline void lock(Mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static inline void unlock(Mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static inline void wake_all(Condition *condition) { WakeAllConditionVariable(condition); }

static inline int64_t now_ns(void)
{
    LARGE_INTEGER ticks, per_second;
    QueryPerformanceCounter(&ticks);
    QueryPerformanceFrequency(&per_second);
    return ticks.QuadPart / per_second.QuadPart * 1000000000 +
           ticks.QuadPart % per_second.QuadPart * 1000000000 / per_second.QuadPart;
}

static inline void wait_until(Condition *condition, Mutex *mutex, int64_t deadline_ns)
{
    int64_t left_ms = (deadline_ns - now_ns()) / 1000000 + 1;
    SleepConditionVariableSRW(condition, mutex, left_ms > 0 ? (DWORD)left_ms : 0, 0);
}

static inline void sleep_ns(int64_t duration_ns) { Sleep((DWORD)(duration_ns / 1000000)); }

static inline int start_thread(Thread *thread, LPTHREAD_START_ROUTINE function, void *argument)
{
    *thread = CreateThread(NULL, 0, function, argument, 0, NULL);
    return *thread != NULL;
}

static inline void join_thread(Thread thread)
{
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

#else

#include <pthread.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))
#define CALL

typedef pthread_mutex_t Mutex;
typedef pthread_cond_t Condition;
typedef pthread_t Thread;
#define MUTEX_READY PTHREAD_MUTEX_INITIALIZER
#define CONDITION_READY PTHREAD_COND_INITIALIZER
#define THREAD_FUNCTION(name) void *name(void *argument)
#define SLEEP_GRAIN_NS 20000 /* spin for what is shorter; a whole core spun away would slow those it is shared with */

static inline void lock(Mutex *mutex) { pthread_mutex_lock(mutex); }
static inline void unlock(Mutex *mutex) { pthread_mutex_unlock(mutex); }
static inline void wake_all(Condition *condition) { pthread_cond_broadcast(condition); }

static inline int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* macOS waits on the wall clock only; callers look at their own deadline again when woken. */
static inline void wait_until(Condition *condition, Mutex *mutex, int64_t deadline_ns)
{
    struct timespec until;
    int64_t left_ns = deadline_ns - now_ns();
    clock_gettime(CLOCK_REALTIME, &until);
    left_ns = (left_ns > 0 ? left_ns : 0) + until.tv_nsec;
    until.tv_sec += (time_t)(left_ns / 1000000000);
    until.tv_nsec = (long)(left_ns % 1000000000);
    pthread_cond_timedwait(condition, mutex, &until);
}

static inline void sleep_ns(int64_t duration_ns)
{
    struct timespec duration = {(time_t)(duration_ns / 1000000000), (long)(duration_ns % 1000000000)};
    nanosleep(&duration, NULL);
}

static inline int start_thread(Thread *thread, void *(*function)(void *), void *argument)
{
    return pthread_create(thread, NULL, function, argument) == 0;
}

static inline void join_thread(Thread thread) { pthread_join(thread, NULL); }

#endif
#endif
