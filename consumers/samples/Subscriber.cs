// NOT RUN BY US: the project's machines have no .NET and no NuGet. Its syntax alone is checked (mcs --parse), in CI. What
// it does is what the samples beside it do, which are run against the daemon and the vectors: where in doubt, they are right.
//
// A subscriber in C#: dotnet add package NetMQ; dotnet add package MessagePack
// dotnet run -- [EVENTS [QUERY [PREFIX ...]]]     dotnet run -- --vectors   (bodies in hex in, JSON out)
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using System.Text.Json;
using MessagePack;
using MessagePack.Resolvers;
using NetMQ;
using NetMQ.Sockets;

public static class Subscriber
{
    static readonly MessagePackSerializerOptions Options = MessagePackSerializerOptions.Standard
        .WithResolver(PrimitiveObjectResolver.Instance).WithSecurity(MessagePackSecurity.UntrustedData);
    static readonly Dictionary<string, ulong> Seqs = new Dictionary<string, ulong>(); // last number by topic
    static ulong epoch, joined; // of the stream; of the snapshot
    static string query = "tcp://127.0.0.1:5557";
    static string[] prefixes = new string[0];

    static Dictionary<object, object> Unpack(byte[] body)
    {
        return (Dictionary<object, object>)MessagePackSerializer.Deserialize<object>(body, Options);
    }

    static object Plain(object value) // JSON has no NaN and no infinity
    {
        if (value is Dictionary<object, object>)
            return ((Dictionary<object, object>)value).ToDictionary(each => (string)each.Key, each => Plain(each.Value));
        if (value is object[]) return ((object[])value).Select(Plain).ToArray();
        if (!(value is double) || !(double.IsNaN((double)value) || double.IsInfinity((double)value))) return value;
        var real = (double)value;
        return new Dictionary<string, object> { { "$float", double.IsNaN(real) ? "NaN" : real > 0 ? "Infinity" : "-Infinity" } };
    }

    static string Json(byte[] body) { return JsonSerializer.Serialize(Plain(Unpack(body))); }

    static void Take(string topic, byte[] packed)
    {
        var body = Unpack(packed);
        ulong seq = Convert.ToUInt64(body["seq"]), before;
        if (Convert.ToUInt64(body["epoch"]) != epoch)
        {
            epoch = Convert.ToUInt64(body["epoch"]);
            Seqs.Clear();
            Console.WriteLine("# epoch " + epoch);
        }
        Seqs.TryGetValue(topic, out before);
        if (seq <= before) { Console.WriteLine("# known " + topic + " " + seq); return; } // sent twice, or in the snapshot
        if (seq > before + 1 && (before > 0 || joined == epoch)) Console.WriteLine("# gap " + topic + " " + (seq - before - 1));
        Seqs[topic] = seq;
        Console.WriteLine(topic + " " + Json(packed));
        if (topic.StartsWith("heartbeat") && joined != epoch) Snapshot(); // all subscriptions work now
    }

    static void Snapshot()
    {
        using (var socket = new RequestSocket())
        {
            socket.Options.Linger = TimeSpan.Zero;
            socket.Connect(query);
            object cursor = null;
            var rows = 0;
            do
            {
                var request = new Dictionary<string, object> { { "op", "snapshot" }, { "topics", prefixes }, { "cursor", cursor } };
                socket.SendFrame(MessagePackSerializer.Serialize(request, ContractlessStandardResolver.Options));
                var frames = new NetMQMessage();
                if (!socket.TryReceiveMultipartMessage(TimeSpan.FromSeconds(5), ref frames))
                {
                    Console.WriteLine("# no snapshot: no answer"); // the next heartbeat asks again
                    return;
                }
                var head = Unpack(frames[0].ToByteArray());
                if (!(bool)head["ok"] || Convert.ToUInt64(head["epoch"]) != epoch) { Console.WriteLine("# no snapshot"); return; }
                for (var at = 1; at < frames.FrameCount; at += 2, rows++)
                    Console.WriteLine(frames[at].ConvertToString(Encoding.UTF8) + " " + Json(frames[at + 1].ToByteArray()));
                foreach (var each in (Dictionary<object, object>)head["seqs"]) Seqs[(string)each.Key] = Convert.ToUInt64(each.Value);
                cursor = head["cursor"];
            } while (cursor != null);
            joined = epoch;
            Console.WriteLine("# snapshot " + rows);
        }
    }

    public static void Main(string[] words)
    {
        if (words.Length == 1 && words[0] == "--vectors")
        {
            for (string line; (line = Console.ReadLine()) != null;)
                Console.WriteLine(Json(Enumerable.Range(0, line.Length / 2).Select(at => Convert.ToByte(line.Substring(2 * at, 2), 16)).ToArray()));
            return;
        }
        if (words.Length > 1) query = words[1];
        prefixes = words.Skip(2).ToArray();
        using (var socket = new SubscriberSocket())
        {
            socket.Connect(words.Length > 0 ? words[0] : "tcp://127.0.0.1:5556");
            foreach (var prefix in prefixes.DefaultIfEmpty("")) socket.Subscribe(prefix, Encoding.UTF8);
            socket.Subscribe("heartbeat"); // the last one: when it comes, all work
            while (true)
            {
                var frames = new NetMQMessage();
                if (!socket.TryReceiveMultipartMessage(TimeSpan.FromSeconds(3), ref frames)) Console.WriteLine("# silence 3 s");
                else Take(frames[0].ConvertToString(Encoding.UTF8), frames[1].ToByteArray());
            }
        }
    }
}
