"""Recording: the job is launched, its meters sampled and its steps read, into ledger rows."""
