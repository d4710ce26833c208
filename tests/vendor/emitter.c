/* The library's own threads. Each worker is a thread with a bounded queue of jobs; all callbacks come from workers,
   from the ping thread or from short-lived threads, except those that Disconnect or a failed switch makes itself. */
#include <stdlib.h>
#include <string.h>

#include "fake.h"

#define WORKER_LIMIT 16
#define STOP_WORKER (WORKER_LIMIT - 1)
#define QUEUE_LIMIT 1024
#define NEW_THREADS_LIMIT 64
#define IDLE_LOOK_NS 60000000000LL
#define SLICE_NS 50000000 /* longest sleep between two looks at the generation */

typedef struct Worker {
    Thread thread;
    int started, busy, head, count;
    Job jobs[QUEUE_LIMIT];
} Worker;

static Worker workers[WORKER_LIMIT];
static int stopping;
static _Atomic uint32_t durations_ns[DURATION_LIMIT];
static _Atomic long long durations_taken;
static _Thread_local Interface *inside_callback_of;

static void remember_duration(int64_t duration_ns)
{
    long long place = atomic_fetch_add(&durations_taken, 1);
    durations_ns[place % DURATION_LIMIT] = duration_ns > UINT32_MAX ? UINT32_MAX : (uint32_t)duration_ns;
}

long long durations_read(uint32_t *out, long long limit)
{
    long long taken = durations_taken, kept = taken < DURATION_LIMIT ? taken : DURATION_LIMIT;
    if (kept > limit) kept = limit;
    for (long long i = 0; i < kept; i++) out[i] = durations_ns[(taken - kept + i) % DURATION_LIMIT];
    return kept;
}

void durations_clear(void) { durations_taken = 0; }

static void call_back(Interface *to, int code, int type, const void *record, size_t bytes)
{
    Interface *outer = inside_callback_of;
    void *copy = bytes ? copy_for_callback(record, bytes) : NULL;
    int64_t begun_ns = now_ns();
    inside_callback_of = to;
    to->callback(code, type, copy, to->param);
    inside_callback_of = outer;
    remember_duration(now_ns() - begun_ns);
    COUNT(callbacks, 1);
    NOTE(last_param, (long long)(intptr_t)to->param);
    if (copy) scribble(copy, bytes);
}

static void landed(Interface *to) /* with the lock */
{
    to->in_flight--;
    if (fake.drain_waiters) wake_all(&fake.idle);
}

void call_back_here(Interface *to, int code)
{
    COUNT(sync_stops, code == STOP_PUMPING);
    call_back(to, code, 0, NULL, 0);
}

void drain(Interface *self)
{
    int own = inside_callback_of == self; /* Disconnect called from inside a callback waits for the others only */
    int64_t deadline_ns = now_ns() + DRAIN_LIMIT_NS;
    fake.drain_waiters++;
    while (self->in_flight > own && now_ns() < deadline_ns) wait_until(&fake.idle, &fake.mutex, deadline_ns);
    fake.drain_waiters--;
    if (self->in_flight > own) COUNT(disconnect_timeouts, 1);
}

static void deliver_guarded(const Job *job)
{
    lock(&fake.mutex);
    int wanted = job->target->switched == job->only_session;
    if (wanted) job->target->in_flight++;
    unlock(&fake.mutex);
    if (!wanted) return;
    call_back(job->target, job->code, job->type, NULL, 0);
    lock(&fake.mutex);
    landed(job->target);
    unlock(&fake.mutex);
}

static void broadcast(int code, int type, const void *record, size_t bytes)
{
    Interface *targets[PUMPING_LIMIT];
    int count;
    lock(&fake.mutex);
    count = fake.pumping_count;
    memcpy(targets, fake.pumping, sizeof targets);
    for (int i = 0; i < count; i++) targets[i]->in_flight++;
    unlock(&fake.mutex);
    if (!count) COUNT(events_missed, 1);
    for (int i = 0; i < count; i++) {
        call_back(targets[i], code, type, record, bytes);
        lock(&fake.mutex);
        landed(targets[i]);
        unlock(&fake.mutex);
    }
}

static int still_wanted(const Job *job)
{
    return fake.generation == job->generation && (!job->only_session || job->target->switched == job->only_session);
}

static void pause_until(int64_t deadline_ns, const Job *job)
{
    while (still_wanted(job)) {
        int64_t left_ns = deadline_ns - now_ns();
        if (left_ns <= 0) return;
        if (left_ns > SLEEP_GRAIN_NS) {
            left_ns -= SLEEP_GRAIN_NS / 2;
            sleep_ns(left_ns > SLICE_NS ? SLICE_NS : left_ns);
        }
    }
}

static void set_quote(const Job *job, long long step, const unsigned char *record)
{
    int symbol = 0;
    lock(&fake.mutex);
    if (record) {
        symbol = quote_put(record);
    } else if (fake.quote_count) {
        symbol = (int)(step % job->symbols) % fake.quote_count;
        quote_step(symbol, step / job->symbols);
    } else {
        symbol = -1;
    }
    if (symbol >= 0) quote_mark(symbol, quote_deadline(), job->generation);
    unlock(&fake.mutex);
}

