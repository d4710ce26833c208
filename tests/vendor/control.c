/* The controls: what the tests set. All are cdecl and may be called from any thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

#define NS_PER_MS 1000000LL

/* ---- what to answer ---- */

static void fill_table(Table *table, const void *records, int total, size_t bytes)
{
    lock(&fake.records_mutex);
    free(table->records);
    table->records = bytes ? malloc(bytes) : NULL;
    table->total = table->records ? total : 0;
    if (table->records) memcpy(table->records, records, bytes);
    unlock(&fake.records_mutex);
}

/* Sets the table that the method at `slot` reads; 0 when it reads none or `bytes` is not a whole number of records. */
EXPORT int fake_set_table(int slot, const void *records, long long bytes)
{
    int size = record_size(slot);
    if (!size || bytes < 0 || bytes % size) return 0;
    lock(&fake.mutex);
    fill_table(&fake.tables[slot], records, (int)(bytes / size), (size_t)bytes);
    unlock(&fake.mutex);
    return 1;
}

/* The next `times` calls (-1: all) of a method wait `delay_ms`; then they return `code`, or do their work if `proceed`.
   A method that returns an array gives a pointer or NULL as `with_pointer` says, and `code` as its total. A call that
   waits by an earlier script goes on at once. */
EXPORT int fake_script(int slot, int times, int proceed, int code, int with_pointer, long long delay_ms)
{
    if (slot < 0 || slot >= SLOT_COUNT) return 0;
    lock(&fake.mutex);
    fake.scripts[slot] = (Script){times, proceed, with_pointer, code, delay_ms * NS_PER_MS, ++fake.script_count};
    wake_all(&fake.idle);
    unlock(&fake.mutex);
    return 1;
}

/* 1: MtManCreate returns 0; 2: it claims success. Either way there is no interface. 0: it works. */
EXPORT void fake_set_create_fault(int fault)
{
    lock(&fake.mutex);
    fake.create_fault = fault;
    unlock(&fake.mutex);
}

/* Only this server (others: 255) and this login with this password (others: 65); an empty server is any. */
EXPORT void fake_set_accepted(const char *server, int login, const char *password)
{
    lock(&fake.mutex);
    snprintf(fake.accepted_server, sizeof fake.accepted_server, "%s", server);
    snprintf(fake.accepted_password, sizeof fake.accepted_password, "%s", password);
    fake.accepted_login = login;
    fake.any_login = 0;
    unlock(&fake.mutex);
}

/* START comes `delay_ms` after a good switch; never when negative. */
EXPORT void fake_set_start_delay(long long delay_ms)
{
    lock(&fake.mutex);
    fake.start_delay_ns = delay_ms * NS_PER_MS;
    unlock(&fake.mutex);
}

/* STOPs that Disconnect makes, on the library's own thread while Disconnect waits (`native`) or on the calling one;
   `failed_switch` STOPs come synchronously out of a PumpingSwitchEx that fails. */
EXPORT void fake_set_stops(int disconnect, int native, int failed_switch)
{
    lock(&fake.mutex);
    fake.disconnect_stops = disconnect;
    fake.disconnect_stops_native = native;
    fake.failed_switch_stops = failed_switch;
    unlock(&fake.mutex);
}

static void set_body(int key, const char *text)
{
    int place = 0;
    while (place < fake.body_count && fake.bodies[place].key != key) place++;
    if (place == NEWS_LIMIT) return;
    if (place == fake.body_count) fake.body_count++;
    free(fake.bodies[place].text);
    fake.bodies[place] = (Body){key, malloc(strlen(text) + 1)};
    if (fake.bodies[place].text) strcpy(fake.bodies[place].text, text);
    else fake.body_count--;
}

EXPORT void fake_set_news_body(int key, const char *text)
{
    lock(&fake.mutex);
    set_body(key, text);
    unlock(&fake.mutex);
}

EXPORT void fake_set_mail(const char *path, int length)
{
    lock(&fake.mutex);
    snprintf(fake.mail_path, sizeof fake.mail_path, "%s", path);
    fake.mail_length = length;
    unlock(&fake.mutex);
}

