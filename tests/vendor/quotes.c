/* Prices: the latest record of each symbol with a queue of change marks per interface, as the API keeps them, or,
   in every-tick mode, a ring of whole records in which nothing collapses. */
#include <string.h>
#include <time.h>

#include "fake.h"

#define WALK_POINTS 200 /* up so many points, then down again */
#define SPREAD_POINTS 12
#define DIGITS_LIMIT 8

static const double SCALES[DIGITS_LIMIT + 1] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8};

int symbol_named(const char *symbol)
{
    for (int i = 0; i < fake.quote_count; i++)
        if (strncmp((char *)fake.quotes[i] + SymbolInfo_symbol, symbol, SYMBOL_BYTES) == 0) return i;
    return -1;
}

int quote_put(const unsigned char *record)
{
    int symbol = symbol_named((const char *)record + SymbolInfo_symbol);
    if (symbol < 0) {
        if (fake.quote_count == SYMBOL_LIMIT) return -1;
        symbol = fake.quote_count++;
    }
    memcpy(fake.quotes[symbol], record, size_SymbolInfo);
    return symbol;
}

static int selected_by_any(int symbol)
{
    for (int i = 0; i < fake.pumping_count; i++)
        if (fake.pumping[i]->selected[symbol]) return 1;
    return 0;
}

static void ring_put(const unsigned char *record, int64_t deadline_ns, long long generation)
{
    while (fake.ring_used == fake.ring_limit && now_ns() < deadline_ns && fake.generation == generation)
        wait_until(&fake.ring_room, &fake.mutex, deadline_ns);
    if (fake.ring_used >= fake.ring_limit) {
        COUNT(ticks_dropped, 1);
        return;
    }
    memcpy(fake.ring + (size_t)((fake.ring_head + fake.ring_used++) % fake.ring_limit) * size_SymbolInfo, record,
           size_SymbolInfo);
}

void quote_mark(int symbol, int64_t deadline_ns, long long generation)
{
    COUNT(quotes_set, 1);
    if (!selected_by_any(symbol)) {
        COUNT(quotes_unselected, 1);
        return;
    }
    if (fake.ring_limit) {
        ring_put(fake.quotes[symbol], deadline_ns, generation);
        return;
    }
    for (int i = 0; i < fake.pumping_count; i++) {
        Interface *to = fake.pumping[i];
        if (!to->selected[symbol] || to->marked[symbol]) continue;
        to->marked[symbol] = 1;
        to->changed[(to->changed_head + to->changed_count++) % SYMBOL_LIMIT] = symbol;
    }
}

static int ring_read(unsigned char *out, int limit)
{
    int count = 0;
    for (; count < limit && fake.ring_used; count++, fake.ring_used--) {
        memcpy(out + (size_t)count * size_SymbolInfo, fake.ring + (size_t)fake.ring_head * size_SymbolInfo,
               size_SymbolInfo);
        fake.ring_head = (fake.ring_head + 1) % fake.ring_limit;
    }
    if (count) wake_all(&fake.ring_room);
    return count;
}

static int marks_read(Interface *self, unsigned char *out, int limit)
{
    int count = 0;
    while (count < limit && self->changed_count) {
        int symbol = self->changed[self->changed_head];
        self->changed_head = (self->changed_head + 1) % SYMBOL_LIMIT;
        self->changed_count--;
        self->marked[symbol] = 0;
        if (!self->selected[symbol]) continue; /* hidden since */
        memcpy(out + (size_t)count++ * size_SymbolInfo, fake.quotes[symbol], size_SymbolInfo);
    }
    return count;
}

int quotes_read(Interface *self, unsigned char *out, int limit)
{
    int count = fake.ring_limit ? ring_read(out, limit) : marks_read(self, out, limit);
    COUNT(quotes_read, count);
    return count;
}

void quote_step(int symbol, long long step)
{
    unsigned char *record = fake.quotes[symbol];
    int digits = int_at(record, SymbolInfo_digits);
    double scale = SCALES[digits < 0 ? 0 : digits > DIGITS_LIMIT ? DIGITS_LIMIT : digits];
    int up = step % (2 * WALK_POINTS) < WALK_POINTS;
    /* whole points divided once: exactly the double that the price's decimal text stands for */
    double points = (double)(long long)(double_at(record, SymbolInfo_bid) * scale + 0.5) + (up ? 1 : -1);
    double bid = points / scale;
    put_double(record, SymbolInfo_bid, bid);
    put_double(record, SymbolInfo_ask, (points + SPREAD_POINTS) / scale);
    if (bid > double_at(record, SymbolInfo_high)) put_double(record, SymbolInfo_high, bid);
    if (bid < double_at(record, SymbolInfo_low)) put_double(record, SymbolInfo_low, bid);
    put_int(record, SymbolInfo_direction, up ? 0 : 1);
    put_int(record, SymbolInfo_lasttime, (int32_t)time(NULL) + fake.server_utc_offset_s);
}

int64_t quote_deadline(void) { return now_ns() + fake.ring_wait_ns; }
