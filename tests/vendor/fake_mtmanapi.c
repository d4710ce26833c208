/* A stand-in for the vendor's Manager API library with the same ABI: two exports, and an interface whose first word
   is the address of a table of 195 functions. It behaves as the public record says the real one does, and counts
   every mistake of its caller. What it should do is told through the fake_ functions of control.c.

   Own code; nothing of the vendor's header is used. Methods are stdcall on Windows with `this` as first argument. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

Fake fake = {.mutex = MUTEX_READY, .records_mutex = MUTEX_READY, .job_ready = CONDITION_READY, .idle = CONDITION_READY,
               .ring_room = CONDITION_READY, .any_login = 1, .disconnect_stops = 1, .disconnect_stops_native = 1,
               .server_utc_offset_s = 3 * 3600}; /* as after a reset */

static const struct { int code; const char *text; } ERRORS[] = {
    {0, "OK"}, {1, "Nothing to do"}, {2, "Common error"}, {3, "Invalid information"}, {4, "Technical problem"},
    {5, "Old version of the client terminal"}, {6, "No connection"}, {7, "Not enough rights"},
    {8, "Too frequent requests"}, {9, "Secret key is required"}, {10, "Key must be generated"},
    {11, "Security session is required"}, {15, "Invalid company"}, {64, "Account disabled"}, {65, "Invalid account"},
    {66, "Public key missing"}, {128, "Trade timeout"}, {129, "Invalid prices"}, {130, "Invalid S/L or T/P"},
    {131, "Invalid volume"}, {132, "Market is closed"}, {133, "Trade is disabled"}, {134, "Not enough money"},
    {135, "Price is changed"}, {136, "Off quotes"}, {137, "Broker is busy"}, {138, "Requote"}, {139, "Order is locked"},
    {140, "Long positions only allowed"}, {141, "Too many requests"}, {142, "Order is accepted"},
    {143, "Order is in process"}, {144, "Order is cancelled by client"}, {145, "Modification denied"},
    {146, "Trade context is busy"}, {147, "Expiration is disabled"}, {148, "Too many orders"},
    {149, "Hedge is prohibited"}, {150, "Prohibited by FIFO rule"}, {255, "Network problem"},
};

/* ---- every method goes through these ---- */

static Interface *enter(Interface *self, int slot)
{
    int released;
    lock(&fake.mutex);
    fake.calls[slot]++;
    released = self->released;
    if (released) COUNT(calls_after_release, 1);
    else self->in_progress++;
    unlock(&fake.mutex);
    return released ? NULL : self;
}

static void leave(Interface *self)
{
    lock(&fake.mutex);
    self->in_progress--;
    unlock(&fake.mutex);
}

/* A Connect or Login that waits for its server ends when another thread calls Disconnect. */
static int is_interrupted(const Interface *self, int slot, int disconnects)
{
    return (slot == SLOT_Connect || slot == SLOT_Login) && self->disconnects != disconnects;
}

static int scripted(Interface *self, int slot, Script *now)
{
    lock(&fake.mutex);
    int disconnects = self->disconnects;
    Script *script = &fake.scripts[slot];
    *now = *script;
    if (script->times > 0) script->times--;
    long long generation = fake.generation;
    int64_t deadline_ns = now_ns() + now->delay_ns;
    while (now->times && now_ns() < deadline_ns && fake.generation == generation && script->number == now->number &&
           !is_interrupted(self, slot, disconnects))
        wait_until(&fake.idle, &fake.mutex, deadline_ns);
    if (now->times && is_interrupted(self, slot, disconnects)) {
        COUNT(calls_interrupted, 1);
        now->proceed = 0;
        now->code = NETWORK_FAILURE;
        log_line(self, NETWORK_FAILURE, "login failed (Network problem)");
    }
    unlock(&fake.mutex);
    return now->times && !now->proceed;
}

