# A subscriber in Perl: apt install libzmq-ffi-perl libdata-messagepack-perl, or cpanm ZMQ::FFI Data::MessagePack
# perl subscriber.pl [EVENTS [QUERY [PREFIX ...]]]
use v5.28;
use warnings;
use Data::MessagePack;
use JSON::PP ();
use ZMQ::FFI;
use ZMQ::FFI::Constants qw(ZMQ_SUB ZMQ_REQ ZMQ_RCVTIMEO);
binmode STDOUT, ':utf8';
STDOUT->autoflush;
my $msgpack = Data::MessagePack->new->utf8;
my $writer = JSON::PP->new->convert_blessed;
my $context = ZMQ::FFI->new;
my ($events, $query, @prefixes) = (@ARGV, ('tcp://127.0.0.1:5556', 'tcp://127.0.0.1:5557')[@ARGV .. 1]);
my ($epoch, $joined, %seqs) = (0, 0); # epoch of the stream, of the snapshot; last number by topic

sub Data::MessagePack::Boolean::TO_JSON { $_[0] ? JSON::PP::true : JSON::PP::false }
sub decode { $msgpack->unpack($_[0]) }
sub text { my ($bytes) = @_; utf8::decode($bytes); $bytes }

sub take {
    my ($topic, $body) = @_;
    if ($body->{epoch} != $epoch) {
        ($epoch, %seqs) = ($body->{epoch});
        say "# epoch $epoch";
    }
    my ($seq, $before) = ($body->{seq}, $seqs{$topic} // 0);
    return say "# known $topic $seq" if $seq <= $before; # sent twice, or in the snapshot already
    say "# gap $topic ", $seq - $before - 1 if $seq > $before + 1 && ($before || $joined == $epoch);
    $seqs{$topic} = $seq;
    say "$topic ", $writer->encode($body);
    snapshot() if $topic =~ /^heartbeat/ && $joined != $epoch; # all subscriptions work now
}

sub snapshot {
    my ($socket, $rows, $cursor) = ($context->socket(ZMQ_REQ), 0);
    $socket->set_linger(0);
    $socket->set(ZMQ_RCVTIMEO, 'int', 5_000);
    $socket->connect($query);
    do {
        $socket->send($msgpack->pack({op => 'snapshot', topics => \@prefixes, cursor => $cursor}));
        my ($packed, @frames) = eval { $socket->recv_multipart } or return say '# no snapshot: no answer'; # asked again
        my $head = decode($packed);
        return say '# no snapshot: ', $head->{error} // 'of another epoch' unless $head->{ok} && $head->{epoch} == $epoch;
        $rows += @frames / 2;
        while (my ($topic, $body) = splice @frames, 0, 2) { say text($topic), ' ', $writer->encode(decode($body)) }
        %seqs = (%seqs, %{$head->{seqs}});
        $cursor = $head->{cursor};
    } while (defined $cursor);
    $joined = $epoch;
    say "# snapshot $rows";
}

sub main {
    my $socket = $context->socket(ZMQ_SUB);
    $socket->set(ZMQ_RCVTIMEO, 'int', 3_000);
    $socket->connect($events);
    $socket->subscribe($_) for @prefixes ? @prefixes : '', 'heartbeat'; # the heartbeat last
    while (1) {
        my ($topic, $body) = eval { $socket->recv_multipart };
        defined $body ? take(text($topic), decode($body)) : say '# silence 3 s';
    }
}

main() unless caller;
