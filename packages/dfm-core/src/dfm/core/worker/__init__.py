"""The process that a batch job starts: it connects out, runs what it is given, and goes when nobody needs it."""
