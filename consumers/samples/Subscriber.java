// A subscriber in Java 17: apt install libjeromq-java libmsgpack-java, or Maven org.zeromq:jeromq, org.msgpack:msgpack-core
// java -cp /usr/share/java/jeromq.jar:/usr/share/java/msgpack-core.jar Subscriber.java [EVENTS [QUERY [PREFIX ...]]]
// the same with --vectors: bodies in hex in, JSON out
import java.util.*;
import java.util.stream.Collectors;
import org.msgpack.core.MessagePack;
import org.msgpack.value.*;
import org.zeromq.ZMQ;

public class Subscriber {
    static ZMQ.Context context = ZMQ.context(1);
    static String query = "tcp://127.0.0.1:5557";
    static List<String> prefixes = List.of();
    static long epoch, joined; // of the stream; of the snapshot
    static Map<String, Long> seqs = new HashMap<>(); // last number by topic

    static Value unpack(byte[] body) throws Exception { return MessagePack.newDefaultUnpacker(body).unpackValue(); }

    static Value get(Value map, String key) { return map.asMapValue().map().getOrDefault(ValueFactory.newString(key), ValueFactory.newNil()); }

    static long number(Value map, String key) { return get(map, key).asIntegerValue().asLong(); }

    static String json(Value value) { // JSON has no NaN and no infinity
        if (value.isMapValue()) return value.asMapValue().entrySet().stream()
            .map(each -> json(each.getKey()) + ":" + json(each.getValue())).collect(Collectors.joining(",", "{", "}"));
        if (value.isArrayValue()) return value.asArrayValue().list().stream().map(Subscriber::json).collect(Collectors.joining(",", "[", "]"));
        if (!value.isFloatValue()) return value.toJson();
        double real = value.asFloatValue().toDouble();
        return Double.isFinite(real) ? Double.toString(real) : "{\"$float\":\"" + real + "\"}";
    }

    static void say(Object... words) { System.out.println(Arrays.stream(words).map(String::valueOf).collect(Collectors.joining(" "))); }

    static List<byte[]> receive(ZMQ.Socket socket) { // a whole message; empty when none comes in time
        List<byte[]> frames = new ArrayList<>();
        for (byte[] frame = socket.recv(); frame != null; frame = socket.hasReceiveMore() ? socket.recv() : null) frames.add(frame);
        return frames;
    }

    static void take(String topic, Value body) throws Exception {
        long seq = number(body, "seq");
        if (number(body, "epoch") != epoch) {
            epoch = number(body, "epoch");
            seqs.clear();
            say("# epoch", epoch);
        }
        long before = seqs.getOrDefault(topic, 0L);
        if (seq <= before) { // sent twice, or in the snapshot already
            say("# known", topic, seq);
            return;
        }
        if (seq > before + 1 && (before > 0 || joined == epoch)) say("# gap", topic, seq - before - 1);
        seqs.put(topic, seq);
        say(topic, json(body));
        if (topic.startsWith("heartbeat") && joined != epoch) snapshot(); // all subscriptions work now
    }

    static void snapshot() throws Exception {
        ZMQ.Socket socket = context.socket(ZMQ.REQ);
        socket.setReceiveTimeOut(5000);
        socket.setLinger(0);
        socket.connect(query);
        try {
            int rows = 0;
            for (Value cursor = ValueFactory.newNil(); ; ) {
                var topics = ValueFactory.newArray(prefixes.stream().map(ValueFactory::newString).toArray(Value[]::new));
                var packer = MessagePack.newDefaultBufferPacker();
                packer.packValue(ValueFactory.newMap(ValueFactory.newString("op"), ValueFactory.newString("snapshot"),
                    ValueFactory.newString("topics"), topics, ValueFactory.newString("cursor"), cursor));
                socket.send(packer.toByteArray());
                var frames = receive(socket);
                var head = frames.isEmpty() ? null : unpack(frames.get(0)); // the next heartbeat asks again
                if (head == null || !get(head, "ok").asBooleanValue().getBoolean() || number(head, "epoch") != epoch) {
                    say("# no snapshot", head);
                    return;
                }
                for (int at = 1; at < frames.size(); at += 2, rows++) say(new String(frames.get(at), "UTF-8"), json(unpack(frames.get(at + 1))));
                get(head, "seqs").asMapValue().map().forEach((topic, seq) -> seqs.put(topic.toString(), seq.asIntegerValue().asLong()));
                cursor = get(head, "cursor");
                if (cursor.isNilValue()) break;
            }
            joined = epoch;
            say("# snapshot", rows);
        } finally {
            socket.close();
        }
    }

    public static void main(String[] words) throws Exception {
        System.setOut(new java.io.PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true, "UTF-8"));
        if (words.length == 1 && words[0].equals("--vectors")) {
            for (var lines = new Scanner(System.in); lines.hasNextLine(); ) say(json(unpack(HexFormat.of().parseHex(lines.nextLine().trim()))));
            return;
        }
        if (words.length > 1) query = words[1];
        if (words.length > 2) prefixes = List.of(words).subList(2, words.length);
        ZMQ.Socket socket = context.socket(ZMQ.SUB);
        socket.setReceiveTimeOut(3000);
        socket.connect(words.length > 0 ? words[0] : "tcp://127.0.0.1:5556");
        for (String prefix : prefixes.isEmpty() ? List.of("") : prefixes) socket.subscribe(prefix.getBytes("UTF-8"));
        socket.subscribe("heartbeat".getBytes()); // the last one: when it comes, all work
        while (true) {
            var frames = receive(socket);
            if (frames.size() < 2) say("# silence 3 s");
            else take(new String(frames.get(0), "UTF-8"), unpack(frames.get(1)));
        }
    }
}
