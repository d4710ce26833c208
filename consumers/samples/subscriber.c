/* A subscriber in C: apt install libzmq3-dev libmsgpack-dev
   cc -O2 -o subscriber subscriber.c -lzmq -lmsgpackc -lm
   ./subscriber [EVENTS [QUERY [PREFIX ...]]]     ./subscriber --vectors   (bodies in hex in, JSON out) */
#define _GNU_SOURCE
#include "plain_json.h"
#include <search.h>
#include <stdlib.h>
#include <zmq.h>

typedef struct { uint64_t epoch, seq; } number;                 /* last number of a topic, and the epoch it counts in */
typedef struct { char *bytes; size_t size; int more; } frame;  /* bytes end with a NUL; NULL: none came */
static uint64_t epoch, joined;                                  /* of the stream; of the snapshot */
static char **prefixes, *query = "tcp://127.0.0.1:5557", *events = "tcp://127.0.0.1:5556";
static void *context;

static frame receive(void *socket) {
    zmq_msg_t message;
    zmq_msg_init(&message);
    if (zmq_msg_recv(&message, socket, 0) < 0) return (frame){NULL, 0, 0};
    frame got = {calloc(1, zmq_msg_size(&message) + 1), zmq_msg_size(&message), zmq_msg_more(&message)};
    memcpy(got.bytes, zmq_msg_data(&message), got.size);
    zmq_msg_close(&message);
    return got;
}

static number *number_of(const char *topic, size_t size) {
    char *name = strndup(topic, size);
    ENTRY *found = hsearch((ENTRY){name, NULL}, FIND);
    if (found) free(name);
    else found = hsearch((ENTRY){name, calloc(1, sizeof(number))}, ENTER);
    if (!found) exit((fprintf(stderr, "more topics than there is room for\n"), 1));
    if (((number *)found->data)->epoch != epoch) *(number *)found->data = (number){epoch, 0};
    return found->data;
}

static void put(msgpack_packer *to, const char *text) { msgpack_pack_str_with_body(to, text, strlen(text)); }

static void ask(void *socket, msgpack_object cursor) {
    msgpack_sbuffer *out = msgpack_sbuffer_new();
    msgpack_packer *to = msgpack_packer_new(out, msgpack_sbuffer_write);
    size_t count = 0;
    while (prefixes[count]) count++;
    msgpack_pack_map(to, 3);
    put(to, "op"), put(to, "snapshot"), put(to, "cursor"), msgpack_pack_object(to, cursor), put(to, "topics");
    msgpack_pack_array(to, count);
    for (size_t i = 0; i < count; i++) put(to, prefixes[i]);
    zmq_send(socket, out->data, out->size, 0);
    msgpack_packer_free(to), msgpack_sbuffer_free(out);
}

static long page(void *socket, msgpack_unpacked *into) { /* print a page, keep its head; -1: no answer, or a refusal */
    long rows = 0;
    frame head = receive(socket), topic, body;
    if (!head.bytes || msgpack_unpack_next(into, head.bytes, head.size, NULL) < 0) return -1;
    if (!get(into->data, "ok").via.boolean || get(into->data, "epoch").via.u64 != epoch) return -1;
    for (int more = head.more; more; more = body.more, rows++, free(topic.bytes), free(body.bytes)) {
        msgpack_unpacked row;
        topic = receive(socket), body = receive(socket);
        msgpack_unpacked_init(&row);
        msgpack_unpack_next(&row, body.bytes, body.size, NULL);
        printf("%s ", topic.bytes), print_json(row.data), puts("");
        msgpack_unpacked_destroy(&row);
    }
    msgpack_object_map seqs = get(into->data, "seqs").via.map;
    for (uint32_t i = 0; i < seqs.size; i++)
        number_of(seqs.ptr[i].key.via.str.ptr, seqs.ptr[i].key.via.str.size)->seq = seqs.ptr[i].val.via.u64;
    return rows; /* the head's few bytes stay: its cursor is needed for the next page */
}

static void snapshot(void) {
    void *socket = zmq_socket(context, ZMQ_REQ);
    long rows = 0, of_page;
    msgpack_unpacked head;
    msgpack_unpacked_init(&head);
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &(int){5000}, sizeof(int));
    zmq_setsockopt(socket, ZMQ_LINGER, &(int){0}, sizeof(int));
    zmq_connect(socket, query);
    do ask(socket, get(head.data, "cursor")), rows += of_page = page(socket, &head);
    while (of_page >= 0 && get(head.data, "cursor").type != MSGPACK_OBJECT_NIL);
    if (of_page >= 0) joined = epoch, printf("# snapshot %ld\n", rows);
    else puts("# no snapshot"); /* the next heartbeat asks again */
    msgpack_unpacked_destroy(&head), zmq_close(socket);
}

static void take(const char *topic, msgpack_object body) {
    uint64_t now = get(body, "epoch").via.u64, seq = get(body, "seq").via.u64;
    if (now != epoch) printf("# epoch %" PRIu64 "\n", epoch = now);
    number *last = number_of(topic, strlen(topic));
    if (seq <= last->seq) { /* sent twice, or in the snapshot already */
        printf("# known %s %" PRIu64 "\n", topic, seq);
        return;
    }
    if (seq > last->seq + 1 && (last->seq || joined == epoch)) printf("# gap %s %" PRIu64 "\n", topic, seq - last->seq - 1);
    last->seq = seq;
    printf("%s ", topic), print_json(body), puts("");
    if (!strncmp(topic, "heartbeat", 9) && joined != epoch) snapshot(); /* all subscriptions work now */
}

int main(int count, char **words) {
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    if (count == 2 && !strcmp(words[1], "--vectors")) {
        char *line = NULL;
        for (size_t room = 0, size; (ssize_t)(size = getline(&line, &room, stdin)) > 0;) {
            msgpack_unpacked body;
            for (size_t i = 0; i < size / 2; i++) line[i] = (char)strtol((char[]){line[2 * i], line[2 * i + 1], 0}, NULL, 16);
            msgpack_unpacked_init(&body);
            msgpack_unpack_next(&body, line, size / 2, NULL);
            print_json(body.data), puts("");
            msgpack_unpacked_destroy(&body);
        }
        return 0;
    }
    if (count > 1) events = words[1];
    if (count > 2) query = words[2];
    prefixes = words + (count > 3 ? 3 : count);
    hcreate(200000);
    context = zmq_ctx_new();
    void *socket = zmq_socket(context, ZMQ_SUB);
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &(int){3000}, sizeof(int));
    zmq_connect(socket, events);
    for (char **each = prefixes; *each; each++) zmq_setsockopt(socket, ZMQ_SUBSCRIBE, *each, strlen(*each));
    if (!*prefixes) zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0);
    zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "heartbeat", 9); /* the last one: when it comes, all work */
    for (;;) {
        frame topic = receive(socket), body = topic.more ? receive(socket) : (frame){NULL, 0, 0};
        msgpack_unpacked map;
        msgpack_unpacked_init(&map);
        if (!topic.bytes) puts("# silence 3 s");
        else if (msgpack_unpack_next(&map, body.bytes, body.size, NULL) > 0) take(topic.bytes, map.data);
        msgpack_unpacked_destroy(&map), free(topic.bytes), free(body.bytes);
    }
}