EXPORT int fake_set_plugin_params(int position, const void *records, int total)
{
    Table params = {NULL, 0};
    if (position < 0 || position >= PLUGIN_LIMIT || total < 0) return 0;
    fill_table(&params, records, total, (size_t)total * size_PluginCfg);
    lock(&fake.mutex);
    free(fake.plugin_params[position]);
    fake.plugin_params[position] = params.records;
    fake.plugin_totals[position] = params.total;
    unlock(&fake.mutex);
    return 1;
}

/* ---- prices ---- */

/* Sets prices without ringing; selected symbols are marked as changed. */
EXPORT int fake_set_quotes(const unsigned char *records, int total)
{
    int kept = 0;
    lock(&fake.mutex);
    for (int i = 0; i < total; i++) {
        int symbol = quote_put(records + (size_t)i * size_SymbolInfo);
        if (symbol < 0) break;
        quote_mark(symbol, quote_deadline(), fake.generation);
        kept++;
    }
    unlock(&fake.mutex);
    return kept;
}

/* Keeps every tick in a ring of `limit` records; a full one holds its writer up for `wait_ms`, then drops (counted).
   0 goes back to the latest value per symbol. */
EXPORT int fake_set_every_tick(int limit, long long wait_ms)
{
    unsigned char *ring = limit > 0 ? malloc((size_t)limit * size_SymbolInfo) : NULL;
    if (limit > 0 && !ring) return 0;
    lock(&fake.mutex);
    free(fake.ring);
    fake.ring = ring;
    fake.ring_limit = ring ? limit : 0;
    fake.ring_head = fake.ring_used = 0;
    fake.ring_wait_ns = wait_ms * NS_PER_MS;
    unlock(&fake.mutex);
    return 1;
}

EXPORT void fake_set_server_utc_offset(int seconds)
{
    lock(&fake.mutex);
    fake.server_utc_offset_s = seconds;
    unlock(&fake.mutex);
}

/* ---- events ---- */

static unsigned char *copied(const void *records, size_t bytes)
{
    unsigned char *copy = bytes ? malloc(bytes) : NULL;
    if (copy) memcpy(copy, records, bytes);
    return copy;
}

static int enqueue_locked(int worker, Job job)
{
    lock(&fake.mutex);
    int accepted = enqueue(worker, job);
    unlock(&fake.mutex);
    return accepted;
}

/* Calls back `count` times on the thread of `worker` (0 to 15), going round `total` records; NULL if there is none. */
EXPORT int fake_emit(int worker, int code, int type, const void *records, long long stride, long long total,
                     long long count, long long pace_ns)
{
    Job job = {.kind = EMIT_RECORDS, .code = code, .type = type, .stride = (size_t)stride, .records_count = total,
               .count = count, .pace_ns = pace_ns, .records = copied(records, (size_t)(stride * total))};
    if (stride * total && !job.records) return 0;
    return enqueue_locked(worker, job);
}

/* One event for the interface that switched last, also after it was disconnected or released. */
EXPORT int fake_emit_stale(int worker, int code, int type, const void *record, long long bytes)
{
    Job job = {.kind = EMIT_RECORDS, .code = code, .type = type, .stride = (size_t)bytes, .records_count = 1,
               .count = 1, .records = copied(record, (size_t)bytes)};
    lock(&fake.mutex);
    job.target = fake.last_switched;
    int accepted = job.target != NULL;
    if (accepted) accepted = enqueue(worker, job);
    else free(job.records);
    unlock(&fake.mutex);
    return accepted;
}

EXPORT void fake_emit_on_new_threads(int threads, int code) { emit_on_new_threads(threads, code); }

/* Replays SymbolInfo records: each becomes its symbol's price, then BIDASK rings. */
EXPORT int fake_emit_quotes(int worker, const void *records, long long total, long long pace_ns)
{
    Job job = {.kind = EMIT_QUOTES, .stride = size_SymbolInfo, .records_count = total, .count = total,
               .pace_ns = pace_ns, .records = copied(records, (size_t)total * size_SymbolInfo)};
    return job.records ? enqueue_locked(worker, job) : 0;
}

/* Moves the prices of the first `symbols` symbols by a point each in turn, `count` times, ringing BIDASK each time. */
EXPORT int fake_quotes_run(int worker, long long count, int symbols, long long pace_ns)
{
    Job job = {.kind = EMIT_STEPS, .symbols = symbols, .count = count, .pace_ns = pace_ns};
    lock(&fake.mutex);
    int known = fake.quote_count;
    unlock(&fake.mutex);
    return symbols > 0 && symbols <= known ? enqueue_locked(worker, job) : 0;
}

