/* The state of the fake library: interfaces, tables, scripts and counters.

   `fake.mutex` is never held while a callback runs. `fake.records_mutex` keeps the records of tables in place while one
   is copied, so that quotes can be read meanwhile; who takes both takes `fake.mutex` first. Counters and `generation`
   are atomics, so that the hot path may touch them outside the lock. */
#ifndef FAKE_H
#define FAKE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "platform.h"
#include "records.h"
#include "slots.h"

#define API_VERSION ((400 << 16) | 1403)
#define INTERFACE_LIMIT 4096
#define PUMPING_LIMIT 8
#define DURATION_LIMIT (1 << 20)
#define SYMBOL_LIMIT 1024 /* MAX_SYMBOLS of the header */
#define NEWS_LIMIT 256
#define PLUGIN_LIMIT 64
#define TEXT_BYTES 1024
#define DRAIN_LIMIT_NS 5000000000LL /* how long Disconnect waits for a callback that is under way */

enum { RET_OK = 0, RET_OK_NONE = 1, RET_ERROR = 2, RET_INVALID_DATA = 3, RET_NO_CONNECT = 6, RET_BAD_ACCOUNT_INFO = 65,
       CALLED_WHILE_PUMPING = 151, NETWORK_FAILURE = 255 };
enum { START_PUMPING = 0, UPDATE_BIDASK = 5, UPDATE_NEWS_BODY = 7, STOP_PUMPING = 14, PING = 15 };
enum { FLAG_SENDFULLNEWS = 8 };

/* Everything that is counted, by the name that the tests ask for. The `last_` ones hold a value, not a count. */
#define COUNTERS(X) \
    X(creates) X(creates_refused) X(live_interfaces) X(releases) X(releases_while_pumping) X(releases_in_use) \
    X(calls_after_release) X(traps) X(last_trap) X(memfree_calls) X(memfree_null) X(double_frees) X(foreign_frees) \
    X(outstanding) X(outstanding_bytes) X(connects_ok) X(logins_ok) X(logins_refused) X(disconnects) \
    X(disconnect_timeouts) X(calls_interrupted) X(switches_ok) X(symbols_added) X(symbols_hidden) X(symbols_refused) \
    X(quotes_set) X(quotes_read) X(quotes_unselected) X(ticks_dropped) X(callbacks) X(events_missed) X(emits_refused) \
    X(sync_stops) X(pings) X(news_requests) X(threads_started) X(last_create_version) X(last_login) X(last_flags) \
    X(last_param)

#define AS_COUNTER(name) COUNT_##name,
enum { COUNTERS(AS_COUNTER) COUNTER_COUNT };
#undef AS_COUNTER

typedef void (CALL *Callback)(int code, int type, void *data, void *param);

typedef struct Interface {
    const void *const *methods; /* the ABI: the first word of the object is the address of its table */
    int number;                 /* 0, 1, 2 ... since the last reset */
    int references, released, connected, logged_in, flags;
    _Atomic int switched; /* 0, or the number of the pumping session: 1, 2 ... over all interfaces */
    int in_progress; /* calls inside methods, on any thread */
    int disconnects; /* a Connect or Login that waits ends when this grows */
    int in_flight;   /* callbacks under way on native threads, or promised to one */
    Callback callback;
    void *param;
    char directory[TEXT_BYTES], server[TEXT_BYTES];
    unsigned char requested[NEWS_LIMIT]; /* by the place in `fake.bodies`: those that this session asked for */
    unsigned char selected[SYMBOL_LIMIT], marked[SYMBOL_LIMIT];
    int changed[SYMBOL_LIMIT]; /* queue of marked symbols, oldest first */
    int changed_head, changed_count;
} Interface;

typedef struct Table {
    unsigned char *records;
    int total;
} Table;

/* What the next `times` calls of a method do instead: wait, then return `code` (unless `proceed`), or, for a method
   that returns an array, a pointer or NULL with `code` as the total. A call that waits goes on once its method has
   another `number`. */
typedef struct Script {
    int times, proceed, with_pointer, code;
    int64_t delay_ns;
    long long number;
} Script;

typedef struct Body {
    int key;
    char *text;
} Body;

