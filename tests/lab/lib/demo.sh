demo() { die "not yet"; }
