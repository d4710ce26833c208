// NOT RUN BY US: the project's machines have no .NET and no NuGet. Its syntax alone is checked (mcs --parse), in CI. What
// it does is what the samples beside it do, which are run against the daemon and the vectors: where in doubt, they are right.
//
// A subscriber in C#: dotnet add package NetMQ; dotnet add package MessagePack; dotnet run -- [EVENTS [QUERY [PREFIX ...]]]
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using MessagePack;
using MessagePack.Resolvers;
using NetMQ;
using NetMQ.Sockets;

public static class Subscriber {
    static readonly MessagePackSerializerOptions Options = MessagePackSerializerOptions.Standard
        .WithResolver(PrimitiveObjectResolver.Instance).WithSecurity(MessagePackSecurity.UntrustedData);
    static readonly Dictionary<string, ulong> Seqs = new Dictionary<string, ulong>(); // last number by topic
    static ulong epoch, joined; // of the stream; of the snapshot

    static Dictionary<object, object> Decode(byte[] body) => (Dictionary<object, object>)MessagePackSerializer.Deserialize<object>(body, Options);

    static void Say(string topic, byte[] body) => Console.WriteLine(topic + " " + MessagePackSerializer.ConvertToJson(body));

    static bool Take(string topic, byte[] packed) { // whether a snapshot is to be asked for now
        var body = Decode(packed);
        ulong seq = Convert.ToUInt64(body["seq"]), now = Convert.ToUInt64(body["epoch"]), before;
        if (now != epoch) {
            Console.WriteLine("# epoch " + (epoch = now));
            Seqs.Clear();
        }
        Seqs.TryGetValue(topic, out before);
        if (seq > before + 1 && (before > 0 || joined == epoch)) Console.WriteLine("# gap " + topic + " " + (seq - before - 1));
        if (seq > before) Say(topic, packed);
        else Console.WriteLine("# known " + topic + " " + seq); // sent twice, or in the snapshot already
        Seqs[topic] = Math.Max(seq, before);
        return seq > before && topic.StartsWith("heartbeat") && joined != epoch; // then all subscriptions work
    }

    static void Snapshot(string query, string[] prefixes) {
        using (var socket = new RequestSocket()) {
            socket.Options.Linger = TimeSpan.Zero;
            socket.Connect(query);
            object cursor = null;
            for (var rows = 0; joined != epoch;) {
                var request = new Dictionary<string, object> { { "op", "snapshot" }, { "topics", prefixes }, { "cursor", cursor } };
                socket.SendFrame(MessagePackSerializer.Serialize(request, ContractlessStandardResolver.Options));
                var frames = new NetMQMessage();
                var isAnswered = socket.TryReceiveMultipartMessage(TimeSpan.FromSeconds(5), ref frames);
                var head = isAnswered ? Decode(frames[0].ToByteArray()) : null;
                if (head == null || !(bool)head["ok"] || Convert.ToUInt64(head["epoch"]) != epoch) {
                    Console.WriteLine("# no snapshot"); // the next heartbeat asks again
                    return;
                }
                for (var at = 1; at < frames.FrameCount; at += 2, rows++)
                    Say(frames[at].ConvertToString(Encoding.UTF8), frames[at + 1].ToByteArray());
                foreach (var each in (Dictionary<object, object>)head["seqs"]) Seqs[(string)each.Key] = Convert.ToUInt64(each.Value);
                cursor = head["cursor"];
                if (cursor == null) Console.WriteLine("# snapshot " + rows);
                joined = cursor == null ? epoch : 0;
            }
        }
    }

    public static void Main(string[] words) {
        var prefixes = words.Skip(2).ToArray();
        using (var socket = new SubscriberSocket()) {
            socket.Connect(words.Length > 0 ? words[0] : "tcp://127.0.0.1:5556");
            foreach (var prefix in prefixes.DefaultIfEmpty("")) socket.Subscribe(prefix, Encoding.UTF8);
            socket.Subscribe("heartbeat"); // the last one: when it comes, all work
            while (true) {
                var frames = new NetMQMessage();
                if (!socket.TryReceiveMultipartMessage(TimeSpan.FromSeconds(3), ref frames)) Console.WriteLine("# silence 3 s");
                else if (Take(frames[0].ConvertToString(Encoding.UTF8), frames[1].ToByteArray()))
                    Snapshot(words.Length > 1 ? words[1] : "tcp://127.0.0.1:5557", prefixes);
            }
        }
    }
}