/* Waits until all that was asked for has been emitted; 0 when it takes longer than `timeout_ms`. */
EXPORT int fake_wait(long long timeout_ms)
{
    int64_t deadline_ns = now_ns() + timeout_ms * NS_PER_MS;
    lock(&fake.mutex);
    while (!all_idle() && now_ns() < deadline_ns) wait_until(&fake.idle, &fake.mutex, deadline_ns);
    int idle = all_idle();
    unlock(&fake.mutex);
    return idle;
}

EXPORT void fake_set_ping(long long interval_ms) { start_ping(interval_ms * NS_PER_MS); }

/* ---- the link ---- */

EXPORT void fake_set_connected(int connected)
{
    lock(&fake.mutex);
    for (int i = 0; i < fake.interface_count; i++)
        if (!fake.interfaces[i]->released) fake.interfaces[i]->connected = connected;
    unlock(&fake.mutex);
}

static void end_pumping(int stops, int connected, int64_t delay_ns)
{
    lock(&fake.mutex);
    while (fake.pumping_count) {
        Interface *self = fake.pumping[0];
        stop_pumping(self);
        self->connected = connected;
        self->logged_in = 0;
        log_line(self, NETWORK_FAILURE, "pumping mode stopped (Network problem)");
        if (stops) emit_stops(self, stops, delay_ns);
    }
    unlock(&fake.mutex);
}

/* The link breaks: whoever pumps is disconnected and gets STOP `stops` times. */
EXPORT void fake_lose_link(int stops) { end_pumping(stops, 0, 0); }

/* The server says what the protocol does not have: the tables are empty at once, IsConnected stays 1, and STOP comes
   `delay_ms` later. */
EXPORT void fake_break_protocol(int stops, long long delay_ms) { end_pumping(stops, 1, delay_ms * NS_PER_MS); }

/* ---- between tests ---- */

static void forget_answers(void)
{
    for (int i = 0; i < SLOT_COUNT; i++) fill_table(&fake.tables[i], NULL, 0, 0);
    memset(fake.scripts, 0, sizeof fake.scripts);
    memset(fake.calls, 0, sizeof fake.calls);
    for (int i = 0; i < COUNTER_COUNT; i++) fake.counters[i] = 0;
    while (fake.body_count) free(fake.bodies[--fake.body_count].text);
    memset(fake.bodies, 0, sizeof fake.bodies);
    for (int i = 0; i < PLUGIN_LIMIT; i++) {
        free(fake.plugin_params[i]);
        fake.plugin_params[i] = NULL;
        fake.plugin_totals[i] = 0;
    }
    fake.mail_path[0] = fake.accepted_server[0] = fake.accepted_password[0] = 0;
    fake.create_fault = fake.mail_length = fake.accepted_login = 0;
}

static void set_defaults(void)
{
    fake.any_login = 1;
    fake.start_delay_ns = 0;
    fake.disconnect_stops = fake.disconnect_stops_native = 1;
    fake.failed_switch_stops = 0;
    fake.quote_count = 0;
    fake.server_utc_offset_s = 3 * 3600;
    free(fake.ring);
    fake.ring = NULL;
    fake.ring_limit = fake.ring_head = fake.ring_used = 0;
}

static void abandon_interfaces(void)
{
    for (int i = fake.first_number; i < fake.interface_count; i++) fake.interfaces[i]->released = 1;
    fake.first_number = fake.interface_count;
    while (fake.pumping_count) stop_pumping(fake.pumping[0]);
    fake.last_switched = NULL;
}

/* Stops all emission and forgets everything, counters too; interfaces made before count as released. 0 when a callback
   that is under way does not end within `timeout_ms`. */
EXPORT int fake_reset(long long timeout_ms)
{
    start_ping(0);
    lock(&fake.mutex);
    fake.generation++;
    wake_all(&fake.ring_room);
    wake_all(&fake.idle);
    unlock(&fake.mutex);
    if (!fake_wait(timeout_ms)) return 0;
    lock(&fake.mutex);
    abandon_interfaces();
    forget_tracked();
    forget_answers();
    set_defaults();
    unlock(&fake.mutex);
    durations_clear();
    return 1;
}

/* Ends all of the library's threads; they come back when they are needed. For the end of a process. */
EXPORT void fake_shutdown(void) { stop_threads(); }
