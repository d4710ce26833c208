# Decodes bodies with the sample in Perl: hexadecimal in, one per line; plain JSON out.
use v5.28;
use warnings;
use B ();
use FindBin;
use JSON::PP ();
require "$FindBin::Bin/../../../consumers/samples/subscriber.pl";
my $writer = JSON::PP->new->allow_nonref;

sub plain { # JSON; Perl's own writer takes a float's last digits, and JSON has no NaN and no infinity
    my ($value) = @_;
    return 'null' unless defined $value;
    return '[' . join(',', map { plain($_) } @$value) . ']' if ref $value eq 'ARRAY';
    return '{' . join(',', map { $writer->encode($_) . ':' . plain($value->{$_}) } sort keys %$value) . '}' if ref $value eq 'HASH';
    return $value ? 'true' : 'false' if ref $value; # Data::MessagePack::Boolean
    return $writer->encode($value) unless B::svref_2object(\$value)->FLAGS & B::SVf_NOK;
    return $value != $value ? '{"$float":"NaN"}' : abs $value == 9**9**9 ? sprintf('{"$float":"%sInfinity"}', $value < 0 ? '-' : '')
        : sprintf('%.17g', $value);
}

while (my $line = <STDIN>) { chomp $line; say plain(decode(pack 'H*', $line)) }
