# TCP and UDP encapsulation inside the kernel; perl-base, which every Debian has.
#   serve    opens port 4500 so that the kernel takes ESP out of UDP there (udp(7) UDP_ENCAP), and returns on every TCP
#            connection to port 7 what came; goes into the background once it is ready
#   client   for every line "INDEX SOURCE DESTINATION": sends 64 KiB to port 7 and compares what comes back; says "INDEX ok"
#            or "INDEX why"
use strict;
use warnings;
use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6 IN6ADDR_ANY IPPROTO_IPV6 IPV6_V6ONLY);

use constant { UDP => 17, UDP_ENCAP => 100, UDP_ENCAP_ESPINUDP => 2, ESP_IN_UDP => 4500, SIZE => 65536, PORT => 7, LIMIT => 8 };
my $verb = shift // '';
if ($verb eq 'serve') { serve() }
elsif ($verb eq 'client') { client() }
else { die "serve or client?\n" }

sub serve {
  my @kept;
  for my $family (AF_INET, AF_INET6) {
    socket(my $s, $family, SOCK_DGRAM, 0) or die "socket: $!";
    setsockopt($s, IPPROTO_IPV6, IPV6_V6ONLY, 1) if $family == AF_INET6;
    my $any = $family == AF_INET ? pack_sockaddr_in(ESP_IN_UDP, INADDR_ANY) : pack_sockaddr_in6(ESP_IN_UDP, IN6ADDR_ANY);
    bind($s, $any) or die "bind: $!";
    setsockopt($s, UDP, UDP_ENCAP, pack('i', UDP_ENCAP_ESPINUDP)) or die "UDP_ENCAP: $!";
    push @kept, $s;
  }
  $SIG{CHLD} = 'IGNORE';
  socket(my $listener, AF_INET6, SOCK_STREAM, 0) or die "socket: $!";
  setsockopt($listener, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  bind($listener, pack_sockaddr_in6(PORT, IN6ADDR_ANY)) or die "bind: $!";
  listen($listener, 128) or die "listen: $!";
  exit if fork;
  while (1) {
    accept(my $peer, $listener) or next;
    next if fork;
    alarm LIMIT;
    # All of it before a byte goes back: one direction at a time, both of them whole.
    my $text = take($peer);
    give($peer, $text);
    exit;
  }
}

sub client {
  $| = 1;
  while (my $line = <STDIN>) {
    my ($index, $from, $to) = split ' ', $line;
    next unless defined $to;
    my $why = eval {
      local $SIG{ALRM} = sub { die "no answer in @{[LIMIT]} s\n" };
      alarm LIMIT;
      my $said = talk($from, $to, $index);
      alarm 0;
      $said;
    } // $@;
    alarm 0;
    chomp $why;
    print "$index $why\n";
  }
}

sub talk {
  my ($from, $to, $index) = @_;
  my $family = $to =~ /:/ ? AF_INET6 : AF_INET;
  my $pack = sub {
    my ($address, $port) = @_;
    my $bytes = inet_pton($family, $address);
    $family == AF_INET ? pack_sockaddr_in($port, $bytes) : pack_sockaddr_in6($port, $bytes);
  };
  socket(my $s, $family, SOCK_STREAM, 0) or die "socket: $!\n";
  bind($s, $pack->($from, 0)) or die "bind: $!\n";
  connect($s, $pack->($to, PORT)) or die "connect: $!\n";
  srand($index);
  my $text = pack('N*', map { int(rand(4294967296)) } 1 .. SIZE / 4);
  give($s, $text);
  my $back = take($s);
  return $back eq $text ? 'ok' : length($back) . ' bytes came back, not the same';
}

sub give {
  my ($s, $text) = @_;
  for (my $at = 0; $at < length $text;) {
    my $n = syswrite($s, $text, length($text) - $at, $at) // die "write: $!\n";
    $at += $n;
  }
}

sub take {
  my ($s) = @_;
  my $text = '';
  while (length $text < SIZE) {
    my $n = sysread($s, $text, SIZE - length $text, length $text) // die "read: $!\n";
    last if $n == 0;
  }
  return $text;
}
