// A subscriber in Java 17 with Maven org.zeromq:jeromq 0.4 or later (older ones speak ZMTP 2) and org.msgpack:msgpack-core
// java -cp jeromq.jar:msgpack-core.jar Subscriber.java [EVENTS [QUERY [PREFIX ...]]]
import java.util.*;
import org.msgpack.core.MessagePack;
import org.msgpack.value.*;
import org.zeromq.*;

public class Subscriber {
    static ZContext context = new ZContext();
    static String query = "tcp://127.0.0.1:5557";
    static List<String> prefixes = List.of();
    static long epoch, joined; // of the stream; of the snapshot
    static Map<String, Long> seqs = new HashMap<>(); // last number by topic

    static Value decode(byte[] body) throws Exception { return MessagePack.newDefaultUnpacker(body).unpackValue(); }

    static Value get(Value map, String key) { return map.asMapValue().map().get(ValueFactory.newString(key)); }

    static long number(Value map, String key) { return get(map, key).asIntegerValue().asLong(); }

    static void take(String topic, Value body) throws Exception {
        long seq = number(body, "seq");
        if (number(body, "epoch") != epoch) {
            System.out.println("# epoch " + (epoch = number(body, "epoch")));
            seqs.clear();
        }
        long before = seqs.getOrDefault(topic, 0L);
        boolean isGap = seq > before + 1 && (before > 0 || joined == epoch);
        if (isGap) System.out.println("# gap " + topic + " " + (seq - before - 1));
        System.out.println(seq > before ? topic + " " + body.toJson() : "# known " + topic + " " + seq); // twice, or in the snapshot
        seqs.put(topic, Math.max(seq, before));
        if (topic.startsWith("heartbeat") && joined != epoch) snapshot(); // all subscriptions work now
    }

    static void snapshot() throws Exception {
        var socket = context.createSocket(ZMQ.REQ);
        socket.setReceiveTimeOut(5000);
        socket.connect(query);
        int rows = 0;
        for (Value cursor = ValueFactory.newNil(); joined != epoch; ) {
            var packer = MessagePack.newDefaultBufferPacker();
            packer.packMapHeader(3).packString("op").packString("snapshot").packString("cursor").packValue(cursor);
            packer.packString("topics").packArrayHeader(prefixes.size());
            for (String prefix : prefixes) packer.packString(prefix);
            socket.send(packer.toByteArray());
            var frames = ZMsg.recvMsg(socket);
            Value head = frames == null ? null : decode(frames.pop().getData());
            if (head == null || !get(head, "ok").asBooleanValue().getBoolean() || number(head, "epoch") != epoch) {
                System.out.println("# no snapshot: " + head); // the next heartbeat asks again
                break;
            }
            for (; !frames.isEmpty(); rows++) System.out.println(frames.popString() + " " + decode(frames.pop().getData()).toJson());
            get(head, "seqs").asMapValue().map().forEach((topic, seq) -> seqs.put(topic.toString(), seq.asIntegerValue().asLong()));
            cursor = get(head, "cursor");
            joined = cursor.isNilValue() ? epoch : 0;
        }
        if (joined == epoch) System.out.println("# snapshot " + rows);
        context.destroySocket(socket);
    }

    public static void main(String[] words) throws Exception {
        System.setOut(new java.io.PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true, "UTF-8"));
        if (words.length > 1) query = words[1];
        if (words.length > 2) prefixes = List.of(words).subList(2, words.length);
        var socket = context.createSocket(ZMQ.SUB);
        socket.setReceiveTimeOut(3000);
        socket.connect(words.length > 0 ? words[0] : "tcp://127.0.0.1:5556");
        for (String prefix : prefixes.isEmpty() ? List.of("") : prefixes) socket.subscribe(prefix.getBytes("UTF-8"));
        socket.subscribe("heartbeat".getBytes()); // the last one: when it comes, all work
        while (true) {
            var frames = ZMsg.recvMsg(socket);
            if (frames == null) System.out.println("# silence 3 s");
            else take(frames.popString(), decode(frames.pop().getData()));
        }
    }
}
