#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
# coverage.pl EXCEPTIONS TREE JSON...: add up what gcov counted, print how much of
# each file was reached, each line that was not, with the reason, and each line with
# a branch that was not taken. Fails if a line has no reason.
use strict;
use warnings;
use JSON::PP;

my ($exceptions, $tree, @json) = @ARGV;
my @files = qw(mm/pkeys.c arch/x86/mm/pkeys.c arch/x86/include/asm/pkeys.h
	arch/x86/include/asm/pkey_map.h include/linux/pkeys.h);
my (%lines, %branches, %why, @unexplained);

open(my $in, '<', $exceptions) or die "$exceptions: $!\n";
while (<$in>) {
	chomp;
	my ($file, $text, $reason) = split /\t+/;
	$why{$file}{$text} = $reason if defined $reason;
}

# Each object has its own copy of an inline function: a line is reached if one copy is.
sub add {
	my ($file, $line, $object) = @_;
	my $number = $line->{line_number};
	my $where = join ':', $object, $line->{function_name} // '', $number;
	my $index = 0;

	$lines{$file}{$number} += $line->{count};
	$branches{$file}{"$where:" . $index++} += $_->{count} for @{$line->{branches}};
}

for (@json) {
	open(my $in, '<', $_) or die "$_: $!\n";
	while (<$in>) {
		my $object = decode_json($_);
		for my $source (@{$object->{files}}) {
			my ($file) = grep { $source->{file} =~ m{(?:^|/)\Q$_\E$} } reverse @files;
			next unless $file;
			add($file, $_, $object->{data_file} =~ /arch/ ? 'arch' : 'mm')
				for @{$source->{lines}};
		}
	}
}

sub percent {
	my ($part, $whole) = @_;
	return sprintf '%5.1f %% of %3d', 100 * $part / $whole, $whole;
}

# text_of(FILE): the lines of the source; the first has index 1.
sub text_of {
	my ($file) = @_;
	open(my $in, '<', "$tree/$file") or die "$tree/$file: $!\n";
	return ('', map { /^\s*(.*?)\s*$/ } <$in>);
}

sub missing {
	my ($file) = @_;
	my @missing = grep { !$lines{$file}{$_} } sort { $a <=> $b } keys %{$lines{$file}};
	return unless @missing;

	print "\n$file\n";
	my @text = text_of($file);
	for (@missing) {
		my $reason = $why{$file}{$text[$_]};
		push @unexplained, "$file:$_: $text[$_]" unless $reason;
		printf "%5d  %s\n       %s\n", $_, $text[$_], $reason // 'NOT EXPLAINED';
	}
	return 1;
}

# one_way(FILE): print the lines with a branch that some copy of the line never took.
sub one_way {
	my ($file) = @_;
	my %ways;
	while (my ($where, $count) = each %{$branches{$file}}) {
		$ways{(split /:/, $where)[2]}++ unless $count;
	}
	return unless %ways;

	print "\n$file\n";
	my @text = text_of($file);
	printf "%5d  %s\n", $_, $text[$_] for sort { $a <=> $b } keys %ways;
	return 1;
}

print "What all tests together reach in the boots with gcov, see scripts/boots.\n\n";
for my $file (grep { $lines{$_} } @files) {
	my ($all, $each) = ($lines{$file}, $branches{$file} // {});
	my $ways = keys %$each;
	printf "%-32s %s lines", $file, percent(scalar(grep { $_ } values %$all), scalar keys %$all);
	printf ", %s branches", percent(scalar(grep { $_ } values %$each), $ways) if $ways;
	print "\n";
}
print "\nLines that are not reached:\n";
grep { missing($_) } grep { $lines{$_} } @files or print "\nnone\n";
print "\nLines that branch, and not each way is taken:\n";
grep { one_way($_) } grep { $branches{$_} } @files or print "\nnone\n";
print STDERR "$_\n" for @unexplained;
exit(@unexplained || !%lines ? 1 : 0);