static void emit_one(const Job *job, long long step)
{
    const unsigned char *record = NULL;
    if (job->records) record = job->records + (size_t)(step % job->records_count) * job->stride;
    if (job->kind != EMIT_RECORDS) {
        set_quote(job, step, record);
        broadcast(UPDATE_BIDASK, 0, NULL, 0);
    } else if (job->only_session) {
        deliver_guarded(job);
    } else if (job->target) {
        call_back(job->target, job->code, job->type, record, record ? job->stride : 0);
    } else {
        broadcast(job->code, job->type, record, record ? job->stride : 0);
    }
}

static void run(const Job *job)
{
    int64_t begun_ns = now_ns() + job->delay_ns;
    pause_until(begun_ns, job);
    for (long long step = 0; step < job->count && still_wanted(job); step++) {
        if (job->pace_ns) pause_until(begun_ns + step * job->pace_ns, job);
        emit_one(job, step);
    }
}

static THREAD_FUNCTION(run_worker)
{
    Worker *worker = argument;
    lock(&fake.mutex);
    for (;;) {
        while (!worker->count && !stopping) wait_until(&fake.job_ready, &fake.mutex, now_ns() + IDLE_LOOK_NS);
        if (stopping) break;
        Job job = worker->jobs[worker->head];
        worker->head = (worker->head + 1) % QUEUE_LIMIT;
        worker->count--;
        worker->busy = 1;
        unlock(&fake.mutex);
        run(&job);
        free(job.records);
        lock(&fake.mutex);
        worker->busy = 0;
        if (job.target && !job.only_session) landed(job.target);
        wake_all(&fake.idle);
    }
    unlock(&fake.mutex);
    return 0;
}

int enqueue(int number, Job job)
{
    Worker *worker = number >= 0 && number < WORKER_LIMIT ? &workers[number] : NULL;
    int accepted = worker && worker->count < QUEUE_LIMIT;
    if (accepted && !worker->started) {
        worker->started = accepted = start_thread(&worker->thread, run_worker, worker);
        COUNT(threads_started, accepted);
    }
    if (!accepted) {
        COUNT(emits_refused, 1);
        free(job.records);
        return 0;
    }
    if (job.target && !job.only_session) job.target->in_flight++;
    job.generation = fake.generation;
    worker->jobs[(worker->head + worker->count++) % QUEUE_LIMIT] = job;
    wake_all(&fake.job_ready);
    return 1;
}

int emit_start(Interface *self, int64_t delay_ns)
{
    Job job = {.code = START_PUMPING, .count = 1, .delay_ns = delay_ns, .target = self, .only_session = self->switched};
    return enqueue(0, job);
}

int emit_stops(Interface *self, int count, int64_t delay_ns)
{
    Job job = {.code = STOP_PUMPING, .count = count, .delay_ns = delay_ns, .target = self};
    return enqueue(STOP_WORKER, job); /* never behind what other workers still emit */
}

int emit_doorbell(int code)
{
    Job job = {.code = code, .count = 1};
    return enqueue(0, job);
}

int all_idle(void)
{
    for (int i = 0; i < WORKER_LIMIT; i++)
        if (workers[i].count || workers[i].busy) return 0;
    return 1;
}

static struct { Thread thread; int started; int64_t interval_ns; } ping;
static _Atomic int ping_wanted;

static THREAD_FUNCTION(run_ping)
{
    int64_t next_ns = now_ns();
    (void)argument;
    while (ping_wanted) {
        next_ns += ping.interval_ns;
        lock(&fake.mutex);
        while (ping_wanted && now_ns() < next_ns) wait_until(&fake.job_ready, &fake.mutex, next_ns);
        unlock(&fake.mutex);
        if (!ping_wanted) break;
        COUNT(pings, 1);
        broadcast(PING, 0, NULL, 0);
    }
    return 0;
}

void start_ping(int64_t interval_ns)
{
    lock(&fake.mutex);
    ping_wanted = 0;
    wake_all(&fake.job_ready);
    unlock(&fake.mutex);
    if (ping.started) join_thread(ping.thread);
    ping.started = 0;
    if (interval_ns <= 0) return;
    ping.interval_ns = interval_ns;
    ping_wanted = 1;
    ping.started = start_thread(&ping.thread, run_ping, NULL);
    COUNT(threads_started, ping.started);
}

/* Each waits for all: no thread ends before the last one lives, so all have different identifiers. */
static _Atomic int new_threads_alive, new_threads_wanted;

static THREAD_FUNCTION(run_once)
{
    int code = *(int *)argument;
    new_threads_alive++;
    while (new_threads_alive < new_threads_wanted) sleep_ns(1000000);
    broadcast(code, 0, NULL, 0);
    return 0;
}

void emit_on_new_threads(int threads, int code)
{
    Thread started[NEW_THREADS_LIMIT];
    int count = 0;
    if (threads > NEW_THREADS_LIMIT) threads = NEW_THREADS_LIMIT;
    new_threads_alive = 0;
    new_threads_wanted = threads;
    while (count < threads && start_thread(&started[count], run_once, &code)) count++;
    new_threads_wanted = count;
    COUNT(threads_started, count);
    while (count) join_thread(started[--count]);
}

void stop_threads(void)
{
    start_ping(0);
    lock(&fake.mutex);
    stopping = 1;
    fake.generation++;
    wake_all(&fake.job_ready);
    wake_all(&fake.ring_room);
    unlock(&fake.mutex);
    for (int i = 0; i < WORKER_LIMIT; i++) {
        if (workers[i].started) join_thread(workers[i].thread);
        workers[i].started = 0;
    }
    stopping = 0;
}
