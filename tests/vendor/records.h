/* Sizes of the API's records and the offsets that this library reads or writes; the tests compare both with the
   reference. Records are bytes here: no compiler's idea of a struct can creep in. */
#ifndef FAKE_RECORDS_H
#define FAKE_RECORDS_H

#include <stdint.h>
#include <string.h>

#define RECORD_SIZES(X) \
    X(ConGroup, 13696) X(ConPlugin, 904) X(ConPluginParam, 912) X(ConSymbol, 1936) X(MarginLevel, 88) \
    X(NewsTopic, 640) X(OnlineRecord, 32) X(PluginCfg, 224) X(RequestInfo, 192) X(SymbolInfo, 112) \
    X(TradeRecord, 224) X(UserRecord, 1120)

#define RECORD_FIELDS(X) \
    X(ConPluginParam, plugin, 0) X(ConPluginParam, params, 904) X(ConPluginParam, total, 908) \
    X(ConSymbol, symbol, 0) X(MarginLevel, login, 0) X(NewsTopic, key, 0) \
    X(SymbolInfo, symbol, 0) X(SymbolInfo, digits, 12) X(SymbolInfo, point, 32) X(SymbolInfo, direction, 48) \
    X(SymbolInfo, lasttime, 56) X(SymbolInfo, bid, 64) X(SymbolInfo, ask, 72) X(SymbolInfo, high, 80) \
    X(SymbolInfo, low, 88) X(TradeRecord, order, 0)

#define AS_SIZE(record, size) size_##record = size,
enum { RECORD_SIZES(AS_SIZE) };
#undef AS_SIZE

#define AS_OFFSET(record, field, offset) record##_##field = offset,
enum { RECORD_FIELDS(AS_OFFSET) };
#undef AS_OFFSET

#define SYMBOL_BYTES 12

static inline int32_t int_at(const unsigned char *record, int offset)
{
    int32_t value;
    memcpy(&value, record + offset, sizeof value);
    return value;
}

static inline double double_at(const unsigned char *record, int offset)
{
    double value;
    memcpy(&value, record + offset, sizeof value);
    return value;
}

static inline void put_int(unsigned char *record, int offset, int32_t value)
{
    memcpy(record + offset, &value, sizeof value);
}

static inline void put_double(unsigned char *record, int offset, double value)
{
    memcpy(record + offset, &value, sizeof value);
}

#endif
