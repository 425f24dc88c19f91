# Somebody on a server who may do nothing but read what everybody may read: looks everywhere, over and over, for the texts
# that are given one a line. Says which line it has seen and where, never the text itself.
use strict;
use warnings;

my $END  = '/tmp/the-spy-goes-home';
my $MOST = 1 << 16;                    # no secret is in a file as large as this
chomp(my @texts = <STDIN>);
my %said;
$| = 1;

sub look {
    my ($where) = @_;
    open(my $file, '<', $where) or return;
    read($file, my $content, $MOST) or return;
    for my $line (0 .. $#texts) {
        next if index($content, $texts[$line]) < 0 || $said{"$line $where"}++;
        print "line $line in $where\n";
    }
}

sub walk {
    my ($where) = @_;
    opendir(my $dir, $where) or return;
    for my $name (readdir $dir) {
        next if $name eq '.' || $name eq '..';
        my @stat = lstat("$where/$name") or next;
        if    (-d _) { walk("$where/$name") }
        elsif (-f _ && $stat[7] < $MOST) { look("$where/$name") }
    }
}

my $rounds = 0;
until (-e $END) {
    walk($_) for '/opt', '/run', '/tmp', '/var/tmp', '/dev/shm', '/etc/systemd', '/root', '/home';
    look($_) for glob '/proc/[0-9]*/cmdline';
    look($_) for glob '/proc/[0-9]*/environ';
    $rounds++;
    print "looking\n" if $rounds == 1;
}
print "rounds $rounds\n";
