# A subscriber in Ruby: apt install ruby-ffi-rzmq ruby-msgpack; ruby subscriber.rb [EVENTS [QUERY [PREFIX ...]]]
require "ffi-rzmq"
require "json"
require "msgpack"
$stdout.sync = true

def decode(packed) = MessagePack.unpack(packed)
def json(packed) = JSON.generate(decode(packed), allow_nan: true)

class Reader
  def initialize(context, query, prefixes)
    @context, @query, @prefixes = context, query, prefixes
    @epoch = @joined = 0 # of the stream; of the snapshot
    @seqs = Hash.new(0) # last number by topic
  end

  def take(topic, packed)
    body = decode(packed)
    if body["epoch"] != @epoch
      @epoch = body["epoch"]
      @seqs.clear
      puts "# epoch #{@epoch}"
    end
    seq, before = body["seq"], @seqs[topic]
    return puts("# known #{topic} #{seq}") if seq <= before # sent twice, or in the snapshot already
    puts "# gap #{topic} #{seq - before - 1}" if seq > before + 1 && (before > 0 || @joined == @epoch)
    @seqs[topic] = seq
    puts "#{topic} #{json(packed)}"
    snapshot if topic.start_with?("heartbeat") && @joined != @epoch # all subscriptions work now
  end

  def snapshot
    socket, rows, cursor = @context.socket(ZMQ::REQ), 0, nil
    socket.setsockopt(ZMQ::RCVTIMEO, 5_000)
    socket.setsockopt(ZMQ::LINGER, 0)
    socket.connect(@query)
    loop do
      socket.send_string(MessagePack.pack({ "op" => "snapshot", "topics" => @prefixes, "cursor" => cursor }))
      return puts("# no snapshot: no answer") if socket.recv_strings(frames = []) < 0 # the next heartbeat asks again
      head = decode(frames.shift)
      return puts("# no snapshot: #{head["error"] || "of another epoch"}") unless head["ok"] && head["epoch"] == @epoch
      frames.each_slice(2) { |topic, body| puts "#{topic.force_encoding("UTF-8")} #{json(body)}" }
      @seqs.update(head["seqs"])
      rows, cursor = rows + frames.size / 2, head["cursor"]
      break puts("# snapshot #{rows}") if cursor.nil?
    end
    @joined = @epoch
  ensure
    socket.close
  end
end

def main(events = "tcp://127.0.0.1:5556", query = "tcp://127.0.0.1:5557", *prefixes)
  context = ZMQ::Context.new
  socket, reader = context.socket(ZMQ::SUB), Reader.new(context, query, prefixes)
  socket.setsockopt(ZMQ::RCVTIMEO, 3_000)
  socket.connect(events)
  [*(prefixes.empty? ? [""] : prefixes), "heartbeat"].each { |prefix| socket.setsockopt(ZMQ::SUBSCRIBE, prefix) } # heartbeat last
  loop do
    next puts("# silence 3 s") if socket.recv_strings(frames = []) < 0
    reader.take(frames[0].force_encoding("UTF-8"), frames[1])
  end
end

main(*ARGV) if $PROGRAM_NAME == __FILE__
