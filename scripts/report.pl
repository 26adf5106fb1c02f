#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
# report.pl TREE KNOWN-FAILURES RESULTS...: what failed, the table, the closing
# line. TAP is read by perl's TAP::Parser, KTAP of KUnit by the kernel's kunit.py.
# The file that TIMES names has the times, a number of seconds and a text in a line.
use strict;
use warnings;
use File::Basename;
use File::Spec::Functions qw(abs2rel rel2abs);
use JSON::PP;
use TAP::Parser;

my ($tree, $known_file, @boots) = @ARGV;
my (@rows, @failures, @notes, @skips, %ran, @known);

# A skipped test whose reason matches needs this. '' is for a test that nobody can run here,
# because this variant of the test, or this version of the kernel, has no such thing.
my @remedies = (
	[qr/vm\.pkey_reuse_mapped=|SA_SIGINFO|mseal|writes frames|32-bit or x32 program/ => ''],
	[qr/fault injection|CONFIG_FAIL/ => 'a kernel with fault injection: make check-all'],
	[qr/(?:kernel|processor|machine) without protection keys|protection keys are enabled|no keys/ =>
		'a kernel or processor without protection keys: make check'],
	[qr/x32|cannot build/ => 'a compiler for this ABI: install gcc-multilib'],
	[qr/\bKVM\b/ => 'a kernel with KVM: make check-all'],
);

sub slurp {
	my ($file) = @_;
	open(my $in, '<', $file) or return undef;
	local $/;
	return scalar <$in>;
}

for (split /\n/, slurp($known_file) // '') {
	push @known, { test => $1, boots => $2, passed => $3, why => $4 }
		if /^(\w+)\s+(\S+)\s+(\d+)\s+(.*)/;
}

# log_of(BOOT, TEST): the path of what a test printed, from the current directory.
sub log_of {
	my ($boot, $test) = @_;
	my ($log) = grep { -e } map { "$boot/$_" } "$test.tap", "$test.ktap", 'console.log';
	return defined $log ? abs2rel($log) : '-';
}

sub row {
	my ($boot, $test, $passed, $failed, $skipped) = @_;
	push @rows, [basename($boot), $test, $passed, $failed, $skipped, log_of($boot, $test)];
}

sub failed {
	my ($boot, $test, $what) = @_;
	push @failures, basename($boot) . ": $test: $what; log: " . log_of($boot, $test);
}

# unexplained(STATUS): words for a status that a program's TAP does not explain.
sub unexplained {
	my ($status) = @_;
	return undef if $status == 0 || $status == 4;
	return 'ran into its time limit' if $status == 137;
	return 'died of signal ' . ($status - 128) if $status > 128;
	return "ended with status $status";
}

# test_id(PROGRAM, DESCRIPTION): the same for each ABI of a program.
sub test_id {
	my ($test, $description) = @_;
	$test =~ s/_(?:64|32|x32)$//;
	$description =~ s/^[\s-]+//;
	return "$test: $description";
}

# skipped_tests(): lines about the skipped tests that no other boot of this report ran and
# that a person can do something about: how many, by what they need.
sub skipped_tests {
	my (%count, %seen);

	for (@skips) {
		my ($test, $description, $reason) = @$_;
		my $id = test_id($test, $description);
		next if $ran{$id} || $seen{$id}++;
		my ($remedy) = map { $_->[1] } grep { $reason =~ $_->[0] } @remedies;
		($remedy) = $reason =~ /^needs? (.*)/ if !defined $remedy;
		$count{$remedy}++ if $remedy;
	}
	return map { ($count{$_} == 1 ? '1 test did not run: it needs' : "$count{$_} tests did not run: they need") . " $_" }
		sort keys %count;
}

