/* What a session knows and does: its tables, its symbols, its link. All with the lock held. */
#include <stdio.h>
#include <string.h>

#include "fake.h"

#define GARBAGE 0xCC /* what a failed call leaves in the caller's buffer: code that reads it is wrong */

int record_size(int slot)
{
    switch (slot) {
    case SLOT_SymbolsGetAll: return size_ConSymbol;
    case SLOT_GroupsGet: return size_ConGroup;
    case SLOT_UsersGet: return size_UserRecord;
    case SLOT_OnlineGet: return size_OnlineRecord;
    case SLOT_TradesGet: return size_TradeRecord;
    case SLOT_MarginsGet: return size_MarginLevel;
    case SLOT_RequestsGet: return size_RequestInfo;
    case SLOT_PluginsGet: return size_ConPlugin;
    case SLOT_NewsGet: return size_NewsTopic;
    default: return 0;
    }
}

/* The pumped tables are local to a session: without one there is nothing to read. Symbols may be read in any state. */
const Table *table_of(const Interface *self, int slot)
{
    static const Table nothing;
    return slot == SLOT_SymbolsGetAll || self->switched ? &fake.tables[slot] : &nothing;
}

/* Copies the record of a table whose int at `offset` is `key`, or leaves garbage as a failed call does. */
int find_record(Interface *self, int slot, int offset, int key, void *out)
{
    const Table *table = table_of(self, slot);
    int size = record_size(slot);
    for (int i = 0; i < table->total; i++) {
        const unsigned char *record = table->records + (size_t)i * (size_t)size;
        if (int_at(record, offset) != key) continue;
        memcpy(out, record, (size_t)size);
        return RET_OK;
    }
    memset(out, GARBAGE, (size_t)size);
    return RET_ERROR;
}

int record_at(Interface *self, int slot, int position, void *out)
{
    const Table *table = table_of(self, slot);
    size_t size = (size_t)record_size(slot);
    if (position < 0 || position >= table->total) return RET_INVALID_DATA;
    memcpy(out, table->records + (size_t)position * size, size);
    return RET_OK;
}

/* The pointer member is 32 bits wide in both DLLs: on 64 bit half of the address is lost, as in the real one. */
int plugin_at(Interface *self, int position, unsigned char *out)
{
    int result = record_at(self, SLOT_PluginsGet, position, out + ConPluginParam_plugin);
    if (result != RET_OK || position >= PLUGIN_LIMIT) return result;
    put_int(out, ConPluginParam_params, (int32_t)(intptr_t)fake.plugin_params[position]);
    put_int(out, ConPluginParam_total, fake.plugin_totals[position]);
    return result;
}

static int place_of_body(int key)
{
    for (int i = 0; i < fake.body_count; i++)
        if (fake.bodies[i].key == key) return i;
    return -1;
}

void request_body(Interface *self, int key)
{
    int place = place_of_body(key);
    COUNT(news_requests, 1);
    if (place < 0) return;
    self->requested[place] = 1;
    emit_doorbell(UPDATE_NEWS_BODY);
}

char *body_copy(Interface *self, int key)
{
    int place = self->switched ? place_of_body(key) : -1;
    if (place < 0 || !(self->requested[place] || self->flags & FLAG_SENDFULLNEWS)) return NULL;
    const char *text = fake.bodies[place].text;
    char *copy = track(strlen(text) + 1);
    if (copy) strcpy(copy, text);
    return copy;
}

/* `length` is the room in `path` when called, the size of the mail's file afterwards. */
int last_mail(Interface *self, char *path, int *length)
{
    int room = *length;
    if (!self->switched || !fake.mail_path[0]) {
        if (room > 0) path[0] = 0;
        *length = 0;
        return RET_OK_NONE;
    }
    if (room <= (int)strlen(fake.mail_path)) return RET_INVALID_DATA;
    strcpy(path, fake.mail_path);
    *length = fake.mail_length;
    return RET_OK;
}

static int known_symbol(const char *symbol)
{
    const Table *table = &fake.tables[SLOT_SymbolsGetAll];
    for (int i = 0; i < table->total; i++)
        if (strncmp((char *)table->records + (size_t)i * size_ConSymbol + ConSymbol_symbol, symbol, SYMBOL_BYTES) == 0)
            return 1;
    return symbol_named(symbol) >= 0;
}

int select_symbol(Interface *self, const char *symbol)
{
    unsigned char blank[size_SymbolInfo] = {0};
    int place = symbol_named(symbol);
    if (place < 0 && known_symbol(symbol)) { /* its price comes later */
        for (int i = 0; i < SYMBOL_BYTES && symbol[i]; i++) blank[SymbolInfo_symbol + i] = (unsigned char)symbol[i];
        place = quote_put(blank);
    }
    if (place < 0) {
        COUNT(symbols_refused, 1);
        return RET_ERROR;
    }
    self->selected[place] = 1;
    COUNT(symbols_added, 1);
    return RET_OK;
}

int hide_symbol(Interface *self, const char *symbol)
{
    int place = symbol_named(symbol);
    if (place < 0 || !self->selected[place]) return RET_ERROR;
    self->selected[place] = 0;
    COUNT(symbols_hidden, 1);
    return RET_OK;
}

int connect_to(Interface *self, const char *server)
{
    const char *accepted = fake.accepted_server;
    snprintf(self->server, sizeof self->server, "%s", server);
    if (accepted[0] && strcmp(accepted, server) != 0) return NETWORK_FAILURE;
    self->connected = 1;
    COUNT(connects_ok, 1);
    return RET_OK;
}

int log_in(Interface *self, int login, const char *password)
{
    NOTE(last_login, login);
    if (!self->connected) return RET_NO_CONNECT;
    if (!fake.any_login && (login != fake.accepted_login || strcmp(password, fake.accepted_password) != 0)) {
        COUNT(logins_refused, 1);
        return RET_BAD_ACCOUNT_INFO;
    }
    self->logged_in = 1;
    log_line(self, RET_OK, "login OK");
    COUNT(logins_ok, 1);
    return RET_OK;
}

int switch_on(Interface *self, Callback callback, int flags, void *param)
{
    if (!self->connected) return RET_NO_CONNECT;
    if (!self->logged_in || !callback || self->switched || fake.pumping_count == PUMPING_LIMIT) return RET_ERROR;
    self->callback = callback;
    self->param = param;
    self->flags = flags;
    self->switched = ++fake.sessions;
    memset(self->requested, 0, sizeof self->requested);
    fake.pumping[fake.pumping_count++] = fake.last_switched = self;
    NOTE(last_flags, flags);
    COUNT(switches_ok, 1);
    if (fake.start_delay_ns >= 0) emit_start(self, fake.start_delay_ns);
    return RET_OK;
}

void stop_pumping(Interface *self)
{
    int kept = 0;
    for (int i = 0; i < fake.pumping_count; i++)
        if (fake.pumping[i] != self) fake.pumping[kept++] = fake.pumping[i];
    fake.pumping_count = kept;
    self->switched = 0;
    wake_all(&fake.ring_room);
}