/* Defines a method that returns an int: `body` is what it does when no script says otherwise. */
#define INT_METHOD(name, parameters, body) \
    static int CALL name parameters \
    { \
        Script script; \
        int result = RET_ERROR; \
        if (!enter(self, SLOT_##name)) return result; \
        if (scripted(self, SLOT_##name, &script)) \
            result = script.code; \
        else { \
            lock(&fake.mutex); \
            body; \
            unlock(&fake.mutex); \
        } \
        leave(self); \
        return result; \
    }

/* ---- tables ---- */

static void *array(Interface *self, int slot, int *total)
{
    Script script;
    void *copy = NULL;
    *total = 0;
    if (!enter(self, slot)) return NULL;
    int faulty = scripted(self, slot, &script);
    lock(&fake.mutex);
    const Table *table = table_of(self, slot);
    size_t bytes = (size_t)table->total * (size_t)record_size(slot);
    *total = faulty ? script.code : table->total;
    /* Of all of them TradesGet alone gives an array to be freed where there is nothing. */
    int has_array = table->total > 0 || slot == SLOT_TradesGet;
    if (faulty ? script.with_pointer : has_array) copy = track(bytes ? bytes : 1);
    const unsigned char *records = table->records;
    lock(&fake.records_mutex);
    unlock(&fake.mutex);
    if (copy && bytes) memcpy(copy, records, bytes);
    unlock(&fake.records_mutex);
    leave(self);
    return copy;
}

#define ARRAY_METHOD(name) \
    static void *CALL name(Interface *self, int *total) { return array(self, SLOT_##name, total); }

ARRAY_METHOD(SymbolsGetAll)
ARRAY_METHOD(GroupsGet)
ARRAY_METHOD(UsersGet)
ARRAY_METHOD(OnlineGet)
ARRAY_METHOD(TradesGet)
ARRAY_METHOD(MarginsGet)
ARRAY_METHOD(RequestsGet)
ARRAY_METHOD(PluginsGet)
ARRAY_METHOD(NewsGet)

INT_METHOD(TradeRecordGet, (Interface *self, int order, void *out),
           result = find_record(self, SLOT_TradesGet, TradeRecord_order, order, out))
INT_METHOD(MarginLevelGet, (Interface *self, int login, const char *group, void *out),
           (void)group;
           result = find_record(self, SLOT_MarginsGet, MarginLevel_login, login, out))

INT_METHOD(PluginParamGet, (Interface *self, int position, void *out), result = plugin_at(self, position, out))
INT_METHOD(NewsTotal, (Interface *self), result = table_of(self, SLOT_NewsGet)->total)
INT_METHOD(NewsTopicGet, (Interface *self, int position, void *out),
           result = record_at(self, SLOT_NewsGet, position, out))

/* ---- news bodies and mail ---- */

static void CALL NewsBodyRequest(Interface *self, int key)
{
    Script script;
    if (!enter(self, SLOT_NewsBodyRequest)) return;
    if (!scripted(self, SLOT_NewsBodyRequest, &script)) {
        lock(&fake.mutex);
        if (self->switched) request_body(self, key);
        unlock(&fake.mutex);
    }
    leave(self);
}

static char *CALL NewsBodyGet(Interface *self, int key)
{
    Script script;
    char *copy = NULL;
    if (!enter(self, SLOT_NewsBodyGet)) return NULL;
    if (!scripted(self, SLOT_NewsBodyGet, &script)) {
        lock(&fake.mutex);
        copy = body_copy(self, key);
        unlock(&fake.mutex);
    }
    leave(self);
    return copy;
}

INT_METHOD(MailLast, (Interface *self, char *path, int *length), result = last_mail(self, path, length))

/* ---- symbols and quotes ---- */

INT_METHOD(SymbolAdd, (Interface *self, const char *symbol), result = select_symbol(self, symbol))
INT_METHOD(SymbolHide, (Interface *self, const char *symbol), result = hide_symbol(self, symbol))
INT_METHOD(SymbolInfoUpdated, (Interface *self, void *records, int limit),
           result = self->switched ? quotes_read(self, records, limit) : 0)

/* ---- connection and pumping ---- */

INT_METHOD(Connect, (Interface *self, const char *server), result = connect_to(self, server))
INT_METHOD(Login, (Interface *self, int login, const char *password), result = log_in(self, login, password))
INT_METHOD(IsConnected, (Interface *self), result = self->connected)

static int CALL PumpingSwitchEx(Interface *self, Callback callback, int flags, void *param)
{
    Script script;
    int result, stops;
    if (!enter(self, SLOT_PumpingSwitchEx)) return RET_ERROR;
    int refused = scripted(self, SLOT_PumpingSwitchEx, &script);
    lock(&fake.mutex);
    result = refused ? script.code : switch_on(self, callback, flags, param);
    stops = result == RET_OK ? 0 : fake.failed_switch_stops;
    if (stops) {
        self->callback = callback;
        self->param = param;
    }
    unlock(&fake.mutex);
    for (int i = 0; i < stops; i++) call_back_here(self, STOP_PUMPING);
    leave(self);
    return result;
}

static int disconnect(Interface *self)
{
    lock(&fake.mutex);
    int pumped = self->switched, native = fake.disconnect_stops_native, stops = pumped ? fake.disconnect_stops : 0;
    stop_pumping(self);
    self->connected = self->logged_in = 0;
    self->disconnects++;
    wake_all(&fake.idle);
    memset(self->selected, 0, sizeof self->selected);
    memset(self->marked, 0, sizeof self->marked);
    self->changed_count = 0;
    COUNT(disconnects, 1);
    if (native && stops) emit_stops(self, stops, 0);
    unlock(&fake.mutex);
    for (int i = 0; i < stops && !native; i++) call_back_here(self, STOP_PUMPING);
    lock(&fake.mutex);
    drain(self);
    unlock(&fake.mutex);
    return RET_OK;
}

static int CALL Disconnect(Interface *self)
{
    Script script;
    if (!enter(self, SLOT_Disconnect)) return RET_ERROR;
    int result = scripted(self, SLOT_Disconnect, &script) ? script.code : disconnect(self);
    leave(self);
    return result;
}

/* ---- lifetime, memory, the rest ---- */

INT_METHOD(AddRef, (Interface *self), result = ++self->references)

static int CALL Release(Interface *self)
{
    int left;
    if (!enter(self, SLOT_Release)) return RET_ERROR;
    lock(&fake.mutex);
    left = --self->references;
    COUNT(releases, 1);
    if (left == 0) {
        if (self->in_progress > 1) COUNT(releases_in_use, 1);
        if (self->switched) COUNT(releases_while_pumping, 1);
        stop_pumping(self);
        drain(self);
        self->connected = 0;
        self->released = 1;
        COUNT(live_interfaces, -1);
    }
    unlock(&fake.mutex);
    leave(self);
    return left;
}

static void CALL MemFree(Interface *self, void *pointer)
{
    if (!enter(self, SLOT_MemFree)) return;
    untrack(pointer);
    leave(self);
}

static const char *CALL ErrorDescription(Interface *self, int code)
{
    const char *text = "Unknown error";
    if (!enter(self, SLOT_ErrorDescription)) return text;
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) text = ERRORS[i].text;
    leave(self);
    return text;
}

static void CALL WorkingDirectory(Interface *self, const char *path)
{
    if (!enter(self, SLOT_WorkingDirectory)) return;
    lock(&fake.mutex);
    snprintf(self->directory, sizeof self->directory, "%s", path);
    unlock(&fake.mutex);
    leave(self);
}

static int trapped(Interface *self, int slot)
{
    if (!enter(self, slot)) return RET_ERROR;
    COUNT(traps, 1);
    NOTE(last_trap, slot);
    leave(self);
    return CALLED_WHILE_PUMPING;
}

#define TRAP(slot, ...) static int CALL trap_##slot(__VA_ARGS__) { return trapped(self, slot); }
#define TRAP_0(slot) TRAP(slot, Interface *self)
#define TRAP_1(slot) TRAP(slot, Interface *self, int a)
#define TRAP_2(slot) TRAP(slot, Interface *self, int a, int b)
#define TRAP_3(slot) TRAP(slot, Interface *self, int a, int b, int c)
#define TRAP_4(slot) TRAP(slot, Interface *self, int a, int b, int c, int d)
#define TRAP_5(slot) TRAP(slot, Interface *self, int a, int b, int c, int d, int e)
TRAPS_0(TRAP_0) TRAPS_1(TRAP_1) TRAPS_2(TRAP_2) TRAPS_3(TRAP_3) TRAPS_4(TRAP_4) TRAPS_5(TRAP_5)

/* Explicit indexes: a compiler's own table would depend on its ABI (overloads, destructors). */
#define METHOD_ENTRY(slot, name, words) [slot] = (const void *)name,
#define TRAP_ENTRY(slot) [slot] = (const void *)trap_##slot,
static const void *const TABLE[SLOT_COUNT] = {
    METHODS(METHOD_ENTRY)
    TRAPS_0(TRAP_ENTRY) TRAPS_1(TRAP_ENTRY) TRAPS_2(TRAP_ENTRY)
    TRAPS_3(TRAP_ENTRY) TRAPS_4(TRAP_ENTRY) TRAPS_5(TRAP_ENTRY)
};

/* ---- the two exports ---- */

EXPORT int MtManVersion(void) { return API_VERSION; }

static Interface *new_interface(void)
{
    Interface *made = fake.interface_count < INTERFACE_LIMIT ? calloc(1, sizeof *made) : NULL;
    if (!made) return NULL;
    made->methods = TABLE;
    made->references = 1;
    made->number = fake.interface_count - fake.first_number;
    fake.interfaces[fake.interface_count++] = made;
    COUNT(creates, 1);
    COUNT(live_interfaces, 1);
    return made;
}

/* Non-zero is success, zero is failure: the opposite of a RET_ code. */
EXPORT int MtManCreate(int version, Interface **out)
{
    int fault;
    play_script();
    lock(&fake.mutex);
    fault = fake.create_fault;
    NOTE(last_create_version, version);
    *out = fault ? NULL : new_interface();
    if (!*out) COUNT(creates_refused, 1);
    unlock(&fake.mutex);
    return *out || fault > 1;
}