# durations(): lines with the time of each part, the longest first.
sub durations {
	my @times = map { /^(\d+) (.*)/ ? [$1, $2] : () }
		split /\n/, slurp($ENV{TIMES} // '') // '';
	return map { sprintf "%3d:%02d  %s", int($_->[0] / 60), $_->[0] % 60, $_->[1] }
		sort { $b->[0] <=> $a->[0] } grep { $_->[0] } @times;
}

sub program {
	my ($boot, $test) = @_;
	my $tap = slurp("$boot/$test.tap");
	my $status = slurp("$boot/$test.status");
	my $again = slurp("$boot/$test.again.status");
	my ($passed, $failed, $skipped) = (0, 0, 0);
	my @what;

	# A passing retry counts; note it.
	if (defined $again && $again == 0) {
		push @notes, basename($boot) . ": $test failed, and passed when it was run again";
		$tap = slurp("$boot/$test.again.tap");
		$status = $again;
	}

	if (!defined $tap || !defined $status) {
		failed($boot, $test, 'left no result');
		return row($boot, $test, 0, 1, 0);
	}
	chomp $status;

	# The kernel's protection_keys speaks no TAP before 7.3. Its status is that of its
	# first process, which is not the one that gets to the end.
	if ($tap =~ /^(?:ok|not ok|1\.\.)/m) {
		my $parser = TAP::Parser->new({ tap => $tap });
		while (my $result = $parser->next) {
			next unless $result->is_test;
			if ($result->has_skip) {
				$skipped++;
				push @skips, [$test, $result->description, $result->explanation];
			} elsif ($result->is_ok) {
				$passed++;
				$ran{test_id($test, $result->description)} = 1;
			} else {
				$failed++;
				push @what, $result->description || $result->number;
			}
		}
		if ($parser->skip_all) {
			$skipped++;
			push @skips, [$test, '', $parser->skip_all];
		}
		push @what, "bad TAP: $_" for $parser->parse_errors;
	} elsif ($status == 4) {
		$skipped++;
	} elsif ($status == 0) {
		$passed++;
	}
	push @what, 'did not get to its end'
		if $test =~ /^protection_keys/ && $tap !~ /^(?:ok|not ok|1\.\.|done \(all tests OK\)|running PKEY tests for unsupported)/m;
	my $unexplained = unexplained($status);
	push @what, $unexplained if $unexplained && (!$failed || $status > 1);

	my ($base) = (slurp("$boot/boot") // '') =~ /^BASE=(\S+)/;
	my $where = ($base // '') . '/' . basename($boot);
	my ($known) = grep { $_->{test} eq $test && $where =~ /^($_->{boots})$/ } @known;
	if (@what && !$failed && $known && $passed >= $known->{passed}) {
		return row($boot, $test, $passed, 0, $skipped + 1);
	}
	$failed = @what if @what > $failed;
	failed($boot, $test, $_) for @what;
	row($boot, $test, $passed, $failed, $skipped);
}

sub kunit_leaves {
	my ($group, $boot, $counts) = @_;
	kunit_leaves($_, $boot, $counts) for @{$group->{sub_groups} // []};
	for my $case (@{$group->{test_cases} // []}) {
		$counts->{$case->{status}}++;
		failed($boot, "$group->{name} (KUnit)", $case->{name})
			if $case->{status} !~ /^(?:PASS|SKIP)$/;
	}
}

sub kunit {
	my ($boot, $file) = @_;
	my $json = "$file.json";
	my ($test) = basename($file) =~ /^(.*)\.ktap$/;
	my %counts;

	# kunit.py goes elsewhere before it opens the file.
	$_ = rel2abs($_) for $file, $json;
	my $bad = system("$tree/tools/testing/kunit/kunit.py parse --json='$json' '$file' >'$file.log' 2>&1");
	my $text = slurp($json);
	if (!$text) {
		failed($boot, $test, "kunit.py cannot read $file");
		return row($boot, $test, 0, 1, 0);
	}
	kunit_leaves(decode_json($text), $boot, \%counts);
	my ($passed, $skipped) = map { $counts{$_} // 0 } qw(PASS SKIP);
	my $failed = -$passed - $skipped;
	$failed += $_ for values %counts;
	# The status of kunit.py tells of a plan that was not kept; its JSON does not.
	if (!$failed && ($bad || !%counts)) {
		failed($boot, $test, "kunit.py reports an error, see $file.log");
		$failed = 1;
	}
	row($boot, $test, $passed, $failed, $skipped);
}

for my $boot (@boots) {
	if (my $reason = slurp("$boot/left-out")) {
		chomp $reason;
		push @notes, basename($boot) . " is left out: $reason";
		row($boot, 'left out', 0, 0, 1);
	}
	push @notes, split /\n/, slurp("$boot/notes") // '';
	if (my $failure = slurp("$boot/failure")) {
		chomp $failure;
		failed($boot, 'boot', $failure);
		row($boot, 'boot', 0, 1, 0);
	}
	if (!grep { -e "$boot/$_" } qw(planned failure left-out)) {
		failed($boot, 'boot', 'left no result');
		row($boot, 'boot', 0, 1, 0);
	}
	kunit($boot, $_) for sort glob "$boot/*.ktap";
	for (split /\n/, slurp("$boot/planned") // '') {
		my ($test) = split;
		if ($test !~ /^kunit_/) {
			program($boot, $test);
		} elsif (! -e "$boot/$test.ktap") {
			failed($boot, $test, 'left no result');
			row($boot, $test, 0, 1, 0);
		}
	}
}

my ($passed, $failed, $skipped) = (0, 0, 0);
my @times = durations();
print "\n";
print "time, min:s\n", map { "$_\n" } @times if @times;
print "\n" if @times;
print "note: $_\n" for skipped_tests();
print "note: $_\n" for @notes;
print "FAILED: $_\n" for @failures;
printf "\n%-16s %-28s %7s %7s %7s  %s\n", qw(boot test passed failed skipped log);
for (@rows) {
	printf "%-16s %-28s %7d %7d %7d  %s\n", @$_;
	$passed += $_->[2];
	$failed += $_->[3];
	$skipped += $_->[4];
}
print "\n$passed passed, $failed failed, $skipped skipped\n";
exit($failed || !$passed ? 1 : 0);
