/* A subscriber in C, for 64 bit: apt install libzmq3-dev libmsgpack-dev
   cc -O2 -o subscriber subscriber.c -lzmq -lmsgpackc && ./subscriber [EVENTS [QUERY [PREFIX]]] */
#include "frames.h"
#include <search.h>

typedef struct { unsigned long epoch, seq; } number; /* last number of a topic, and the epoch it counts in */
static unsigned long epoch, joined;                  /* of the stream; of the snapshot */
static const char *events = "tcp://127.0.0.1:5556", *query = "tcp://127.0.0.1:5557", *prefix = "";
static void *context;

static number *number_of(char *topic) { /* keeps topic, or frees it */
    ENTRY *found = hsearch((ENTRY){topic, NULL}, FIND);
    if (found) free(topic);
    else if (!(found = hsearch((ENTRY){topic, calloc(1, sizeof(number))}, ENTER))) abort(); /* more than hcreate got */
    if (((number *)found->data)->epoch != epoch) *(number *)found->data = (number){epoch, 0};
    return found->data;
}

static void ask(void *socket, msgpack_object cursor) {
    msgpack_sbuffer *out = msgpack_sbuffer_new();
    msgpack_packer *to = msgpack_packer_new(out, msgpack_sbuffer_write);
    msgpack_pack_map(to, 3), put(to, "op"), put(to, "snapshot"), put(to, "cursor"), msgpack_pack_object(to, cursor);
    put(to, "topics"), msgpack_pack_array(to, 1), put(to, prefix);
    zmq_send(socket, out->data, out->size, 0);
    msgpack_packer_free(to), msgpack_sbuffer_free(out);
}

static long page(void *socket, msgpack_object *head) { /* print a page; its rows, or -1: no answer, or a refusal */
    long rows = 0;
    msgpack_unpacked kept, row; /* kept stays in memory: the cursor lies in it */
    frame packed = receive(socket), topic, body;
    *head = decode(packed, &kept);
    if (!get(*head, "ok").via.boolean || get(*head, "epoch").via.u64 != epoch) return -1;
    for (int more = packed.more; more; more = body.more, rows++, free(topic.bytes), free(body.bytes)) {
        topic = receive(socket), body = receive(socket);
        show(topic.bytes, decode(body, &row));
        msgpack_unpacked_destroy(&row);
    }
    msgpack_object_map seqs = get(*head, "seqs").via.map;
    for (msgpack_object_kv *each = seqs.ptr; each < seqs.ptr + seqs.size; each++)
        number_of(strndup(each->key.via.str.ptr, each->key.via.str.size))->seq = each->val.via.u64;
    return rows;
}

static void snapshot(void) {
    void *socket = connected(context, ZMQ_REQ, query, 5000);
    msgpack_object head = {.type = MSGPACK_OBJECT_NIL};
    long rows = 0, of_page;
    do ask(socket, get(head, "cursor")), rows += of_page = page(socket, &head);
    while (of_page >= 0 && get(head, "cursor").type != MSGPACK_OBJECT_NIL);
    if (of_page >= 0) joined = epoch, printf("# snapshot %ld\n", rows);
    else puts("# no snapshot"); /* the next heartbeat asks again */
    zmq_close(socket);
}

static void handle(const char *topic, msgpack_object body) {
    unsigned long now = get(body, "epoch").via.u64, seq = get(body, "seq").via.u64;
    if (now != epoch) printf("# epoch %lu\n", epoch = now);
    number *last = number_of(strdup(topic));
    if (seq <= last->seq) return (void)printf("# known %s %lu\n", topic, seq); /* sent twice, or in the snapshot already */
    if (seq > last->seq + 1 && (last->seq || joined == epoch)) printf("# gap %s %lu\n", topic, seq - last->seq - 1);
    last->seq = seq;
    show(topic, body);
    if (!strncmp(topic, "heartbeat", 9) && joined != epoch) snapshot(); /* all subscriptions are active */
}

int main(int count, char **words) {
    if (count > 1) events = words[1];
    if (count > 2) query = words[2];
    if (count > 3) prefix = words[3];
    setvbuf(stdout, NULL, _IOLBF, 1 << 16), hcreate(200000);
    void *socket = connected(context = zmq_ctx_new(), ZMQ_SUB, events, 3000);
    zmq_setsockopt(socket, ZMQ_SUBSCRIBE, prefix, strlen(prefix));
    zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "heartbeat", 9); /* the last one: when it arrives, all are active */
    for (msgpack_unpacked body;; msgpack_unpacked_destroy(&body)) {
        frame topic = receive(socket), packed = topic.more ? receive(socket) : topic;
        if (topic.bytes) handle(topic.bytes, decode(packed, &body)), free(topic.bytes), free(packed.bytes);
        else puts("# silence 3 s"), msgpack_unpacked_init(&body);
    }
}
