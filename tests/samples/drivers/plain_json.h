/* msgpack as plain JSON, which has no NaN and no infinity. Used by decode.c. */
#include <inttypes.h>
#include <math.h>
#include <msgpack.h>
#include <stdio.h>
#include <string.h>

static void print_text(const char *at, size_t size) {
    for (putchar('"'); size--; at++) {
        if ((unsigned char)*at < 0x20) printf("\\u%04x", *at);
        else printf(*at == '"' || *at == '\\' ? "\\%c" : "%c", *at);
    }
    putchar('"');
}

static void print_json(msgpack_object o) {
    switch (o.type) {
    case MSGPACK_OBJECT_BOOLEAN: fputs(o.via.boolean ? "true" : "false", stdout); return;
    case MSGPACK_OBJECT_POSITIVE_INTEGER: printf("%" PRIu64, o.via.u64); return;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: printf("%" PRId64, o.via.i64); return;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        if (isfinite(o.via.f64)) printf("%.17g", o.via.f64);
        else printf("{\"$float\":\"%s\"}", isnan(o.via.f64) ? "NaN" : o.via.f64 > 0 ? "Infinity" : "-Infinity");
        return;
    case MSGPACK_OBJECT_STR: print_text(o.via.str.ptr, o.via.str.size); return;
    case MSGPACK_OBJECT_ARRAY:
        putchar('[');
        for (uint32_t i = 0; i < o.via.array.size; i++) {
            if (i) putchar(',');
            print_json(o.via.array.ptr[i]);
        }
        putchar(']');
        return;
    case MSGPACK_OBJECT_MAP:
        putchar('{');
        for (uint32_t i = 0; i < o.via.map.size; i++) {
            if (i) putchar(',');
            print_json(o.via.map.ptr[i].key);
            putchar(':');
            print_json(o.via.map.ptr[i].val);
        }
        putchar('}');
        return;
    default: fputs("null", stdout);
    }
}