typedef struct Fake {
    Mutex mutex, records_mutex;
    Condition job_ready, idle, ring_room;
    _Atomic long long counters[COUNTER_COUNT];
    _Atomic long long generation; /* grows at reset: whoever waits or emits for an older one stops */
    long long calls[SLOT_COUNT];
    Interface *interfaces[INTERFACE_LIMIT]; /* never freed: calls after Release are counted, not fatal */
    int interface_count, first_number;
    Interface *pumping[PUMPING_LIMIT], *last_switched;
    int pumping_count, sessions, drain_waiters;
    Table tables[SLOT_COUNT];
    Script scripts[SLOT_COUNT];
    long long script_count;
    int create_fault;
    int accepted_login, any_login;
    char accepted_password[TEXT_BYTES], accepted_server[TEXT_BYTES];
    int64_t start_delay_ns; /* negative: START never comes */
    int disconnect_stops, disconnect_stops_native, failed_switch_stops;
    unsigned char quotes[SYMBOL_LIMIT][size_SymbolInfo];
    int quote_count, server_utc_offset_s;
    unsigned char *ring; /* every-tick mode: whole records, oldest first */
    int ring_limit, ring_head, ring_used;
    int64_t ring_wait_ns;
    Body bodies[NEWS_LIMIT];
    int body_count;
    unsigned char *plugin_params[PLUGIN_LIMIT];
    int plugin_totals[PLUGIN_LIMIT];
    char mail_path[TEXT_BYTES];
    int mail_length;
} Fake;

extern Fake fake;

#define COUNT(name, by) atomic_fetch_add(&fake.counters[COUNT_##name], by)
#define NOTE(name, value) atomic_store(&fake.counters[COUNT_##name], value)

/* memory.c */
void *track(size_t bytes);        /* what a method returns: counted until MemFree */
void untrack(void *pointer);      /* MemFree: counts what it is given, right or wrong; call without the lock */
void forget_tracked(void);        /* reset; call with the lock */
void *copy_for_callback(const void *record, size_t bytes);
void scribble(void *copy, size_t bytes); /* overwrites it at once, frees it a little later */

/* quotes.c; all but quote_emit with the lock */
int symbol_named(const char *symbol);
int quote_put(const unsigned char *record); /* index of its symbol, or -1 when there is no room */
void quote_mark(int symbol, int64_t deadline_ns, long long generation);
int quotes_read(Interface *self, unsigned char *out, int limit);
void quote_step(int symbol, long long step); /* the next price of a random-looking but repeatable walk */
int64_t quote_deadline(void);

/* emitter.c */
typedef enum { EMIT_RECORDS, EMIT_QUOTES, EMIT_STEPS } JobKind;

typedef struct Job {
    JobKind kind;
    int code, type, symbols;
    unsigned char *records; /* own copy; NULL: callbacks without data */
    size_t stride;
    long long records_count, count, generation;
    int64_t pace_ns, delay_ns;
    Interface *target; /* NULL: whoever pumps; else this one, whatever its state; enqueue raises its `in_flight` */
    int only_session;  /* not 0: only while `target` is still in this session; nothing is raised before */
} Job;

int enqueue(int worker, Job job);               /* takes `job.records`; 0 when the worker is full; with the lock */
int emit_start(Interface *self, int64_t delay_ns); /* START, unless the session has ended by then; with the lock */
int emit_stops(Interface *self, int count, int64_t delay_ns); /* STOP `count` times, whatever its state, on a thread
                                                                  of its own; with the lock */
int emit_doorbell(int code);                       /* one event without data to whoever pumps; with the lock */
int all_idle(void);                           /* with the lock */
void call_back_here(Interface *to, int code); /* on the calling thread, without data; without the lock */
void drain(Interface *self);                  /* waits for the callbacks under way on other threads; with the lock */
void start_ping(int64_t interval_ns);         /* 0 ends it; without the lock */
void stop_threads(void);                      /* without the lock */
void emit_on_new_threads(int threads, int code); /* one callback each, all alive at the same time */

/* dll_log.c; with the lock */
void log_line(const Interface *self, int code, const char *text);

/* script.c */
void play_script(void); /* what FAKE_MT4_SCRIPT says, once per process; without the lock */

long long durations_read(uint32_t *out, long long limit); /* of the last callbacks, oldest first, in ns */
void durations_clear(void);

/* session.c; all with the lock. Those that return an int return a RET_ code. */
int record_size(int slot); /* of the table that a method reads, 0 if it reads none */
const Table *table_of(const Interface *self, int slot);
int find_record(Interface *self, int slot, int offset, int key, void *out); /* by the int at `offset` */
int record_at(Interface *self, int slot, int position, void *out);
int plugin_at(Interface *self, int position, unsigned char *out);
void request_body(Interface *self, int key);
char *body_copy(Interface *self, int key);
int last_mail(Interface *self, char *path, int *length);
int select_symbol(Interface *self, const char *symbol);
int hide_symbol(Interface *self, const char *symbol);
int connect_to(Interface *self, const char *server);
int log_in(Interface *self, int login, const char *password);
int switch_on(Interface *self, Callback callback, int flags, void *param);
void stop_pumping(Interface *self);

#endif
